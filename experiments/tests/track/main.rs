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
#[cfg(feature = "mlflow")]
mod http;
#[cfg(feature = "mlflow")]
mod mlflow;
#[cfg(feature = "mlflow")]
mod outages;
mod python;
mod tensorboard;

use serde_json::{Map, Value};
use std::fs::{read, read_to_string};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

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

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
        Self(folder)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sokd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sokd"));
        command.current_dir(self.0.path()).args(arguments).args(["--threads", "1"]);
        for name in ["SOKD_TRACK", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_TOKEN"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn train(&self, run: &str, track: &str) -> Command {
        self.sokd(&["train", "recipe.toml", "--no-studies", "--run-dir", run, "--track", track])
    }

    /// Stops a run by TERM once its log says so.
    #[cfg(unix)]
    fn stopped(&self, mut command: Command, run: &str, says: &str) {
        let mut child = command.spawn().unwrap();
        wait(&mut child, &self.join(run).join("train.log"), says);
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        done(&child.wait_with_output().unwrap(), 75);
    }

    fn metrics(&self, run: &str) -> Vec<Map<String, Value>> {
        let text = read_to_string(self.join(run).join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn log(&self, run: &str) -> String {
        read_to_string(self.join(run).join("train.log")).unwrap()
    }

    fn weights(&self, run: &str) -> Vec<u8> {
        read(self.join(run).join("student/model.safetensors")).unwrap()
    }
}

/// Waits until a file of the run says so; the run may not end before.
fn wait(child: &mut Child, file: &Path, says: &str) {
    let begun = Instant::now();
    while !read_to_string(file).is_ok_and(|text| text.contains(says)) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before {} said {says}", file.display());
        assert!(begun.elapsed() < Duration::from_mins(2), "{} never said {says}", file.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn done(output: &Output, code: i32) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error
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
    let folder = Folder::new();
    let error = done(&folder.train("run", "tensorbord").output().unwrap(), 2);
    assert!(error.contains("tensorboard") && error.contains("none"), "{error}");
    let mut command = folder.sokd(&["train", "recipe.toml", "--run-dir", "run"]);
    let error = done(&command.env("SOKD_TRACK", "mlfow").output().unwrap(), 2);
    assert!(error.contains("no tracker is called `mlfow`"), "{error}");
    let error = done(&folder.sokd(&["track", "nowhere", "--to", "tensorboard"]).output().unwrap(), 66);
    assert!(error.contains("nowhere"), "{error}");
    assert!(!folder.join("run").exists() && !folder.join("nowhere").exists());
}
