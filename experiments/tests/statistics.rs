//! Comparisons of arms: against what SciPy and statsmodels say, and the whole way from runs to a paper's table.

#![allow(clippy::unwrap_used, reason = "a test that fails")]

mod folder;

use folder::Folder;
use serde::Deserialize;
use sokd_core::Key;
use sokd_experiments::report::{Brought, Gain, McNemar, bootstrap, holm, t, t95, wilcoxon};
use std::path::Path;
use std::process::Output;

#[derive(Deserialize)]
struct Recorded {
    gains: Vec<Gains>,
    quantiles: Vec<Quantile>,
    families: Vec<Family>,
    discordant: Vec<Discordant>,
    answers: Vec<Answered>,
}

#[derive(Deserialize)]
struct Gains {
    #[serde(rename = "gains")]
    differences: Vec<f64>,
    t: f64,
    low: f64,
    high: f64,
    wilcoxon: f64,
}

#[derive(Deserialize)]
struct Quantile {
    pairs: usize,
    t: f64,
}

#[derive(Deserialize)]
struct Family {
    raw: Vec<f64>,
    holm: Vec<f64>,
}

#[derive(Deserialize)]
struct Discordant {
    won: usize,
    lost: usize,
    p: f64,
}

#[derive(Deserialize)]
struct Answered {
    images: usize,
    seeds: usize,
    more: f64,
    gain: f64,
    low: f64,
    high: f64,
    mcnemar: Vec<f64>,
}

fn recorded() -> Recorded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/paired.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn near(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-9 * expected.abs() + 1e-300, "{what}: {got} instead of {expected}");
}

#[test]
fn gains_are_tested_as_scipy_tests_them() {
    for Gains { differences: gains, t: student, low, high, wilcoxon: ranks } in recorded().gains {
        let pairs: Vec<(f64, f64)> = gains.iter().map(|gain| (0.0, *gain)).collect();
        let interval = Gain::of(&pairs).unwrap().interval().unwrap();
        let what = format!("{gains:?}");
        near(t(&gains).unwrap(), student, &what);
        near(interval[0], low, &what);
        near(interval[1], high, &what);
        near(wilcoxon(&gains).unwrap(), ranks, &what);
    }
    for Quantile { pairs, t } in recorded().quantiles {
        near(t95(pairs).unwrap(), t, "t");
    }
}

#[test]
fn p_is_corrected_as_statsmodels_corrects_it() {
    for Family { raw, holm: expected } in recorded().families {
        for (got, expected) in holm(&raw).into_iter().zip(expected) {
            near(got, expected, &format!("{raw:?}"));
        }
    }
}

#[test]
fn networks_are_told_apart_as_statsmodels_tells_them() {
    for Discordant { won, lost, p } in recorded().discordant {
        near(McNemar { won, lost }.p(), p, &format!("{won} won, {lost} lost"));
    }
}

/// Right where a wave is above a threshold; the second network's wave is the first's, moved a little.
fn right(images: usize, seed: usize, more: f64) -> (Vec<bool>, Vec<bool>) {
    let wave = |image: usize, moved: f64| {
        let (at, seed) = (image as f64, seed as f64);
        (1.7 * at + 0.3 * seed + moved).sin() + 0.6 * (0.37 * at * at + seed).cos()
    };
    let first = (0..images).map(|image| wave(image, 0.0) > 0.1);
    let second = (0..images).map(|image| wave(image, 0.2) > 0.1 - 3.0 * more);
    (first.collect(), second.collect())
}

/// Two bootstraps draw different images: their edges differ by the deviation of a quantile over 10,000 draws.
#[test]
fn an_interval_over_images_is_scipys() {
    for Answered { images, seeds, more, gain, low, high, mcnemar } in recorded().answers {
        let mut each = vec![0; images];
        for (seed, p) in mcnemar.into_iter().enumerate() {
            let (first, second) = right(images, seed, more);
            near(McNemar::of(&first, &second).p(), p, &format!("seed {seed} of {images} images"));
            for (each, (first, second)) in each.iter_mut().zip(first.into_iter().zip(second)) {
                *each += i16::from(second) - i16::from(first);
            }
        }
        let mean = each.iter().map(|&each| f64::from(each)).sum::<f64>() * 100.0 / (images * seeds) as f64;
        near(mean, gain, "gain");
        let arm = Brought { of: String::new(), each, seeds };
        let [[from, to]] = bootstrap(&[&arm], 10_000, Key::new(0))[..] else { panic!("one interval") };
        let within = 0.04 * (high - low);
        assert!((from - low).abs() < within && (to - high).abs() < within, "{from} to {to}: {low} to {high}");
    }
}

/// Two arms of a narrow student, two epochs each.
const TABLE: &str = r#"
title = "Which temperature?"
note = "By a test."
base = "shapes-alone"
seeds = [0, 1]
rows = { alone = { extends = "sokd:cross-entropy" }, warm = { extends = "sokd:kd" } }

[columns."drawn → drawn"]
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 8, 8] }, weights = "drawn" }
student = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 8, 8] } }
"#;

