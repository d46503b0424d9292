//! CIFAR-10 and CIFAR-100, from any of the forms that they are handed round in.

mod binary;
mod pickle;

use crate::decode::cores;
use crate::manifest::{ForUse, Form, Manifest};
use crate::shelf::Shelf;
use crate::unpacked::kept;
use crate::{Images, Locations, Memory, Source, parquet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Error, Result};
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
    /// Only so many training images, the first in the order of the release: 10,000 of CIFAR-10 are `data_batch_1`. A
    /// recipe that says so means the same images on a machine that has all of them and on one that has a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<usize>,
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
        let found = manifest.find(self.path.as_deref(), locations)?;
        let unpacked = kept(locations, (&manifest.name, manifest.size), &found.packed(manifest), || {
            images(manifest, found.open(manifest)?)
        });
        memory(manifest, unpacked?, self.first)?.hold_out(self.search, self.limit, self.seed)
    }
}

/// A CIFAR set from the files of a shelf, with the first of its training images or all that are there.
pub(crate) fn read(manifest: &Manifest, shelf: Shelf, first: Option<usize>) -> Result<Memory> {
    memory(manifest, images(manifest, shelf)?, first)
}

/// The images to learn from and to judge by.
fn images(manifest: &Manifest, mut shelf: Shelf) -> Result<[Images; 2]> {
    let form = manifest.form(&shelf).ok_or_else(|| manifest.incomplete(&shelf))?;
    let parts = |part| manifest.parts(&shelf, form, part).into_iter().map(move |file| (part, file));
    let files: Vec<_> = parts(ForUse::Train).chain(parts(ForUse::Test)).collect();
    let (mut train, mut test) = (Images::of_size(manifest.size), Images::of_size(manifest.size));
    for some in files.chunks(cores()) {
        if form != Form::Parquet {
            shelf.load(&some.iter().map(|(_, (name, _))| name.as_str()).collect::<Vec<_>>())?;
        }
        for (part, (name, expected)) in some {
            let images = if *part == ForUse::Train { &mut train } else { &mut test };
            match form {
                Form::Parquet => {
                    parquet::read(&shelf, name, (manifest, manifest.classes.len()), images)?;
                }
                Form::Pickle => pickle::read(&shelf.take(name)?, manifest, images)?,
                _ => binary::read(&shelf.take(name)?, *expected, manifest, images)?,
            }
        }
    }
    Ok([train, test])
}

fn memory(manifest: &Manifest, [mut train, test]: [Images; 2], first: Option<usize>) -> Result<Memory> {
    if let Some(first) = first {
        if first > train.len() {
            let problem = format!("{first} training images are asked for, and {} are there", train.len());
            return Err(Error::setting("first", problem));
        }
        train.pixels.truncate(first * train.stride());
        train.labels.truncate(first);
    }
    Memory::new(&manifest.name, manifest.classes.clone(), (&manifest.pixels).into(), train, test)
}

/// Appends an image that lies in planes: all its red, then all its green, then all its blue.
fn push_planes(images: &mut Images, planes: &[u8], label: u32) {
    let plane = images.size[0] * images.size[1];
    let (red, rest) = planes.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    let before = images.pixels.len();
    images.pixels.resize(before + planes.len(), 0);
    let colours = red.iter().zip(green).zip(blue);
    for (pixel, ((&red, &green), &blue)) in images.pixels[before..].chunks_exact_mut(3).zip(colours) {
        pixel.copy_from_slice(&[red, green, blue]);
    }
    images.labels.push(label);
}

#[cfg(test)]
mod tests;
