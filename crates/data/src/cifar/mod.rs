//! CIFAR-10 and CIFAR-100, from any of the forms that they are handed round in.

mod binary;
mod pickle;
mod records;

use crate::manifest::{ForUse, Form, Manifest};
use crate::shelf::Shelf;
use crate::{Images, Locations, Memory, Source, parquet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::Result;
use std::path::PathBuf;

/// Ten classes of small photographs: 50,000 to learn from, 10,000 to judge by.
///
/// # Source
/// Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Cifar10(pub Cifar);

/// A hundred classes, as many photographs; the benchmark of the field.
///
/// # Source
/// Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Cifar100(pub Cifar);

/// Which part of a CIFAR set: read from its binary or python release, unpacked or as the official archive, or from
/// the Hub's parquet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Cifar {
    /// Its folder or archive; without one, `SOKD_DATA_DIR` and the cache are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Training images held out for policies and for choosing, each class in proportion.
    pub search: usize,
    /// At most so many images of each class to learn from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Decides which images `search` and `limit` take.
    pub seed: u64,
}

impl Source for Cifar10 {
    fn read(&self, locations: &Locations) -> Result<Memory> {
        self.0.read(Manifest::cifar10(), locations)
    }
}

impl Source for Cifar100 {
    fn read(&self, locations: &Locations) -> Result<Memory> {
        self.0.read(Manifest::cifar100(), locations)
    }
}

impl Cifar {
    fn read(&self, manifest: &Manifest, locations: &Locations) -> Result<Memory> {
        let shelf = manifest.shelf(self.path.as_deref(), locations)?;
        read(manifest, shelf)?.hold_out(self.search, self.limit, self.seed)
    }
}

/// The whole of a CIFAR set from the files of a shelf.
fn read(manifest: &Manifest, mut shelf: Shelf) -> Result<Memory> {
    let form = manifest.form(&shelf).ok_or_else(|| manifest.incomplete(&shelf))?;
    let mut part = |part: ForUse| -> Result<Images> {
        let mut images = Images::of_size(manifest.size);
        for (name, expected) in manifest.parts(&shelf, form, part) {
            match form {
                Form::Parquet => parquet::read(&mut shelf, &name, manifest, &mut images)?,
                Form::Pickle => pickle::read(&shelf.take(&name)?, manifest, &mut images)?,
                _ => binary::read(&shelf.take(&name)?, expected, manifest, &mut images)?,
            }
        }
        Ok(images)
    };
    let (train, test) = (part(ForUse::Train)?, part(ForUse::Test)?);
    Memory::new(&manifest.name, manifest.classes.clone(), (&manifest.pixels).into(), train, test)
}

#[cfg(test)]
mod tests;
