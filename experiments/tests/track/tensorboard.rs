//! What TensorBoard itself reads of our event files.

use crate::folder::{Folder, done};
use crate::{RECIPE, metrics, points, python, stop, train};
use serde_json::Value;
use std::ffi::OsString;
use std::fs::{File, copy, create_dir, read_dir};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The event files of a run, in order.
fn events(run: &Path) -> Vec<PathBuf> {
    let named =
        |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("events.out.tfevents.");
    let mut files: Vec<_> = read_dir(run).unwrap().map(|entry| entry.unwrap().path()).filter(named).collect();
    files.sort();
    files
}

/// What a script says of a folder.
fn told(python: &OsString, script: &str, arguments: &[&str]) -> Value {
    let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/track")).join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// TensorBoard reads files in Python, and where it can by a faster program.
const READERS: [&str; 2] = ["--load_fast=false", "--load_fast=auto"];

/// Points as a server has them, without their times.
fn shown_points(points: &Value) -> Value {
    points
        .as_array()
        .unwrap()
        .iter()
        .map(|point| Value::from(vec![point[1].clone(), point[2].clone()]))
        .collect()
}

/// Points as `f32` has them.
fn rounded(points: Vec<(u64, f64)>) -> Value {
    points.into_iter().map(|(at, value)| Value::from(vec![at as f64, f64::from(value as f32)])).collect()
}

fn same(found: &Value, expected: &Value) -> bool {
    let numbers = |value: &Value| -> Vec<f64> {
        let pairs = value.as_array().unwrap().iter();
        pairs.flat_map(|pair| pair.as_array().unwrap().iter().map(|one| one.as_f64().unwrap())).collect()
    };
    numbers(found) == numbers(expected)
}

fn copied(folder: &Folder, from: &str, to: &str) {
    create_dir(folder.join(to)).unwrap();
    for entry in read_dir(folder.join(from)).unwrap() {
        let path = entry.unwrap().path();
        let target = folder.join(to).join(path.file_name().unwrap());
        if path.is_file() {
            copy(&path, target).unwrap();
        } else {
            copied(folder, path.to_str().unwrap(), target.to_str().unwrap());
        }
    }
}

/// A run that is killed behind its last checkpoint, and goes on: every point is there once, as `metrics.jsonl` has it.
#[test]
#[cfg(unix)]
fn tensorboard_reads_what_a_broken_run_wrote() {
    let Some(python) = python::with(&["tensorboard"]) else { return };
    let folder = Folder::of(RECIPE);
    let run = || train(&folder, "run", "tensorboard");
    stop(run(), &folder.join("run"), "epoch 1 of 4");
    // The checkpoint of now is put back later, as if no other had been written before the run was killed.
    copied(&folder, "run/checkpoints", "kept");
    stop(run(), &folder.join("run"), "epoch 3 of 4");
    std::fs::remove_dir_all(folder.join("run/checkpoints")).unwrap();
    copied(&folder, "kept", "run/checkpoints");
    // A machine that died has torn the file.
    let files = events(&folder.join("run"));
    assert_eq!(files.len(), 2);
    let torn = File::options().write(true).open(&files[1]).unwrap();
    torn.set_len(torn.metadata().unwrap().len() - 7).unwrap();
    let before = told(&python, "events.py", &[folder.join("run").to_str().unwrap()]);
    assert_eq!(before["scalars"]["test/top1"].as_array().unwrap().len(), 2, "up to the tear: {before}");
    assert!(before.get("ended").is_none());
    done(&run().output().unwrap(), 0);
    assert_eq!(events(&folder.join("run")).len(), 3);

    let found = told(&python, "events.py", &[folder.join("run").to_str().unwrap()]);
    let metrics = metrics(&folder.join("run"));
    let names = metrics.iter().flat_map(|line| line.iter().filter(|(_, value)| value.is_number()));
    let mut names: Vec<&str> = names.map(|(name, _)| name.as_str()).filter(|name| *name != "step").collect();
    names.sort_unstable();
    names.dedup();
    let tags: Vec<&str> = found["scalars"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut tags = tags.clone();
    tags.sort_unstable();
    assert_eq!(tags, names);
    for name in &names {
        let expected = rounded(points(&metrics, name));
        assert!(same(&found["scalars"][name], &expected), "{name}: {} {expected}", found["scalars"][name]);
    }
    assert_eq!(found["scalars"]["test/top1"].as_array().unwrap().len(), 4);
    assert_eq!(found["scalars"]["train/search/loss"].as_array().unwrap().len(), 2);
    let text = found["texts"]["recipe"][0].as_str().unwrap();
    assert!(text.contains("```toml") && text.contains("epochs = 4"), "{text}");
    assert_eq!(found["images"]["images/test"][0][2], "89504e470d0a1a0a", "a PNG");
    let settings = &found["settings"];
    assert_eq!(settings["epochs"], 4.0);
    assert_eq!(settings["phase.student.optim.type"], "sgd");
    assert_eq!(settings["phase.student.optim.nesterov"], false);
    assert_eq!(settings["run"], "recipe.toml, seed 0");
    assert_eq!(found["ended"], 1);

    // Its two servers take points back each in a way of its own.
    for reader in READERS {
        let shown = told(&python, "board.py", &[folder.join("run").to_str().unwrap(), reader]);
        for name in ["test/top1", "train/search/loss"] {
            let points = rounded(points(&metrics, name));
            assert!(same(&shown_points(&shown["scalars"]["."][name]), &points), "{reader} {name}: {shown}");
        }
    }

    // Runs of another age have no event files; they are written later, and the same again.
    for file in events(&folder.join("run")) {
        std::fs::remove_file(file).unwrap();
    }
    for _ in 0..2 {
        done(&folder.sokd(&["track", "run", "--to", "tensorboard"]).output().unwrap(), 0);
        assert_eq!(events(&folder.join("run")).len(), 1);
        assert_eq!(
            told(&python, "events.py", &[folder.join("run").to_str().unwrap()])["scalars"],
            found["scalars"]
        );
    }
}

/// Two runs of a folder, as the pages of TensorBoard's server have them, by both of its readers.
#[test]
fn the_board_shows_runs_beside_each_other() {
    let Some(python) = python::with(&["tensorboard"]) else { return };
    let folder = Folder::of(RECIPE);
    done(&train(&folder, "runs/one", "tensorboard").output().unwrap(), 0);
    let mut command = train(&folder, "runs/two", "tensorboard");
    done(
        &command
            .args(["phase.student.lr.base=0.01", "objective.task.weight=2.0", "ema.decay=0.9"])
            .output()
            .unwrap(),
        0,
    );
    for reader in READERS {
        let found = told(&python, "board.py", &[folder.join("runs").to_str().unwrap(), reader]);
        for run in ["one", "two"] {
            let metrics = metrics(&folder.join(&format!("runs/{run}")));
            for name in ["test/top1", "train/search/loss", "train/student/loss"] {
                let shown = shown_points(&found["scalars"][run][name]);
                assert!(same(&shown, &rounded(points(&metrics, name))), "{reader} {run} {name}: {shown}");
            }
            let text = found["texts"][run][0]["text"].as_str().unwrap();
            assert!(text.contains("<code") && text.contains("epochs = 4"), "{text}");
            assert!(found["images"][run]["images/test"].is_object(), "{}", found["images"]);
        }
        let infos = found["experiment"]["hparamInfos"].as_array().unwrap();
        let info = |name: &str| infos.iter().find(|info| info["name"] == name).unwrap();
        assert_eq!(info("phase.student.lr.base")["differs"], true, "{infos:?}");
        assert_eq!(info("epochs")["type"], "DATA_TYPE_FLOAT64");
        assert_eq!(info("ema.decay")["type"], "DATA_TYPE_FLOAT64", "only one of them has it");
        let groups = found["sessions"]["sessionGroups"].as_array().unwrap();
        assert_eq!(groups.len(), 2, "{groups:?}");
        for group in groups {
            let session = &group["sessions"][0];
            assert_eq!(session["status"], "STATUS_SUCCESS");
            assert!(group["hparams"]["phase.student.lr.base"].is_number(), "{group}");
        }
        let metrics = found["experiment"]["metricInfos"].to_string();
        assert!(metrics.contains("test/top1"), "{metrics}");
    }
}