const SIZE: [&str; 4] = ["epochs=2", "data.train=32", "data.test=24", "batch=16"];

fn sokd(folder: &Folder, arguments: &[&str]) -> Output {
    folder.sokd(&[arguments, &SIZE].concat()).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn runs_keep_what_their_students_said_and_reports_compare_it() {
    let folder = Folder::with(&[("t.toml", TABLE)]);

    let wrong = sokd(&folder, &["table", "t.toml", "--against", "wram"]);
    let error = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(2), "{error}");
    assert!(error.contains("did you mean `warm`?") && !folder.join("runs").exists(), "{error}");
    let left_out = sokd(&folder, &["table", "t.toml", "--against", "warm", "--rows", "alone"]);
    assert!(String::from_utf8_lossy(&left_out.stderr).contains("--rows leaves it out"));

    let text = said(&sokd(&folder, &["table", "t.toml", "--against", "warm", "--keep", "kept"]));
    assert!(text.contains("gain over warm (last)") && text.contains("\n  McNemar: "), "{text}");
    let paths: Vec<&str> = text.lines().rev().take(5).collect();
    let endings = ["report.html", "report-arms.csv", "report.csv", "report.tex", "report.md"];
    assert!(paths.iter().zip(endings).all(|(path, ending)| path.ends_with(ending)), "{paths:?}");
    assert!(paths.iter().all(|path| folder.join(path).is_file()), "{paths:?}");

    // Each run's file says, image by image, what its summary counts.
    let runs = |name: &str| -> Vec<serde_json::Value> {
        let variants = std::fs::read_dir(folder.join("runs/t")).unwrap().map(|entry| entry.unwrap().path());
        let seeds =
            variants.filter(|path| path.is_dir()).flat_map(|path| [path.join("seed-0"), path.join("seed-1")]);
        seeds.map(|run| serde_json::from_slice(&std::fs::read(run.join(name)).unwrap()).unwrap()).collect()
    };
    let (predictions, summaries) = (runs("predictions.json"), runs("summary.json"));
    assert_eq!(predictions.len(), 4);
    for (said, summary) in predictions.iter().zip(&summaries) {
        let all = |name: &str| said[name].as_array().unwrap();
        let right = all("guesses").iter().zip(all("labels")).filter(|(guess, label)| guess == label).count();
        assert_eq!((right as u64, all("labels").len()), (summary["last"]["correct"].as_u64().unwrap(), 24));
        assert_eq!(said["of"], predictions[0]["of"], "all were asked about the same images");
    }

    // What was committed is enough, and so is what was committed before there were predictions.
    std::fs::remove_dir_all(folder.join("runs")).unwrap();
    let report =
        |form: &str| said(&sokd(&folder, &["report", "t.toml", "--results", "kept", "--format", form]));
    assert_eq!(report("csv").lines().count(), 5);
    assert_eq!(report("csv-arms").lines().count(), 3);
    assert!(report("latex").contains("\\toprule"));
    let text = report("markdown");
    assert!(text.contains("- **McNemar**: networks of the same seed"), "{text}");
    assert!(!folder.join("runs/t/report.md").exists(), "a form is printed, and no file written");
    for entry in std::fs::read_dir(folder.join("kept/t/full")).unwrap() {
        let path = entry.unwrap().path();
        let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert!(kept.as_object_mut().unwrap().remove("answers").is_some());
        std::fs::write(&path, kept.to_string()).unwrap();
    }
    let text = report("markdown");
    assert!(text.contains("no pair of runs that both kept") && text.contains("| 95 % interval |"), "{text}");
    assert!(!text.contains("Times do not compare") && text.contains("| processor time |"), "{text}");
}

/// An arm without a teacher is one run beside all teachers, and is found beside each; what ran elsewhere took its own time.
#[test]
fn a_run_is_found_in_every_column_that_it_belongs_to() {
    let (first, second) = ("drawn → drawn", "wider → drawn");
    let wider = TABLE.split_once("[columns").unwrap().1.replace(first, second).replacen(
        "[4, 4, 8, 8]",
        "[8, 8, 8, 8]",
        1,
    );
    let folder = Folder::with(&[("t.toml", &format!("{TABLE}\n[columns{wider}"))]);
    said(&sokd(&folder, &["table", "t.toml", "--columns", first, "--seeds", "0", "--keep", "kept"]));
    std::fs::remove_dir_all(folder.join("runs")).unwrap();
    let report = |form: &str| {
        said(&sokd(&folder, &["report", "t.toml", "--seeds", "0", "--results", "kept", "--format", form]))
    };
    let runs = report("csv");
    assert!(runs.contains(&format!("alone,{second}")) && !runs.contains(&format!("warm,{second}")), "{runs}");

    let path = folder.join("kept/t/full/warm-drawn-drawn-seed-0.json");
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    kept["summary"]["environment"]["machine"] = "another".into();
    std::fs::write(&path, kept.to_string()).unwrap();
    let text = report("markdown");
    assert!(text.contains("Times do not compare") && text.contains("another ("), "{text}");
}
