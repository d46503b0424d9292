//! Runs that are killed, stopped or shut out: what was saved is whole, and the end is the same.

#![allow(clippy::unwrap_used, reason = "a test that fails")]

mod folder;

use folder::{Folder, done, heard, left, on_one_line, signal};
use std::fs::{File, read, read_to_string};

/// A student of two minutes' patience: 5 epochs of 24 steps on a core.
const RECIPE: &str = r#"
epochs = 5
batch = 8
data = { type = "shapes", train = 192, search = 16, test = 100 }
student = { model = { type = "cifar-resnet", depth = 8, widths = [8, 8, 8, 8] } }
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [8, 8, 8, 8] }, weights = "drawn" }
ema = { decay = 0.9 }

[objective.task]
loss = { type = "cross-entropy" }
[objective.distill]
weight = { ramp = 3 }
loss = { type = "fitnet" }

[phase.student]
moves = ["student", "adapter"]
optim = { type = "sgd", momentum = 0.9 }
lr = { base = 0.02, warmup-epochs = 1, decay = { type = "cosine", each = "step" } }
"#;

/// The same patience with passes of a search between its epochs.
const SEARCH: &str = r#"
extends = "sokd:tst"
epochs = 2
batch = 8
data = { type = "shapes", train = 96, test = 20 }
student = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 4, 4] } }
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 4, 4] }, weights = "drawn" }

[phase.student]
moves = ["student"]
optim = { type = "sgd", momentum = 0.9 }
lr = { base = 0.02 }

[phase.search]
interlude = { before = [1], passes = 4 }
"#;

