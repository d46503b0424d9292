//! The studies of plug-ins: their statistics against recorded ones, and the whole way from a table to the page.

#![allow(clippy::unwrap_used, reason = "a test that fails")]

mod folder;

use folder::Folder;
use serde::Deserialize;
use sokd_experiments::study::{Principal, compare};
use std::fs::{read, read_to_string};
use std::path::Path;

#[derive(Deserialize)]
struct Recorded {
    pairs: Vec<Pair>,
    sets: Vec<Set>,
}

#[derive(Deserialize)]
struct Pair {
    first: usize,
    second: usize,
    shift: f64,
    scale: f64,
    statistic: f64,
    p: f64,
    wasserstein: f64,
}

#[derive(Deserialize)]
struct Set {
    count: usize,
    width: usize,
    explained: Vec<f64>,
    scores: Vec<Vec<f64>>,
}

fn recorded() -> Recorded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/distributions.json");
    serde_json::from_slice(&read(path).unwrap()).unwrap()
}

fn sample(count: usize, phase: f64) -> impl Iterator<Item = f64> {
    (0..count)
        .map(move |at| at as f64)
        .map(move |at| (1.7 * at + phase).sin() + 0.5 * (0.37 * at * at + phase).cos())
}

#[test]
fn samples_compare_as_scipy_compares_them() {
    for Pair { first, second, shift, scale, statistic, p, wasserstein } in recorded().pairs {
        let a: Vec<f64> = sample(first, 0.2).collect();
        let b: Vec<f64> = sample(second, 1.1).map(|value| scale * value + shift).collect();
        let got = compare(&a, &b);
        let near = |got: f64, expected: f64, within: f64, what: &str| {
            let apart = (got - expected).abs();
            let enough = apart <= within * expected.abs() || apart < 1e-15;
            assert!(
                enough,
                "{what} of {first} and {second}, shifted by {shift}: {got} instead of {expected}"
            );
        };
        near(got.statistic, statistic, 1e-10, "D");
        near(got.wasserstein, wasserstein, 1e-10, "Wasserstein");
        // SciPy approximates samples above 140 to some six digits; ours is exact, as a unit test shows.
        near(got.p, p, 1e-5, "p");
    }
}

#[test]
fn components_are_those_of_a_singular_value_decomposition() {
    for Set { count, width, explained, scores } in recorded().sets {
        let number = |row: usize, at: usize| {
            let (row, at) = (row as f64, at as f64);
            (1.3 * row + 2.1 * at + 0.7 * row * at).sin() * (1.0 + at) + 0.3 * at
        };
        let vectors: Vec<Vec<f64>> =
            (0..count).map(|row| (0..width).map(|at| number(row, at)).collect()).collect();
        let got = Principal::of(&vectors, scores.len());
        assert_eq!((got.scores.len(), got.explained.len()), (scores.len(), explained.len()));
        for (got, expected) in got.explained.iter().zip(&explained) {
            assert!((got - expected).abs() < 1e-10, "{got} instead of {expected}");
        }
        for (got, expected) in got.scores.iter().flatten().zip(scores.iter().flatten()) {
            assert!((got - expected).abs() < 1e-7, "{count} × {width}: {got} instead of {expected}");
        }
    }
}

/// Two epochs of a narrow student, a host beside its row with plug-ins, the detector's hidden layers narrow too.
const TABLE: &str = r#"
title = "Plug-ins"
note = "By a test."
base = "shapes-alone"
seeds = [0]

[rows]
FitNet = { extends = "sokd:fitnet" }
"FitNet + SoKD" = { extends = ["sokd:fitnet", "sokd:sokd-robust"] }

[columns.drawn]
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 8, 8] }, weights = "drawn" }
student = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 8, 8] } }
"#;

const SIZE: [&str; 4] = ["epochs=2", "data.train=32", "data.test=24", "batch=16"];

