//! Disks that are full or may not be written, images that are others than a run began on, and clocks that jump.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails, and says why it skips")]

mod folder;

use folder::{Folder, done, heard};
use std::fs::{read, read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::Command;

const RECIPE: &str = r#"
epochs = 3
batch = 8
data = { type = "image-folder", path = "pictures", test-share = 0.5 }
student = { model = { type = "cifar-resnet", depth = 8, widths = [8, 8, 8, 8] } }

[objective.task]
loss = { type = "cross-entropy" }

[phase.student]
moves = ["student"]
optim = { type = "sgd", momentum = 0.9 }
lr = { base = 0.02 }
"#;

fn folder() -> Folder {
    let folder = Folder::of(RECIPE);
    for class in ["dark", "light"] {
        std::fs::create_dir_all(folder.join("pictures").join(class)).unwrap();
        for number in 0..16 {
            picture(
                &folder.join("pictures").join(class).join(format!("{number}.png")),
                class == "light",
                number,
            );
        }
    }
    folder
}

fn picture(path: &Path, light: bool, number: u32) {
    let level = if light { 160 } else { 20 } + number as u8;
    let pixel = |x: u32, y: u32| image::Rgb([level, level + x as u8, level + 2 * y as u8]);
    image::RgbImage::from_fn(16, 16, pixel).save(path).unwrap();
}

#[test]
fn a_run_does_not_go_on_with_other_images() {
    let folder = folder();
    done(&folder.train("run", &["steps=5"]).output().unwrap(), 0);
    // As if killed before its end.
    for file in ["summary.json", "predictions.json"] {
        std::fs::remove_file(folder.join("run").join(file)).unwrap();
    }
    let before = read(folder.join("run/checkpoints/last/model.safetensors")).unwrap();
    let changed = folder.join("pictures/dark/3.png");
    picture(&changed, true, 3);
    let error = done(&folder.sokd(&["resume", "run"]).output().unwrap(), 4);
    assert!(error.contains("other images of image-folder") && error.contains("--force"), "{error}");
    assert_eq!(read(folder.join("run/checkpoints/last/model.safetensors")).unwrap(), before);
    picture(&changed, false, 3);
    done(&folder.sokd(&["resume", "run"]).output().unwrap(), 0);
}

/// Runs a script as the root of a name space of its own, where it may mount; `None` where the system does not let it.
fn apart(folder: &Folder, script: &str) -> Option<String> {
    let apart = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-euc", script]);
        command.current_dir(folder.join("")).env("sokd", env!("CARGO_BIN_EXE_sokd")).output()
    };
    let allowed = apart("mkdir -p tried && mount -t tmpfs -o size=64k none tried");
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("skipped: this system lets nobody mount a small disk");
        return None;
    }
    let output = apart(script).unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    Some(said)
}

#[test]
fn a_full_disk_costs_nothing_that_was_saved() {
    let folder = folder();
    done(&folder.train("whole", &[]).output().unwrap(), 0);
    // Room for some of what a run writes, at several sizes: it is another file that does not fit each time.
    let script = r#"
        mkdir disk
        for size in 8k 40k 80k 160k 240k; do
            mount -t tmpfs -o size=$size none disk
            code=0
            "$sokd" train recipe.toml --run-dir disk/run --threads 1 || code=$?
            test $code = 1 || test $size = 240k
            mount -o remount,size=64m disk
            "$sokd" train recipe.toml --run-dir disk/run --threads 1
            cmp disk/run/student/model.safetensors whole/student/model.safetensors
            cmp disk/run/predictions.json whole/predictions.json
            umount disk
            echo "at $size: as a whole one"
        done
    "#;
    let Some(said) = apart(&folder, script) else { return };
    assert!(said.matches("the disk is full").count() >= 4 && !said.contains("panic"), "{said}");
}

#[test]
fn a_disk_that_may_not_be_written_is_said() {
    let folder = folder();
    let script = r#"
        mkdir disk
        mount -t tmpfs none disk
        mount -o remount,ro disk
        code=0
        "$sokd" train recipe.toml --run-dir disk/run --threads 1 || code=$?
        test $code = 1
        mount -o remount,rw disk
        "$sokd" train recipe.toml --run-dir disk/run --threads 1
        mount -o remount,ro disk
        "$sokd" train recipe.toml --run-dir disk/run --threads 1 || echo "even finished: $?"
    "#;
    let Some(said) = apart(&folder, script) else { return };
    assert!(said.contains("may be written") && !said.contains("panic"), "{said}");
}

/// Debian's package `faketime`: the time of day that a program is told, as a file says.
fn clock_to_set() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    places.map(|place| place.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file())
}

#[test]
fn a_clock_that_jumps_changes_nothing_but_dates() {
    let Some(library) = clock_to_set() else {
        println!("skipped: faketime, which sets the clock of one program, is not installed");
        return;
    };
    let folder = folder();
    done(&folder.train("whole", &[]).output().unwrap(), 0);
    let clock = folder.join("clock");
    let jumping = |mut command: Command| {
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &clock);
        command.env("FAKETIME_NO_CACHE", "1").env("DONT_FAKE_MONOTONIC", "1");
        command
    };
    // Years ahead, then back before the run began; killed in both.
    let mut commands = [folder.train("run", &[]), folder.sokd(&["resume", "run"])].map(jumping).into_iter();
    for (epoch, (before, after)) in [("+0", "+3000d"), ("+3000d", "-3000d")].into_iter().enumerate() {
        write(&clock, before).unwrap();
        let mut child = commands.next().unwrap().spawn().unwrap();
        heard(&mut child, &folder.join("run/train.log"), "step");
        write(&clock, after).unwrap();
        heard(&mut child, &folder.join("run/train.log"), &format!("epoch {} of 3", epoch + 1));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    done(&jumping(folder.sokd(&["resume", "run"])).output().unwrap(), 0);
    for file in ["student/model.safetensors", "predictions.json"] {
        assert_eq!(
            read(folder.join("run").join(file)).unwrap(),
            read(folder.join("whole").join(file)).unwrap()
        );
    }
    let summary: serde_json::Value =
        serde_json::from_slice(&read(folder.join("run/summary.json")).unwrap()).unwrap();
    let seconds = summary["seconds"].as_f64().unwrap();
    assert!((0.0..600.0).contains(&seconds), "{seconds} s: some of them of another clock");
    let years =
        |log: String| log.lines().filter_map(|line| line.get(..4)?.parse::<u32>().ok()).collect::<Vec<_>>();
    let years = years(read_to_string(folder.join("run/train.log")).unwrap());
    assert!(!years.is_sorted(), "{years:?}: the clock did not jump");
    assert!(folder.join("run/report.html").is_file());
}
