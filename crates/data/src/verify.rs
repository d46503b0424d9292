use crate::DataSpec;
use crate::content::unpacked_name;
use crate::locations::Locations;
use crate::manifest::{Entry, Manifest};
use md5::Md5;
use sha2::{Digest, Sha256};
use sokd_core::{Error, Result};
use std::path::{Path, PathBuf};

/// What [`verify`] found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The data set.
    pub name: String,
    /// The folder or archive that it is read from.
    pub place: PathBuf,
    /// Its files, in the order of the manifest.
    pub checks: Vec<Check>,
    /// Training images that could be read.
    pub train: usize,
    /// Test images that could be read.
    pub test: usize,
}

/// One file, and whether it is what it claims to be.
#[derive(Clone, Debug)]
pub struct Check {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of what the manifest describes: the file, or its content where it is packed.
    pub sha256: String,
    /// What the manifest says to that.
    pub verdict: Verdict,
}

/// What a manifest says to a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one on record.
    Right,
    /// Another is on record.
    Wrong {
        /// The one on record.
        expected: String,
    },
    /// None is on record.
    Unknown,
}

impl Report {
    /// Whether no file contradicts the record.
    pub fn is_right(&self) -> bool {
        self.checks.iter().all(|check| !matches!(check.verdict, Verdict::Wrong { .. }))
    }
}

/// Compares the files of a data set with the digests on record, and reads them all.
///
/// # Errors
/// [`Error::Setting`] for a name without a manifest, [`Error::Missing`] where there is nothing to check. A file with
/// another digest is no error but a [`Verdict::Wrong`], as long as it can be read.
pub fn verify(name: &str, locations: &Locations) -> Result<Report> {
    let Some((manifest, spec)) = Manifest::named(name).zip(DataSpec::named(name)) else {
        let known: Vec<&str> = Manifest::all().iter().map(|manifest| manifest.name.as_str()).collect();
        let problem = format!("no digests are on record for `{name}`; they are for {}", known.join(", "));
        return Err(Error::setting("data verify", problem));
    };
    let shelf = manifest.shelf(None, locations)?;
    let mut checks = Vec::new();
    if shelf.place.is_file() {
        checks.extend(check(manifest, &shelf.place)?);
    } else {
        for entry in &manifest.files {
            if let Some(path) = shelf.on_disk(entry.stem()) {
                checks.extend(check(manifest, path)?);
            }
        }
    }
    let place = shelf.place.clone();
    drop(shelf);
    let info = spec.open(locations)?.info().clone();
    Ok(Report { name: name.to_owned(), place, checks, train: info.train, test: info.test })
}

/// The check of one file; none where the manifest does not know its name.
fn check(manifest: &Manifest, path: &Path) -> Result<Option<Check>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let entry = |name: &str| manifest.files.iter().find(|entry| entry.name == name);
    // A manifest that names the packed file means its bytes; one that names what is inside means that.
    let (entry, bytes) = if let Some(entry) = entry(&name) {
        (entry, std::fs::read(path).map_err(Error::io(path))?)
    } else if let Some(entry) = entry(unpacked_name(&name)) {
        (entry, crate::content::Content::read(path, &manifest.remedy())?.bytes)
    } else {
        return Ok(None);
    };
    let sha256 = hex(&Sha256::digest(&bytes));
    let verdict = verdict(entry, &sha256, &bytes);
    Ok(Some(Check { path: path.to_owned(), sha256, verdict }))
}

fn verdict(entry: &Entry, sha256: &str, bytes: &[u8]) -> Verdict {
    let (found, expected) = match (&entry.sha256, &entry.md5) {
        (Some(expected), _) => (sha256.to_owned(), expected),
        (None, Some(expected)) => (hex(&Md5::digest(bytes)), expected),
        (None, None) => return Verdict::Unknown,
    };
    if found == *expected { Verdict::Right } else { Verdict::Wrong { expected: expected.clone() } }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
