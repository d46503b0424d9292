//! letKD from a recipe to a student that needs neither its teacher nor what was learned of it.

#![allow(clippy::unwrap_used, reason = "a test that fails")]

mod folder;

use folder::{Folder, done, on_one_line};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const RECIPE: &str = r#"
extends = "sokd:letkd-2"
epochs = 2
batch = 20
data = { type = "shapes", train = 100, test = 40 }
teacher = { model = { type = "cifar-resnet", depth = 14, widths = [8, 8, 12, 24] }, weights = "drawn" }

[student]
model = { type = "cifar-resnet", depth = 8, widths = [8, 8, 12, 16] }

[student.graft.penultimate]
templates = 20

[student.graft.intermediate]
templates.per-class = 3

[objective.penultimate.loss]
clusters = 20

[objective.intermediate.loss]
parts = 3

[phase.student]
moves = ["student"]
optim = { type = "sgd", momentum = 0.9 }
lr = { base = 0.02 }
"#;

/// What the program says: on the standard output, and on the standard error.
fn said_by(mut command: Command) -> [String; 2] {
    let out = command.output().unwrap();
    done(&out, 0);
    [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
}

fn train(folder: &Folder, run: &str, more: &[&str]) -> [String; 2] {
    said_by(folder.train(run, &[&["--no-studies"], more].concat()))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_student_leaves_with_its_layers_and_without_its_teacher() {
    let folder = Folder::of(RECIPE);
    let [_, said] = train(&folder, "run", &[]);
    assert!(said.contains("before the first step: the teacher's maps"), "{said}");
    let summary = json(&folder.join("run/summary.json"));

    // Both layers are counted: 2 · 16 · (20 + 30) weights and 2 · (20 + 30) of norms, 2 · 2 scales.
    let model = "{ type = \"cifar-resnet\", depth = 8, widths = [8, 8, 12, 16] }";
    let data = "{ type = \"shapes\", train = 100, test = 40 }";
    let eval = ["eval", model, "--weights", "drawn", "--data", data, "--json"];
    let [bare, _] = said_by(folder.sokd(&eval));
    let bare: Value = serde_json::from_str(&bare).unwrap();
    let count = |of: &Value| of["parameters"].as_u64().unwrap();
    assert_eq!(count(&summary["student"]) - count(&bare), 2 * 16 * 50 + 2 * 50 + 4);
    let macs = |of: &Value| of["macs"].as_u64().unwrap();
    assert_eq!(macs(&summary["student"]) - macs(&bare), 64 * 2 * 16 * 50);

    // The weights alone, somewhere else.
    let elsewhere = Folder::of(RECIPE);
    std::fs::copy(folder.join("run/student/model.safetensors"), elsewhere.join("model.safetensors")).unwrap();
    let eval = ["eval", model, "--weights", "model.safetensors", "--data", data, "--json"];
    let again: Value = serde_json::from_str(&said_by(elsewhere.sokd(&eval))[0]).unwrap();
    for name in ["correct", "loss"] {
        assert_eq!(again[name], summary["last"][name], "{name}");
    }
    for name in ["parameters", "macs"] {
        assert_eq!(again[name], summary["student"][name], "{name}");
    }
    let config = json(&folder.join("run/student/config.json"));
    assert_eq!(config["sokd"]["graft"]["penultimate"]["templates"], 20);
}

#[test]
fn what_does_not_fit_is_said_before_the_first_step() {
    let folder = Folder::of(RECIPE);
    for (change, said) in [
        (
            "student.graft.penultimate.templates=7",
            "7 of the student's layer at penultimate, and 20 are to be",
        ),
        ("student.graft.penultimate.place=intermediate", "no kd-layer at penultimate: add one"),
        ("objective.penultimate.loss.clusters=10000", "10000 clusters of 6400 points"),
        ("objective.penultimate.loss.sharpness=-1", "-1 is not above 0"),
        ("objective.intermediate.loss.components=0", "0 tell nothing apart"),
    ] {
        let error = folder.says(&["train", "recipe.toml", "--dry-run", change], 2);
        assert!(on_one_line(&error).contains(said), "{change}: {error}");
    }
}

#[test]
fn what_is_learned_of_a_teacher_is_learned_once() {
    let folder = Folder::of(RECIPE);
    train(&folder, "one", &[]);
    let previews = || {
        let entries = std::fs::read_dir(folder.join("runs/previews")).unwrap();
        let learned = entries.map(|entry| entry.unwrap().path().join("learned/manifest.json"));
        let mut found: Vec<_> = learned.filter(|path| path.exists()).collect();
        found.sort();
        let when = |path: &PathBuf| std::fs::metadata(path).unwrap().modified().unwrap();
        found.iter().map(|path| (path.clone(), when(path))).collect::<Vec<_>>()
    };
    let before = previews();
    assert_eq!(before.len(), 2);
    // Another α is another run of the same teacher.
    let [_, said] = train(&folder, "two", &["student.graft.penultimate.alpha=0.5"]);
    assert!(!said.contains("before the first step"), "{said}");
    assert_eq!(previews(), before);
    // Another number of clusters is learned anew, and the parts are not.
    train(
        &folder,
        "three",
        &["student.graft.penultimate.templates=10", "objective.penultimate.loss.clusters=10"],
    );
    assert_eq!(previews().len(), 3);
}
