use crate::DataSpec;
use crate::locations::Locations;
use crate::manifest::{Entry, Form, Manifest};
use md5::Md5;
use sha2::{Digest, Sha256};
use sokd_core::{Dataset, Error, Result};
use std::path::{Path, PathBuf};

/// What [`verify`] found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The data set.
    pub name: String,
    /// The folder or archive that it is read from.
    pub place: PathBuf,
    /// Its files, in the order of the manifest; none, where no digest is on record.
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

/// Compares the files of a data set with the digests on record, and reads them all; a tree of images is only read.
///
/// # Errors
/// [`Error::Setting`] for a name without a manifest, [`Error::Missing`] where there is nothing to check. A file with
/// another digest is no error but a [`Verdict::Wrong`], as long as it can be read.
pub fn verify(name: &str, locations: &Locations) -> Result<Report> {
    let Some((manifest, spec)) = Manifest::named(name).zip(DataSpec::named(name)) else {
        let known = Manifest::all().iter().filter(|manifest| manifest.tree.is_none());
        let known: Vec<&str> = known.map(|manifest| manifest.name.as_str()).collect();
        let problem = format!("no digests are on record for `{name}`; they are for {}", known.join(", "));
        return Err(Error::setting("data verify", problem));
    };
    if manifest.tree.is_some() {
        let (place, info) = (manifest.place(locations)?, spec.open(locations)?.info().clone());
        let (train, test) = (info.train, info.test);
        return Ok(Report { name: name.to_owned(), place, checks: Vec::new(), train, test });
    }
    let mut shelf = manifest.shelf(None, locations)?;
    let mut checks = Vec::new();
    if shelf.place.is_file() {
        let official = manifest.files.iter().find(|entry| is_called(&shelf.place, entry));
        checks.extend(official.map(|entry| check_file(entry, &shelf.place)).transpose()?);
    }
    let on_disk = |entry: &&Entry| shelf.on_disk(entry.stem()).is_some();
    let entries: Vec<&Entry> = manifest.files.iter().filter(on_disk).collect();
    // A manifest that names a packed file means its bytes; one that names what is inside means that.
    let inside = |entry: &&&Entry| {
        entry.name == entry.stem() && !shelf.on_disk(entry.stem()).is_some_and(|path| is_called(path, entry))
    };
    let packed: Vec<&str> = entries.iter().filter(inside).map(|entry| entry.stem()).collect();
    shelf.load(&packed)?;
    for entry in entries {
        checks.push(match (shelf.read(entry.stem()), shelf.on_disk(entry.stem())) {
            (Some(content), _) => check(entry, &content.path, &content.bytes),
            (None, Some(path)) => check_file(entry, path)?,
            (None, None) => continue,
        });
    }
    let place = shelf.place.clone();
    let info = match manifest.form(&shelf) {
        Some(Form::Idx) => spec.open(locations)?.info().clone(),
        // What was unpacked for its digest is not unpacked again.
        _ => crate::cifar::read(manifest, shelf, None)?.info().clone(),
    };
    Ok(Report { name: name.to_owned(), place, checks, train: info.train, test: info.test })
}

fn is_called(path: &Path, entry: &Entry) -> bool {
    path.file_name().is_some_and(|name| name == entry.name.as_str())
}

fn check_file(entry: &Entry, path: &Path) -> Result<Check> {
    let mut check = check(entry, path, &std::fs::read(path).map_err(Error::io(path))?);
    if !is_called(path, entry) {
        // On record is the packed file, and this is what came out of it.
        check.verdict = Verdict::Unknown;
    }
    Ok(check)
}

fn check(entry: &Entry, path: &Path, bytes: &[u8]) -> Check {
    let sha256 = hex(&Sha256::digest(bytes));
    let verdict = verdict(entry, &sha256, bytes);
    Check { path: path.to_owned(), sha256, verdict }
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
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[digit as usize]))
        .collect()
}
