//! What a run leaves behind, read again when it goes on or is reported.

use crate::{Whole, alone, survives};
use candle::{Device, Tensor};
use sokd_core::Result;
use sokd_experiments::predictions::Predictions;
use sokd_train::{Checkpoint, Checkpoints};
use std::collections::BTreeMap;
use std::path::Path;

fn below(folder: &Path) -> Vec<Whole> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            files.extend(below(&path).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            files.push((name, std::fs::read(path).expect("a file")));
        }
    }
    files.sort();
    files
}

#[test]
fn checkpoints() -> Result<()> {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let kept = Checkpoints::open(folder.path(), "recipe")?;
    let weights = BTreeMap::from([("w".to_owned(), Tensor::arange(0f32, 60.0, &Device::Cpu)?)]);
    let checkpoint = Checkpoint { weights: weights.clone(), ema: Some(weights), ..Checkpoint::default() };
    kept.save(&checkpoint)?;
    let whole = below(folder.path());
    survives("checkpoint", 300, &whole, |folder| Checkpoints::open(folder, "recipe")?.load());
    let _alone = alone();
    // With one before it, a torn one is set aside and nothing is lost.
    kept.save(&checkpoint)?;
    for (name, bytes) in below(folder.path()).into_iter().filter(|(name, _)| name.starts_with("last/")) {
        let path = folder.path().join(&name);
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("room for a small file");
        let found = kept.load()?.expect("the one before");
        assert!(found.warning.expect("a word about it").contains("last-1"), "{name}");
        kept.save(&checkpoint)?;
    }
    Ok(())
}

#[test]
fn predictions_and_metrics() {
    let said = serde_json::json!({ "of": "last", "guesses": [1, 2, 3], "labels": [1, 2, 0] });
    let files = [("predictions.json".to_owned(), said.to_string().into_bytes())];
    survives("predictions", 300, &files, Predictions::read);
    let line = r#"{"step": 3, "epoch": 1, "train/student/loss": 0.25, "test/top1": 61.5}"#;
    let files = [("metrics.jsonl".to_owned(), format!("{line}\n").repeat(5).into_bytes())];
    survives("metrics", 300, &files, |folder| sokd_train::metrics::read(&folder.join("metrics.jsonl")));
}
