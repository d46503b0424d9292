//! Several processes of the program train one network.

#![allow(clippy::unwrap_used, reason = "a test that fails")]

mod folder;

use folder::{Folder, done, heard, left, on_one_line, signal};
use std::fs::read_to_string;
use std::net::TcpListener;
use std::process::{Child, Command, Output};

/// SoKD: a search with an imagined step, areas, an adapter; normalisation, and images that are changed by chance.
const RECIPE: &str = r#"
extends = ["shapes-alone", "sokd:fitnet", "sokd:sokd-robust"]
epochs = 3
batch = 16
data = { type = "shapes", train = 192, search = 32, test = 60 }
student = { model = { type = "cifar-resnet", depth = 8, widths = [8, 8, 8, 8] } }
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [8, 8, 8, 8] }, weights = "drawn" }
ema = { decay = 0.9 }
augment = { crop = 4, flip = true }
evaluate = { every = 1 }
"#;

/// Such processes, as torchrun would start them.
fn start(folder: &Folder, arguments: &[&str], size: usize) -> Vec<Child> {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    (0..size).map(|rank| placed(folder.sokd(arguments), rank, size, port).spawn().unwrap()).collect()
}

fn placed(mut command: Command, rank: usize, size: usize, port: u16) -> Command {
    command.env("RANK", rank.to_string()).env("WORLD_SIZE", size.to_string());
    command.env("LOCAL_RANK", rank.to_string()).env("LOCAL_WORLD_SIZE", size.to_string());
    command.env("MASTER_ADDR", "127.0.0.1").env("SOKD_MASTER_PORT", port.to_string());
    command
}

fn end(processes: Vec<Child>) -> Vec<Output> {
    processes.into_iter().map(|process| process.wait_with_output().unwrap()).collect()
}

const TRAIN: [&str; 4] = ["train", "recipe.toml", "--run-dir", "run"];

fn finished(folder: &Folder) {
    for output in end(start(folder, &TRAIN, 2)) {
        done(&output, 0);
    }
}

#[test]
fn two_processes_train_one_network_and_only_the_first_speaks() {
    let folder = Folder::of(RECIPE);
    let ends = end(start(&folder, &TRAIN, 2));
    assert!(done(&ends[0], 0).contains("test/top1"));
    assert_eq!(done(&ends[1], 0), "");
    let first = left(&folder.join("run"));
    // A finished run is finished for all of them.
    finished(&folder);
    let again = Folder::of(RECIPE);
    finished(&again);
    assert_eq!(first, left(&again.join("run")));
    // As many images as one process sees; and what it saw says how many there were.
    let alone = Folder::of(RECIPE);
    done(&alone.sokd(&TRAIN).output().unwrap(), 0);
    let images = |folder: &Folder| {
        let text = read_to_string(folder.join("run/summary.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["images"].clone()
    };
    assert_eq!(images(&alone), images(&again));
    let told =
        |folder: &Folder| read_to_string(folder.join("run/env.json")).unwrap().contains("\"processes\": 2");
    assert!(told(&again) && !told(&alone));
}

/// Whoever it is that is killed, the other ends, and both go on to the end of an unbroken run.
#[cfg(unix)]
#[test]
fn one_ranks_death_ends_all_and_loses_nothing() {
    let whole = Folder::of(RECIPE);
    finished(&whole);
    let broken = Folder::of(RECIPE);
    for (epoch, victim) in [(1, 1), (2, 0)] {
        let mut processes = start(&broken, &TRAIN, 2);
        heard(&mut processes[0], &broken.join("run/train.log"), &format!("epoch {epoch} of 3"));
        processes[victim].kill().unwrap();
        let ends = end(processes);
        let said = on_one_line(&done(&ends[1 - victim], 75));
        assert!(
            said.contains(&format!("rank {victim} is gone")) && said.contains("start all processes again"),
            "{said}"
        );
    }
    finished(&broken);
    assert!(read_to_string(broken.join("run/train.log")).unwrap().contains("goes on after step"));
    assert_eq!(left(&whole.join("run")), left(&broken.join("run")));
}

/// Schedulers tell one process or all; either way they end after the same step.
#[cfg(unix)]
#[test]
fn a_signal_to_one_stops_all() {
    let whole = Folder::of(RECIPE);
    finished(&whole);
    let stopped = Folder::of(RECIPE);
    let mut processes = start(&stopped, &TRAIN, 2);
    heard(&mut processes[0], &stopped.join("run/train.log"), "epoch 1 of 3");
    assert!(signal(processes[1].id(), "TERM"));
    for output in end(processes) {
        assert!(done(&output, 75).contains("everything up to there is saved"));
    }
    for output in end(start(&stopped, &["resume", "run"], 2)) {
        done(&output, 0);
    }
    assert_eq!(left(&whole.join("run")), left(&stopped.join("run")));
}

#[test]
fn what_one_of_them_lacks_all_are_told() {
    let folder = Folder::with(&[("recipe.toml", RECIPE), ("crd.toml", CRD)]);
    let ends = end(start(&folder, &["train", "crd.toml"], 2));
    for output in &ends {
        assert!(on_one_line(&done(output, 2)).contains("train this one with one process"));
    }
    // Who is alone of two waits, and says for whom.
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut alone = placed(folder.sokd(&TRAIN), 0, 2, port);
    let said = on_one_line(&done(&alone.env("SOKD_PATIENCE", "1").output().unwrap(), 69));
    assert!(said.contains("rank 1 is missing") && said.contains("MASTER_ADDR"), "{said}");
    // One process has images enough in any batch, two have not.
    let mut small = folder.sokd(&[&TRAIN[..], &["batch=191"]].concat());
    small = placed(small, 0, 1, port);
    done(&small.args(["epochs=1", "--dry-run"]).output().unwrap(), 0);
    let ends = end(start(&folder, &["train", "recipe.toml", "batch=191", "--run-dir", "odd"], 2));
    let said = on_one_line(&done(&ends[0], 2));
    assert!(
        said.contains("the last batch of an epoch has 1 of the 192 images, too few for 2 processes"),
        "{said}"
    );
    assert!(on_one_line(&done(&ends[1], 75)).contains("rank 0 is gone: it has ended"));
}

/// A loss with a memory of single images.
const CRD: &str = r#"
extends = "recipe.toml"
[objective.distill]
loss = { type = "crd" }
"#;
