//! What a teacher says of the test images: asked once, and kept beside the run, and for all others that have the same teacher
//! and images.

use crate::rundir;
use crate::summary::Taught;
use serde::{Deserialize, Serialize};
use sokd_core::{Batches, Result, file};
use std::path::{Path, PathBuf};

/// Where a run keeps it.
pub const FILE: &str = "teacher.json";

/// What a teacher says of the test images, and how often it is right.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Said {
    /// The digest of who was asked, and of every pixel and label that it was asked about.
    pub of: String,
    /// Who it is, and how good.
    pub taught: Taught,
    /// Its guess for each image, in order.
    pub guesses: Vec<u32>,
}

impl Said {
    /// What a run directory keeps of it, or what another run has learned, if it is about the same teacher and images. A file that
    /// cannot be read is as good as none: the teacher can be asked again.
    pub fn kept(dir: &Path, of: &str) -> Option<Self> {
        let read = |path: &Path| {
            let text = std::fs::read(path).ok()?;
            serde_json::from_slice(&text).ok().filter(|said: &Self| said.of == of)
        };
        read(&dir.join(FILE)).or_else(|| read(&shared(of)))
    }

    /// Keeps it for other runs. Where it cannot be kept, they ask again.
    pub fn share(&self) {
        let path = shared(&self.of);
        let folder = path.parent().unwrap_or(&path);
        if let (Ok(()), Ok(text)) = (std::fs::create_dir_all(folder), serde_json::to_vec(self)) {
            file::write(&path, &text).ok();
        }
    }
}

fn shared(of: &str) -> PathBuf {
    rundir::previews().join(of).join(FILE)
}

/// The digest of a teacher, told apart by `who`, and of the images that it is asked about.
///
/// # Errors
/// Images that cannot be read.
pub fn digest(who: &str, images: &dyn Batches) -> Result<String> {
    let mut digest = blake3::Hasher::new();
    digest.update(who.as_bytes());
    for batch in images.epoch(0, 0) {
        let batch = batch?;
        let pixels = batch.images.flatten_all()?.to_vec1::<f32>()?;
        digest.update(&pixels.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>());
        let labels = batch.labels.to_vec1::<u32>()?;
        digest.update(&labels.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    }
    Ok(digest.finalize().to_hex().to_string())
}
