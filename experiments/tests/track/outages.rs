//! A tracker that fails stops no run, and slows none.

use crate::fake::{Fake, Mood};
use crate::folder::{Folder, done};
use crate::{RECIPE, log, metrics, points, train, weights};
use std::process::Command;
use std::time::{Duration, Instant};

const TOKEN: &str = "a-secret-that-stands-nowhere";

fn toward(mut command: Command, address: &str) -> Command {
    command.env("MLFLOW_TRACKING_URI", address).env("MLFLOW_TRACKING_TOKEN", TOKEN);
    command
}

/// No file of a run, and no word of the program, holds the token.
fn kept_secret(folder: &Folder, said: &str) {
    assert!(!said.contains(TOKEN), "{said}");
    let mut folders = vec![folder.join("")];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                let found = bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
                assert!(!found, "{}", path.display());
            }
        }
    }
}

#[test]
fn a_server_is_told_everything_once() {
    let (folder, fake) = (Folder::of(RECIPE), Fake::new(Mood::Well));
    let mut command = toward(train(&folder, "run", "tensorboard,mlflow"), &fake.address());
    let error = done(&command.env("MLFLOW_EXPERIMENT_NAME", "first tries").output().unwrap(), 0);
    kept_secret(&folder, &error);
    let proofs = fake.heard.lock().unwrap().proofs.clone();
    assert!(
        !proofs.is_empty() && proofs.iter().all(|proof| *proof == format!("Bearer {TOKEN}")),
        "{proofs:?}"
    );
    let metrics = metrics(&folder.join("run"));
    for name in ["test/top1", "train/student/loss", "train/search/loss", "seconds"] {
        let points = points(&metrics, name);
        assert!(points.len() >= 2, "{name}");
        assert_eq!(fake.points(name), points, "{name}");
    }
    let created = &fake.said("runs/create")[0];
    assert_eq!(created["run_name"], "recipe.toml, seed 0");
    let updates = fake.said("runs/update");
    assert_eq!((updates.len(), &updates[0]["status"]), (1, &"FINISHED".into()));

    // Again: there is nothing that it does not know.
    let track = folder.sokd(&["track", "run", "--to", "mlflow"]);
    let before = fake.said("runs/log-batch").len();
    let mut command = toward(track, &fake.address());
    let output = command.env("MLFLOW_EXPERIMENT_NAME", "first tries").output().unwrap();
    done(&output, 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("told 0 lines"), "{output:?}");
    assert_eq!((fake.said("runs/log-batch").len(), fake.heard.lock().unwrap().runs), (before, 1));
}

/// Away, ill, dumb or torn, the run ends as one that tells nobody, soon enough and with one line about it.
#[test]
fn a_server_that_fails_stops_no_run() {
    let folder = Folder::of(RECIPE);
    done(&train(&folder, "alone", "none").output().unwrap(), 0);
    assert!(
        !std::fs::read_dir(folder.join("alone"))
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("events.out") })
    );
    let nobody = Fake::new(Mood::Well).address();
    let moods = [Mood::Ill, Mood::Dumb, Mood::Torn].map(|mood| (format!("{mood:?}"), Fake::new(mood)));
    let mut addresses: Vec<_> = moods.iter().map(|(name, fake)| (name.clone(), fake.address())).collect();
    addresses.push(("Away".to_owned(), nobody));
    for (name, address) in addresses {
        let address = address.replace("http://", "http://user:a-password@");
        let begun = Instant::now();
        let error = done(&toward(train(&folder, &name, "mlflow"), &address).output().unwrap(), 0);
        let took = begun.elapsed();
        kept_secret(&folder, &error);
        let log = log(&folder.join(&name));
        assert_eq!(log.matches("mlflow: ").count(), 1, "{log}");
        assert!(log.contains(&format!("`sokd track {name} --to mlflow`")), "{log}");
        assert!(!log.contains("a-password") && !error.contains("a-password"), "{log}{error}");
        assert_eq!(weights(&folder.join(&name)), weights(&folder.join("alone")), "{name}");
        // The run alone takes seconds; at its end it waits no longer than fifteen.
        assert!(took < Duration::from_mins(1), "{name}: {took:?}");
    }
}

/// It dies in the middle and is back before the end: it knows everything, each point once.
#[test]
fn a_server_that_is_back_is_told_what_it_missed() {
    let (folder, fake) = (Folder::of(RECIPE), Fake::new(Mood::Well));
    let mut command = toward(train(&folder, "run", "mlflow"), &fake.address());
    let mut child = command.arg("epochs=12").spawn().unwrap();
    crate::heard(&mut child, &folder.join("run/train.log"), "epoch 1 of 12");
    *fake.mood.lock().unwrap() = Mood::Ill;
    crate::heard(&mut child, &folder.join("run/train.log"), "mlflow: ");
    *fake.mood.lock().unwrap() = Mood::Well;
    done(&child.wait_with_output().unwrap(), 0);
    let points = points(&metrics(&folder.join("run")), "test/top1");
    assert_eq!((fake.points("test/top1"), points.len()), (points, 12));
    assert_eq!(fake.said("runs/update").last().unwrap()["status"], "FINISHED");
    assert!(log(&folder.join("run")).contains("mlflow: is back"));
}

/// It is back after the end: `sokd track` tells the rest.
#[test]
fn what_a_server_missed_can_be_told_later() {
    let (folder, fake) = (Folder::of(RECIPE), Fake::new(Mood::Ill));
    done(&toward(train(&folder, "run", "mlflow"), &fake.address()).output().unwrap(), 0);
    assert!(fake.points("test/top1").is_empty());
    let track = || toward(folder.sokd(&["track", "run", "--to", "mlflow"]), &fake.address());
    let error = done(&track().output().unwrap(), 69);
    assert!(error.contains("500") && error.contains("out of order"), "{error}");
    *fake.mood.lock().unwrap() = Mood::Well;
    done(&track().output().unwrap(), 0);
    assert_eq!(fake.points("test/top1"), points(&metrics(&folder.join("run")), "test/top1"));
    assert_eq!(fake.said("runs/update").last().unwrap()["status"], "FINISHED");
}

#[test]
fn an_address_that_is_missing_is_said_before_the_first_step() {
    let folder = Folder::of(RECIPE);
    let error = done(&train(&folder, "run", "mlflow").output().unwrap(), 2);
    assert!(error.contains("MLFLOW_TRACKING_URI is not set"), "{error}");
    let error =
        done(&toward(train(&folder, "run", "mlflow"), "sqlite:///a-password.db").output().unwrap(), 2);
    assert!(error.contains("no http:// or https:// address") && !error.contains("a-password"), "{error}");
    assert!(!folder.join("run").exists());
}
