//! `teacher.cache`: a run whose teacher remembers what it said is the run whose teacher does not.

#![allow(clippy::unwrap_used, reason = "a test that fails")]

mod folder;

use folder::{Folder, done, heard, left, on_one_line};
use std::path::Path;

const RECIPE: &str = r#"
epochs = 3
batch = 16
data = { type = "shapes", train = 100, search = 16, test = 40 }
augment = { crop = 0, flip = true }
student = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 4, 4] } }
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [8, 8, 8, 8] }, weights = "drawn" }

[objective.task]
loss = { type = "cross-entropy" }
[objective.distill]
weight = { ramp = 2 }
loss = { type = "kd" }

[phase.student]
moves = ["student"]
optim = { type = "sgd", momentum = 0.9 }
lr = { base = 0.02 }
"#;

/// What a run has learned and measured, by whatever recipe: the tensors behind the header of their file, and every number.
fn learned(run: &Path) -> (Vec<u8>, String) {
    let ([student, _], metrics) = left(run);
    let header = u64::from_le_bytes(student[..8].try_into().unwrap()) as usize;
    (student[8 + header..].to_vec(), metrics)
}

#[test]
fn remembering_changes_no_bit_of_a_run() {
    let folder = Folder::of(RECIPE);
    done(&folder.train("asked", &[]).output().unwrap(), 0);
    done(&folder.train("remembered", &["teacher.cache=true"]).output().unwrap(), 0);
    let asked = learned(&folder.join("asked"));
    assert!(asked == learned(&folder.join("remembered")));

    // Nor where it is killed, and begins to remember in the middle.
    let mut child = folder.train("broken", &["teacher.cache=true"]).spawn().unwrap();
    heard(&mut child, &folder.join("broken/train.log"), "epoch 1 of 3");
    child.kill().unwrap();
    child.wait().unwrap();
    done(&folder.sokd(&["resume", "broken"]).output().unwrap(), 0);
    assert!(asked == learned(&folder.join("broken")));
}

#[test]
fn who_cannot_go_by_memory_is_told_so() {
    let folder = Folder::of(RECIPE);
    for (change, says) in [
        ("augment.crop=4", "images change in every epoch"),
        ("augment.rotation=5.0", "images change in every epoch"),
        // Also where the term does not count in the first epoch.
        (r#"objective.distill.loss={ type = "at" }"#, "the objective reads more of it"),
    ] {
        let error = folder.says(&["train", "recipe.toml", "--dry-run", "teacher.cache=true", change], 2);
        assert!(
            on_one_line(&error).contains("teacher.cache") && on_one_line(&error).contains(says),
            "{change}: {error}"
        );
    }
}
