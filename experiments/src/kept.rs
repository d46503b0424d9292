//! What the runs of one process share, so that a table reads its images and asks its teachers once.

use crate::progress::Stage;
use crate::said::Said;
use crate::{Result, hub};
use sokd_core::Dataset;
use sokd_data::DataSpec;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was read and asked before.
#[derive(Default)]
pub struct Kept {
    images: Mutex<Vec<(DataSpec, Arc<dyn Dataset>)>>,
    digests: Mutex<Vec<(DataSpec, String)>>,
    said: Mutex<Vec<(String, Arc<Said>)>>,
}

impl Kept {
    /// A data set, read or drawn when it is first asked for.
    ///
    /// # Errors
    /// As [`hub::open`].
    pub fn open(&self, spec: &DataSpec, stage: &Stage) -> Result<Arc<dyn Dataset>> {
        let mut images = held(&self.images);
        if let Some((_, dataset)) = images.iter().find(|(known, _)| known == spec) {
            return Ok(Arc::clone(dataset));
        }
        let dataset = hub::open(spec, stage)?;
        images.push((spec.clone(), Arc::clone(&dataset)));
        Ok(dataset)
    }

    /// The digest of a data set: of every image and label where it lies in memory, of its files' names where not.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn digest(&self, spec: &DataSpec, stage: &Stage) -> Result<String> {
        let dataset = self.open(spec, stage)?;
        let mut digests = held(&self.digests);
        if let Some((_, digest)) = digests.iter().find(|(known, _)| known == spec) {
            return Ok(digest.clone());
        }
        let mut digest = blake3::Hasher::new();
        dataset.show(&mut |bytes| _ = digest.update(bytes))?;
        let digest = digest.finalize().to_hex().to_string();
        digests.push((spec.clone(), digest.clone()));
        Ok(digest)
    }

    /// What a teacher says, asked when it is first wanted. `key` tells teachers, their weights and their images apart.
    ///
    /// # Errors
    /// As `ask`.
    pub fn ask(&self, key: &str, ask: impl FnOnce() -> Result<Said>) -> Result<Arc<Said>> {
        let mut said = held(&self.said);
        if let Some((_, known)) = said.iter().find(|(known, _)| known == key) {
            return Ok(Arc::clone(known));
        }
        let answer = Arc::new(ask()?);
        said.push((key.to_owned(), Arc::clone(&answer)));
        Ok(answer)
    }
}

/// What a thread that panicked left is whole: entries are added last.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = held(&self.images).iter().map(|(spec, _)| spec.name()).collect();
        out.debug_struct("Kept").field("images", &names).finish_non_exhaustive()
    }
}
