//! What happens to checkpoints that crashes, disks and people have been at.

use candle::{Device, Tensor};
use sokd_core::{Error, Result};
use sokd_train::{Checkpoint, Checkpoints, Progress, Tensors};
use std::path::{Path, PathBuf};

const FILES: [&str; 5] =
    ["ema.safetensors", "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"];

fn tensors(value: f32) -> Tensors {
    let kernel = Tensor::full(value, (2, 3, 1, 1), &Device::Cpu).expect("a few numbers");
    Tensors::from([("student.conv.weight".to_owned(), kernel)])
}

fn checkpoint(steps: u64) -> Checkpoint {
    let value = steps as f32 / 3.0;
    Checkpoint {
        progress: Progress { steps, seconds: 0.1 + 0.2, processor_seconds: Some(0.7), ..Progress::default() },
        weights: tensors(value),
        optimizers: [("student".to_owned(), tensors(-value)), ("look.twice".to_owned(), tensors(0.0))].into(),
        ema: Some(tensors(1.0 - value)),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a place for files")
}

/// Three saves, of 1, 2 and 3 steps.
fn saved(dir: &Path) -> Result<Checkpoints> {
    let checkpoints = Checkpoints::open(dir, "recipe")?;
    for steps in 1..=3 {
        checkpoints.save(&checkpoint(steps))?;
    }
    Ok(checkpoints)
}

fn steps(checkpoints: &Checkpoints) -> Result<Option<u64>> {
    Ok(checkpoints.load()?.map(|found| found.checkpoint.progress.steps))
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("the folder is there");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_was_saved_is_what_is_found() -> Result<()> {
    let dir = folder();
    let checkpoints = saved(dir.path())?;
    let found = checkpoints.load()?.expect("three were saved");
    assert!(found.warning.is_none());
    let (found, expected) = (found.checkpoint, checkpoint(3));
    assert_eq!(found.progress, expected.progress);
    let numbers = |tensors: &Tensors| tensors["student.conv.weight"].flatten_all()?.to_vec1::<f32>();
    assert_eq!(numbers(&found.weights)?, numbers(&expected.weights)?);
    assert_eq!(found.optimizers.keys().collect::<Vec<_>>(), ["look.twice", "student"]);
    assert_eq!(numbers(&found.optimizers["student"])?, numbers(&expected.optimizers["student"])?);
    assert_eq!(numbers(&found.ema.expect("an average"))?, numbers(&expected.ema.expect("an average"))?);
    assert_eq!(entries(dir.path()), ["last", "last-1"]);
    assert_eq!(entries(&dir.path().join("last")), FILES);
    Ok(())
}

#[test]
fn an_empty_folder_holds_nothing() -> Result<()> {
    assert_eq!(steps(&Checkpoints::open(&folder().path().join("run/checkpoints"), "recipe")?)?, None);
    Ok(())
}

type Harm = fn(&Path);

/// What may befall a file.
const HARMS: [(&str, Harm); 4] = [
    ("cut", |path| {
        let bytes = std::fs::read(path).expect("it was saved");
        std::fs::write(path, &bytes[..bytes.len() / 2]).expect("it can be cut");
    }),
    ("one bit turned", |path| {
        let mut bytes = std::fs::read(path).expect("it was saved");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).expect("it can be harmed");
    }),
    ("emptied", |path| std::fs::write(path, []).expect("it can be emptied")),
    ("gone", |path| std::fs::remove_file(path).expect("it was there")),
];

#[test]
fn a_harmed_checkpoint_gives_way_to_the_one_before() -> Result<()> {
    for file in FILES {
        for (what, harm) in HARMS {
            let dir = folder();
            let checkpoints = saved(dir.path())?;
            harm(&dir.path().join("last").join(file));
            let found = checkpoints.load()?.expect("the one before is whole");
            assert_eq!(found.checkpoint.progress.steps, 2, "{file} {what}");
            let warning = found.warning.expect("someone should know");
            assert!(warning.contains("last/") && warning.contains("going on from"), "{warning}");

            // The harmed one is out of the way: it must not push out the good one.
            checkpoints.save(&checkpoint(4))?;
            assert_eq!(entries(dir.path()), ["last", "last-1", "torn"]);
            harm(&dir.path().join("last").join(file));
            assert_eq!(steps(&checkpoints)?, Some(2), "{file} {what}");
        }
    }
    Ok(())
}

#[test]
fn when_nothing_is_whole_the_error_names_the_file_and_a_way_out() -> Result<()> {
    let dir = folder();
    let checkpoints = saved(dir.path())?;
    for name in ["last", "last-1"] {
        HARMS[0].1(&dir.path().join(name).join("model.safetensors"));
    }
    let error = checkpoints.load().expect_err("both are cut").to_string();
    assert!(error.contains("last/model.safetensors") && error.contains("remedy"), "{error}");
    assert_eq!(entries(dir.path()), ["last", "last-1"]);
    Ok(())
}

#[test]
fn a_crash_between_the_renames_loses_nothing() -> Result<()> {
    let dir = folder();
    let checkpoints = saved(dir.path())?;
    std::fs::remove_dir_all(dir.path().join("last-1")).expect("it was saved");
    std::fs::rename(dir.path().join("last"), dir.path().join("last-1")).expect("the first rename");
    assert_eq!(steps(&checkpoints)?, Some(3));
    checkpoints.save(&checkpoint(4))?;
    assert_eq!(steps(&checkpoints)?, Some(4));
    assert_eq!(entries(dir.path()), ["last", "last-1"]);
    Ok(())
}

#[test]
fn unfinished_writes_are_swept_away() -> Result<()> {
    let dir = folder();
    saved(dir.path())?;
    std::fs::create_dir(dir.path().join(".unfinished-a1")).expect("a folder");
    std::fs::write(dir.path().join(".unfinished-a1/model.safetensors"), "half").expect("a file in it");
    std::fs::write(dir.path().join(".unfinished-b2"), "half").expect("a file");
    let checkpoints = Checkpoints::open(dir.path(), "recipe")?;
    assert_eq!(entries(dir.path()), ["last", "last-1"]);
    assert_eq!(steps(&checkpoints)?, Some(3));
    Ok(())
}

#[test]
fn another_recipes_checkpoint_is_refused_and_left_alone() -> Result<()> {
    let dir = folder();
    saved(dir.path())?.save_best(&checkpoint(2))?;
    let other = Checkpoints::open(dir.path(), "another")?;
    for error in [other.load().map(drop), other.load_best().map(drop)] {
        let error = error.expect_err("it is not ours").to_string();
        assert!(error.contains("saved by the recipe recipe, and this one is another"), "{error}");
    }
    assert_eq!(steps(&Checkpoints::open(dir.path(), "recipe")?)?, Some(3));
    Ok(())
}

#[test]
fn the_best_is_replaced_and_stands_beside() -> Result<()> {
    let dir = folder();
    let checkpoints = saved(dir.path())?;
    assert!(checkpoints.load_best()?.is_none());
    for steps in [1, 2] {
        checkpoints.save_best(&checkpoint(steps))?;
        assert_eq!(checkpoints.load_best()?.map(|best| best.progress.steps), Some(steps));
    }
    assert_eq!(entries(dir.path()), ["best", "last", "last-1"]);
    Ok(())
}

/// A name that cannot be created stands for every disk that refuses: full, read-only, gone.
#[test]
fn a_refused_write_names_its_place_and_spares_what_was_saved() -> Result<()> {
    let dir = folder();
    let place = dir.path().join("checkpoints");
    let checkpoints = saved(&place)?;
    let hidden: PathBuf = dir.path().join("hidden");
    std::fs::rename(&place, &hidden).expect("a disk goes away");
    std::fs::write(&place, "something else").expect("and something else is there");

    let error = checkpoints.save(&checkpoint(4)).expect_err("no file fits under a file");
    assert!(matches!(&error, Error::Io { path, .. } if path.starts_with(&place)), "{error}");

    std::fs::remove_file(&place).expect("it was there");
    std::fs::rename(&hidden, &place).expect("the disk comes back");
    assert_eq!(steps(&checkpoints)?, Some(3));
    assert_eq!(entries(&place), ["last", "last-1"]);
    Ok(())
}
