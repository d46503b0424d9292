//! Sweeps: planned, run in slots and by a real SLURM, killed, told to stop, shut out; the end is the same to the bit.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that fails, waits by the clock, and says why it skips"
)]

#[cfg(target_os = "linux")]
mod cluster;
#[path = "../folder/mod.rs"]
mod folder;
mod hq;
#[cfg(target_os = "linux")]
mod killed;
mod local;
mod plan;
#[cfg(target_os = "linux")]
mod slurm;

use folder::Folder;
use serde_json::{Map, Value};
use std::fs::{read, read_to_string};
use std::path::{Path, PathBuf};
use std::process::Child;

/// A student of seconds.
const STUDENT: &str = r#"
extends = "teacher.toml"
epochs = 4
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 4, 4] }, weights = "recipe:teacher.toml" }
"#;

/// Its teacher.
const TEACHER: &str = r#"
epochs = 3
batch = 8
data = { type = "shapes", train = 96, test = 20 }
student = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 4, 4] } }

[objective.task]
loss = { type = "cross-entropy" }

[phase.student]
moves = ["student", "adapter"]
optim = { type = "sgd", momentum = 0.9 }
lr = { base = 0.02 }
"#;

/// Four cells, of which two have the same teacher.
const TABLE: &str = r#"
title = "Two ways to learn"
note = "For tests."
base = "student.toml"
seeds = [0, 1]

[rows]
alone = { extends = "sokd:cross-entropy" }
KD = { extends = "sokd:kd" }
"#;

/// A folder with a table and its recipes.
fn with_table() -> Folder {
    Folder::with(&[("student.toml", STUDENT), ("teacher.toml", TEACHER), ("table.toml", TABLE)])
}

/// The states of a sweep's cells, in order.
fn states(folder: &Folder, sweep: &str) -> Vec<String> {
    let said = folder.says(&["sweep", "status", sweep, "--json"], 0);
    let overview: Value = serde_json::from_str(&said[..=said.rfind('}').unwrap()]).unwrap();
    let standing = overview["standing"].as_array().unwrap();
    standing.iter().map(|cell| cell["state"].as_str().unwrap().to_owned()).collect()
}

/// All that a table's runs leave, times aside: weights, predictions, metrics, and what reports read.
fn left(folder: &Folder) -> Vec<(PathBuf, Vec<u8>)> {
    let mut left = Vec::new();
    for recipe in ["table", "teacher"] {
        for run in globbed(&folder.join("runs").join(recipe)) {
            let name = run.strip_prefix(folder.path()).unwrap().to_owned();
            for file in ["student/model.safetensors", "predictions.json", "config.toml"] {
                left.push((name.join(file), read(run.join(file)).unwrap()));
            }
            for file in ["metrics.jsonl", "summary.json"] {
                left.push((name.join(file), timeless(&run.join(file)).into_bytes()));
            }
        }
    }
    left.sort();
    left
}

/// The run directories below a recipe's.
fn globbed(recipe: &Path) -> Vec<PathBuf> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    };
    folders(recipe).iter().flat_map(|digest| folders(digest)).collect()
}

/// A file of JSON without what differs between two runs of the same.
fn timeless(path: &Path) -> String {
    fn strip(value: &mut Value) {
        if let Value::Object(object) = value {
            for name in ["seconds", "processor-seconds", "environment"] {
                object.remove(name);
            }
            object.values_mut().for_each(strip);
        } else if let Value::Array(list) = value {
            list.iter_mut().for_each(strip);
        }
    }
    let text = read_to_string(path).unwrap();
    let lines: Vec<&str> = if path.ends_with("summary.json") { vec![&text] } else { text.lines().collect() };
    let line = |line: &&str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        strip(&mut value);
        value.to_string()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The processes of a sweep, by the folder in their command lines.
#[cfg(target_os = "linux")]
fn processes(sweep: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_string_lossy().parse().ok());
    let ours = |id: &u32| {
        let line = read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("sweep\0run") && line.contains(&*sweep.to_string_lossy())
    };
    entries.filter(ours).collect()
}

/// One JSON object a line.
fn lines(path: &Path) -> Vec<Map<String, Value>> {
    read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Ends a child that a failed test leaves.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
