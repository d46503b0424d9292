//! What a teacher says of the test images: asked once, and kept beside the run, which pays for it no second time.

use crate::summary::Taught;
use serde::{Deserialize, Serialize};
use sokd_core::{Batches, Result};
use std::path::Path;

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
    /// What a run directory keeps of it, if it is about the same teacher and images. A file that cannot be read is as
    /// good as none: the teacher can be asked again.
    pub fn kept(dir: &Path, of: &str) -> Option<Self> {
        let text = std::fs::read(dir.join(FILE)).ok()?;
        serde_json::from_slice(&text).ok().filter(|said: &Self| said.of == of)
    }
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