#[test]
fn a_killed_run_ends_as_an_unbroken_one() {
    let folder = Folder::of(RECIPE);
    done(&folder.train("whole", &[]).output().unwrap(), 0);

    // After an epoch's line the checkpoint is being written: the kill tears one now and then.
    for epoch in 1..=3 {
        let mut child = folder.train("broken", &[]).spawn().unwrap();
        heard(&mut child, &folder.join("broken/train.log"), &format!("epoch {epoch} of 5"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!folder.join("broken/summary.json").exists());
    }
    done(&folder.sokd(&["resume", "broken"]).output().unwrap(), 0);
    assert!(read_to_string(folder.join("broken/train.log")).unwrap().contains("goes on after step"));
    assert_eq!(left(&folder.join("whole")), left(&folder.join("broken")));
}

#[test]
#[cfg(unix)]
fn a_stopped_run_saves_in_the_middle_of_an_epoch_and_goes_on() {
    let folder = Folder::of(RECIPE);
    done(&folder.train("whole", &[]).output().unwrap(), 0);

    let mut child = folder.train("stopped", &[]).spawn().unwrap();
    heard(&mut child, &folder.join("stopped/train.log"), "epoch 1 of 5");
    assert!(signal(child.id(), "TERM"));
    let output = child.wait_with_output().unwrap();
    let error = done(&output, 75);
    assert!(error.contains("sokd resume"), "{error}");
    let status = read_to_string(folder.join("stopped/status.json")).unwrap();
    assert!(status.contains(r#""state": "stopped""#) && status.contains(r#""exit-code": 75"#), "{status}");

    done(&folder.sokd(&["resume", "stopped"]).output().unwrap(), 0);
    assert_eq!(left(&folder.join("whole")), left(&folder.join("stopped")));
    let asked = |run: &str| read_to_string(folder.join(run).join("teacher.json")).unwrap();
    assert_eq!(asked("whole"), asked("stopped"));
    let status = read_to_string(folder.join("stopped/status.json")).unwrap();
    assert!(status.contains(r#""state": "finished""#), "{status}");
}

/// Killed after a pass of a search and stopped within another.
#[test]
#[cfg(unix)]
fn a_search_between_epochs_goes_on_where_it_was() {
    let folder = Folder::of(SEARCH);
    done(&folder.train("whole", &[]).output().unwrap(), 0);
    let metrics = read_to_string(folder.join("whole/metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("\"event\":\"pass\"").count(), 4);
    assert!(
        metrics.contains("train/search/search-student/unlikelihood") && metrics.contains("lens/level/rotate")
    );

    let mut child = folder.train("broken", &[]).spawn().unwrap();
    heard(&mut child, &folder.join("broken/train.log"), "pass 1 of 4 over");
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = folder.sokd(&["resume", "broken"]).spawn().unwrap();
    heard(&mut child, &folder.join("broken/train.log"), "pass 2 of 4 over");
    assert!(signal(child.id(), "TERM"));
    done(&child.wait_with_output().unwrap(), 75);
    done(&folder.sokd(&["resume", "broken"]).output().unwrap(), 0);
    assert_eq!(left(&folder.join("whole")), left(&folder.join("broken")));
}

/// A teacher that is a recipe is trained before its student, goes on where it was stopped, and is trained once.
#[test]
#[cfg(unix)]
fn a_teacher_that_is_a_recipe_is_trained_first() {
    let student = RECIPE.replace("\"drawn\"", "\"recipe:elder.toml\"");
    let folder = Folder::with(&[("recipe.toml", &student), ("elder.toml", RECIPE)]);
    let told = folder.says(&["train", "recipe.toml", "--dry-run"], 66);
    assert!(on_one_line(&told).contains("sokd train elder.toml"), "{told}");

    let mut child = folder.sokd(&["train", "recipe.toml"]).spawn().unwrap();
    heard(&mut child, &folder.join("runs/latest/train.log"), "epoch 1 of 5");
    assert!(signal(child.id(), "TERM"));
    let told = done(&child.wait_with_output().unwrap(), 75);
    assert!(told.contains("teacher elder.toml") && told.contains("runs/elder/"), "{told}");

    let told = folder.says(&["train", "recipe.toml", "epochs=2"], 0);
    assert!(told.contains("runs/recipe/"), "{told}");
    let elder = std::fs::read_dir(folder.join("runs/elder")).unwrap().next().unwrap().unwrap().path();
    let log = read_to_string(elder.join("seed-0/train.log")).unwrap();
    assert!(log.contains("goes on after step") && log.contains("epoch 5 of 5"), "{log}");
    folder.says(&["train", "recipe.toml", "epochs=1"], 0);
    assert_eq!(log, read_to_string(elder.join("seed-0/train.log")).unwrap());
}

/// Nor does another run ask a teacher that one has asked about the same images, whatever else it does.
#[test]
fn a_teacher_is_asked_once_for_all_runs() {
    let folder = Folder::of(RECIPE);
    done(&folder.train("one", &["epochs=1"]).output().unwrap(), 0);
    let previews: Vec<_> = std::fs::read_dir(folder.join("runs/previews")).unwrap().collect();
    let [Ok(kept)] = &previews[..] else { panic!("{previews:?}") };
    let kept = kept.path().join("teacher.json");
    let mut said: serde_json::Value = serde_json::from_slice(&read(&kept).unwrap()).unwrap();
    said["taught"]["top1"] = 12.5.into();
    std::fs::write(&kept, said.to_string()).unwrap();
    for (run, setting, from_the_file) in [("two", "epochs=2", true), ("three", "data.test=90", false)] {
        done(&folder.train(run, &["epochs=1", setting]).output().unwrap(), 0);
        let summary = read(folder.join(run).join("summary.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
        assert_eq!(summary["teacher"]["top1"] == 12.5, from_the_file, "{run}");
    }
    // What is torn is asked for again, and whole then.
    std::fs::write(&kept, "{").unwrap();
    done(&folder.train("four", &["epochs=1"]).output().unwrap(), 0);
    let again: serde_json::Value = serde_json::from_slice(&read(&kept).unwrap()).unwrap();
    assert_eq!(again["guesses"], said["guesses"]);
}

/// A teacher of whom the run directory tells is not asked again: what stands there goes into the summary, unless it is
/// about another teacher or other images.
#[test]
#[cfg(unix)]
fn a_run_that_goes_on_asks_its_teacher_no_second_time() {
    let folder = Folder::of(RECIPE);
    let mut child = folder.train("run", &[]).spawn().unwrap();
    heard(&mut child, &folder.join("run/train.log"), "epoch 1 of 5");
    assert!(signal(child.id(), "TERM"));
    done(&child.wait_with_output().unwrap(), 75);
    let kept = folder.join("run/teacher.json");
    let mut said: serde_json::Value = serde_json::from_slice(&read(&kept).unwrap()).unwrap();
    said["taught"]["top1"] = 12.5.into();
    std::fs::write(&kept, said.to_string()).unwrap();
    std::fs::create_dir(folder.join("other")).unwrap();
    for entry in ["run/.lock", "run/config.toml", "run/teacher.json"] {
        std::fs::copy(folder.join(entry), folder.join(&entry.replace("run/", "other/"))).unwrap();
    }
    let other = read_to_string(folder.join("other/config.toml")).unwrap();
    std::fs::write(folder.join("other/config.toml"), other.replace("test = 100", "test = 90")).unwrap();

    for (run, from_the_file) in [("run", true), ("other", false)] {
        done(&folder.sokd(&["resume", run]).output().unwrap(), 0);
        let summary = read(folder.join(run).join("summary.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
        assert_eq!(summary["teacher"]["top1"] == 12.5, from_the_file, "{run}");
    }
}

#[test]
fn one_directory_is_one_process_and_one_recipe() {
    let folder = Folder::of(RECIPE);
    let few = ["train", "recipe.toml", "steps=2", "--run-dir", "run"];
    done(&folder.sokd(&few).output().unwrap(), 0);
    let summary = read(folder.join("run/summary.json")).unwrap();

    let lock = File::open(folder.join("run/.lock")).unwrap();
    lock.lock().unwrap();
    let error = done(&folder.sokd(&few).output().unwrap(), 75);
    assert!(error.contains("another process works in"), "{error}");
    lock.unlock().unwrap();

    // Finished: the same command says so again and runs nothing.
    done(&folder.sokd(&few).output().unwrap(), 0);
    assert_eq!(read(folder.join("run/summary.json")).unwrap(), summary);

    let other = ["train", "recipe.toml", "steps=3", "--run-dir", "run"];
    let error = done(&folder.sokd(&other).output().unwrap(), 2);
    assert!(error.contains("steps is 2 there and 3 here") && error.contains("--force"), "{error}");
    assert_eq!(read(folder.join("run/summary.json")).unwrap(), summary);

    // What cannot be built costs no one a finished run, not even by force.
    let impossible = [&few[..], &["--force", "teacher.weights=nowhere.pth"]].concat();
    done(&folder.sokd(&impossible).output().unwrap(), 66);
    assert_eq!(read(folder.join("run/summary.json")).unwrap(), summary);

    done(&folder.sokd(&[&other[..], &["--force"]].concat()).output().unwrap(), 0);
    assert_ne!(read(folder.join("run/summary.json")).unwrap(), summary);

    std::fs::create_dir(folder.join("mine")).unwrap();
    std::fs::write(folder.join("mine/config.toml"), "precious").unwrap();
    let foreign = ["train", "recipe.toml", "--run-dir", "mine", "--force"];
    let error = done(&folder.sokd(&foreign).output().unwrap(), 2);
    assert!(error.contains("no run's"), "{error}");
    assert_eq!(read_to_string(folder.join("mine/config.toml")).unwrap(), "precious");
}

#[test]
fn a_run_that_leaves_the_numbers_says_so_and_keeps_what_it_had() {
    let folder = Folder::of(RECIPE);
    let wild = ["train", "recipe.toml", "--run-dir", "wild", "phase.student.lr.base=1e12"];
    let error = done(&folder.sokd(&wild).output().unwrap(), 3);
    assert!(error.contains("training has diverged"), "{error}");
    let status = read_to_string(folder.join("wild/status.json")).unwrap();
    assert!(status.contains(r#""state": "failed""#) && status.contains(r#""exit-code": 3"#), "{status}");
}

/// Also the very first one, in a folder without any.
#[cfg(unix)]
#[test]
fn the_latest_run_is_found_by_that_name() {
    let folder = Folder::of(RECIPE);
    let train =
        |seed: &str| folder.says(&["train", "recipe.toml", "--tier", "smoke", "--seed", seed, "-q"], 0);
    for seed in ["1", "2"] {
        assert!(train(seed).contains(&format!("seed-{seed}")));
        let config = read_to_string(folder.join("runs/latest/config.toml")).unwrap();
        assert!(config.contains(&format!("seed = {seed}")), "{config}");
        folder.says(&["resume", "runs/latest"], 0);
    }
}
