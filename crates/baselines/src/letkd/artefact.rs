//! What is learned of a teacher before the first step, kept for every run that asks for the same.

use super::maps::View;
use candle::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sokd_core::file::{self, Folder};
use sokd_core::{Error, Preview, Result, Split};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::Path;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What stands beside the tensors.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Whose maps: teacher, weights and data set, as whoever asked told them.
    who: String,
    /// What was asked for.
    settings: serde_json::Value,
    /// The digest of the tensors' file.
    blake3: String,
}

const TENSORS: &str = "tensors.safetensors";
const MANIFEST: &str = "manifest.json";

/// Images whose pixels tell a data set from others, spread evenly. Ours: all of them would take longer to read than to
/// learn from, at the size of ImageNet.
const SAMPLE: usize = 1024;

/// What `make` learned of the teacher's maps under `view` with these settings: found, if any run had it made, or made
/// now and kept. One process makes it, others wait for it.
///
/// # Errors
/// What `make` raises, and what the system refuses. What is not what was written, or was learned of something else, is made
/// anew, and that is said.
pub fn kept(
    preview: &Preview<'_>,
    view: View,
    settings: &impl Serialize,
    make: impl FnOnce() -> Result<Tensors>,
) -> Result<Tensors> {
    let settings =
        serde_json::to_value(settings).map_err(|error| Error::setting("letkd", error.to_string()))?;
    let who = format!("{} at {}, pooled by {}", preview.who, view.place, view.pool);
    let name = digest(&who, &settings, preview)?;
    let own = preview.folder.join(name);
    std::fs::create_dir_all(&own).map_err(Error::io(&own))?;
    let _lock = lock(&own.join(".lock"), preview)?;
    // What a killed process left.
    file::sweep(&own)?;
    let folder = own.join("learned");
    match read(&folder, &who, &settings) {
        Ok(Some(tensors)) => return Ok(tensors),
        Ok(None) => {}
        Err(error) => preview.watch.say(&format!("{error}\n  it is made anew")),
    }
    let tensors = make()?;
    let bytes = safetensors::serialize(&tensors, None).map_err(candle::Error::from)?;
    let manifest = Manifest { who, settings, blake3: blake3::hash(&bytes).to_hex().to_string() };
    let filled = Folder::new(&folder)?;
    filled.write(TENSORS, &bytes)?;
    let text =
        serde_json::to_vec_pretty(&manifest).map_err(|error| Error::setting("letkd", error.to_string()))?;
    filled.write(MANIFEST, &text)?;
    filled.place(None)?;
    Ok(tensors)
}

/// Held until it is dropped, or the process ends.
fn lock(path: &Path, preview: &Preview<'_>) -> Result<File> {
    let file =
        File::options().create(true).truncate(false).write(true).open(path).map_err(Error::io(path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            preview.watch.say("another process learns the same of this teacher: waiting for it");
        }
        Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
    }
    file.lock().map_err(Error::io(path))?;
    Ok(file)
}

fn digest(who: &str, settings: &serde_json::Value, preview: &Preview<'_>) -> Result<String> {
    let mut digest = blake3::Hasher::new();
    for text in [who, &settings.to_string()] {
        digest.update(&(text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    }
    let number = preview.images.info().train;
    digest.update(&(number as u64).to_le_bytes());
    let rows: Vec<u32> =
        (0..SAMPLE.min(number)).map(|at| (at * number / SAMPLE.min(number)) as u32).collect();
    for rows in rows.chunks(64) {
        let batch = preview.images.read(Split::Train, rows)?;
        for value in batch.images.flatten_all()?.to_vec1::<f32>()? {
            digest.update(&value.to_le_bytes());
        }
        for label in batch.labels.to_vec1::<u32>()? {
            digest.update(&label.to_le_bytes());
        }
    }
    Ok(digest.finalize().to_hex().to_string())
}

/// What stands in a folder, if it is of `who` under these settings; nothing, where there is none.
fn read(folder: &Path, who: &str, settings: &serde_json::Value) -> Result<Option<Tensors>> {
    if !folder.exists() {
        return Ok(None);
    }
    let torn = |name: &str, problem: &dyn std::fmt::Display| {
        Error::file(&folder.join(name), None, problem.to_string(), "delete the folder")
    };
    let bytes = std::fs::read(folder.join(MANIFEST)).map_err(|error| torn(MANIFEST, &error))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| torn(MANIFEST, &error))?;
    if manifest.who != who || manifest.settings != *settings {
        return Err(torn(MANIFEST, &"it tells of another teacher, other images or other settings"));
    }
    let bytes = std::fs::read(folder.join(TENSORS)).map_err(|error| torn(TENSORS, &error))?;
    if blake3::hash(&bytes).to_hex().as_str() != manifest.blake3 {
        return Err(torn(TENSORS, &"it is not what was written: its digest differs from the manifest's"));
    }
    Ok(Some(candle::safetensors::load_buffer(&bytes, &Device::Cpu)?.into_iter().collect()))
}
