//! Who is told of a run: TensorBoard and MLflow themselves, where Python has them, and servers that fail.
//!
//! `SOKD_PYTHON` names the Python that has the packages; otherwise it is `python3`.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that fails, waits by the clock, and says why it skips"
)]

#[cfg(feature = "mlflow")]
mod fake;
#[path = "../folder/mod.rs"]
mod folder;
#[cfg(feature = "mlflow")]
mod http;
#[cfg(feature = "mlflow")]
mod mlflow;
#[cfg(feature = "mlflow")]
mod outages;
mod python;
mod tensorboard;

use folder::{Folder, done, heard, signal};
use serde_json::{Map, Value};
use std::fs::{read, read_to_string};
use std::path::Path;
use std::process::Command;

/// A student of seconds, and passes of a search between its epochs.
const RECIPE: &str = r#"
extends = "sokd:tst"
epochs = 4
batch = 8
data = { type = "shapes", train = 192, test = 20 }
student = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 4, 4] } }
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 4, 4] }, weights = "drawn" }

[phase.student]
moves = ["student"]
optim = { type = "sgd", momentum = 0.9 }
lr = { base = 0.02 }

[phase.search]
interlude = { before = [1], passes = 2 }
"#;

fn train(folder: &Folder, run: &str, track: &str) -> Command {
    folder.train(run, &["--no-studies", "--track", track])
}

/// Stops a run by TERM once its log says so.
#[cfg(unix)]
fn stop(mut command: Command, run: &Path, says: &str) {
    let mut child = command.spawn().unwrap();
    heard(&mut child, &run.join("train.log"), says);
    assert!(signal(child.id(), "TERM"));
    done(&child.wait_with_output().unwrap(), 75);
}

fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let text = read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn log(run: &Path) -> String {
    read_to_string(run.join("train.log")).unwrap()
}

fn weights(run: &Path) -> Vec<u8> {
    read(run.join("student/model.safetensors")).unwrap()
}

/// The points of a name in `metrics.jsonl`, by steps and passes finished.
fn points(metrics: &[Map<String, Value>], name: &str) -> Vec<(u64, f64)> {
    let mut passes = 0;
    let mut point = |line: &Map<String, Value>| {
        passes = line.get("passes").and_then(Value::as_u64).unwrap_or(passes);
        Some((line["step"].as_u64()? + passes, line.get(name)?.as_f64()?))
    };
    metrics.iter().filter_map(&mut point).collect()
}

#[test]
fn what_nobody_is_called_is_no_tracker() {
    let folder = Folder::of(RECIPE);
    let error = done(&train(&folder, "run", "tensorbord").output().unwrap(), 2);
    assert!(error.contains("tensorboard") && error.contains("none"), "{error}");
    let mut command = folder.sokd(&["train", "recipe.toml", "--run-dir", "run"]);
    let error = done(&command.env("SOKD_TRACK", "mlfow").output().unwrap(), 2);
    assert!(error.contains("no tracker is called `mlfow`"), "{error}");
    let error = done(&folder.sokd(&["track", "nowhere", "--to", "tensorboard"]).output().unwrap(), 66);
    assert!(error.contains("nowhere"), "{error}");
    assert!(!folder.join("run").exists() && !folder.join("nowhere").exists());
}