#[test]
fn a_table_with_plug_ins_shows_what_they_did() {
    let folder = Folder::with(&[("plug.toml", TABLE)]);
    let report = |more: &[&str]| folder.says(&[&["report", "plug.toml"], &SIZE[..], more].concat(), 0);
    let page = || read_to_string(folder.join("runs/plug/report.html")).unwrap();
    folder.says(&[&["table", "plug.toml"], &SIZE[..]].concat(), 0);

    let whole = page();
    let sections = [
        "What the plug-ins did",
        "The policy’s history",
        "Whether the detector of areas collapsed",
        "Areas over images",
        "on another image",
        "Where the networks look",
        "correlation with the teacher",
        "How embeddings are distributed",
        "FitNet + SoKD / FitNet",
        "it is no result to be matched here",
        "all 24 test images",
    ];
    for section in sections {
        assert!(whole.contains(section), "{section} is missing");
    }
    assert!(!whole.contains("Not shown"), "everything is shown");
    assert_eq!(whole.matches("class=\"tiles\"").count(), 1 + 1 + 3, "areas, images, three networks");
    assert!(whole.contains("class=\"found\"") && whole.contains("class=\"truth\""), "boxes over images");
    let text = read_to_string(folder.join("runs/plug/report.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with("| FitNet + SoKD / FitNet |")).unwrap();
    let components: usize = line.split('|').nth(2).unwrap().trim().parse().unwrap();
    assert!((2..=8).contains(&components), "as many as the narrow embedding has, but for dead ones: {line}");

    // What the networks said is kept, and asked again when the file is about others.
    let kept = folder.join("runs/plug/studies-0.json");
    let before = read(&kept).unwrap();
    report(&[]);
    assert_eq!((page(), read(&kept).unwrap()), (whole.clone(), before.clone()));
    std::fs::write(&kept, read_to_string(&kept).unwrap().replacen("\"of\":\"", "\"of\":\"other", 1)).unwrap();
    report(&[]);
    assert_eq!(read(&kept).unwrap(), before, "the same networks say the same");

    report(&["--no-studies"]);
    assert!(!page().contains("What the plug-ins did"));

    // Without checkpoints the detector is gone; the rest is there, and the page says what is not.
    std::fs::remove_file(&kept).unwrap();
    for run in std::fs::read_dir(folder.join("runs/plug")).unwrap() {
        std::fs::remove_dir_all(run.unwrap().path().join("seed-0/checkpoints")).ok();
    }
    report(&[]);
    let poorer = page();
    assert!(poorer.contains("Not shown") && poorer.contains("its checkpoints are gone"));
    assert!(poorer.contains("Where the networks look") && !poorer.contains("Areas over images"));
}

/// TST, whose search passes twice over the images before the second epoch, and letKD's layer inside the student.
const LENS_AND_LAYER: &str = r#"
title = "A lens and a layer"
note = "By a test."
base = "shapes-alone"
seeds = [0]

[rows]
TST = { extends = "sokd:tst", phase.search.interlude = { before = [1], passes = 2 } }
"θ = 0" = { extends = "sokd:tst", lens.policy = "zero" }
letKD = { extends = "sokd:letkd-intermediate" }
"letKD α 0" = { extends = "sokd:letkd-intermediate", student.graft.intermediate.alpha = 0.0 }

[columns.drawn]
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 8, 8] }, weights = "drawn" }
student = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 8, 8] } }
"#;

#[test]
fn a_lens_and_a_layer_show_what_they_did() {
    let folder = Folder::with(&[("lens.toml", LENS_AND_LAYER)]);
    folder.says(&[&["table", "lens.toml"], &SIZE[..]].concat(), 0);
    let page = read_to_string(folder.join("runs/lens/report.html")).unwrap();
    let text = read_to_string(folder.join("runs/lens/report.md")).unwrap();
    assert!(page.contains("What the plug-ins did") && !page.contains("Not shown"), "{text}");

    // The policy over its passes, of the row that searches and of no other.
    assert_eq!(page.matches("draws operations evenly").count(), 1);
    assert_eq!(page.matches("pass of the search").count(), 2, "executions and levels");
    assert!(page.contains(">translate-x<") && page.contains("Level, from 0 to 1"));

    // Discriminants around the layer: the same on both sides of one that hands its map on.
    assert!(page.contains("What layers inside a student bring") && !page.contains("Where the networks look"));
    assert!(text.contains("Fitted to 32 training images") && text.contains("judged by 24 test images"));
    let sides = |row: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(&format!("| {row} | intermediate |"))).unwrap();
        line.split('|').map(|cell| cell.trim().to_owned()).filter(|cell| cell.ends_with('%')).collect()
    };
    let (with, without) = (sides("letKD"), sides("letKD α 0"));
    assert_eq!((with.len(), without.len()), (2, 2));
    assert_eq!(without[0], without[1]);

    // It is kept, and found again.
    let kept = folder.join("runs/lens/studies-0.json");
    let before = read(&kept).unwrap();
    folder.says(&[&["report", "lens.toml"], &SIZE[..]].concat(), 0);
    assert_eq!(read(&kept).unwrap(), before);
}

#[test]
fn a_run_leaves_a_report_of_its_own() {
    let recipe = r#"
extends = ["shapes-alone", "sokd:fitnet", "sokd:sokd-robust"]
student = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 8, 8] } }
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 8, 8] }, weights = "drawn" }
"#;
    let folder = Folder::with(&[("own.toml", recipe)]);
    let train = |run: &str, more: &[&str]| {
        folder.says(&[&["train", "own.toml", "--run-dir", run], &SIZE[..], more].concat(), 0);
        read_to_string(folder.join(run).join("report.html")).unwrap()
    };
    let page = train("run", &[]);
    assert!(page.contains("Areas over images") && page.contains("<code>sokd train own.toml</code>"));
    assert!(page.contains("own.toml / teacher") && !page.contains("own.toml / own.toml"));
    // Two steps have logs, and networks that are worth no look.
    let smoke = train("smoke", &["--tier", "smoke"]);
    assert!(
        smoke.contains("Whether the detector of areas collapsed")
            && !smoke.contains("Where the networks look")
    );
}
