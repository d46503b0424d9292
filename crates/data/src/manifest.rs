use crate::locations::{Locations, missing};
use crate::shelf::Shelf;
use serde::Deserialize;
use sokd_core::{Error, PixelNorm, Result};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// What is on record about a published data set: who made it, under which licence, which files it comes in and
/// their digests. Compiled in from `datasets/<name>.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// How recipes call it.
    pub name: String,
    /// How people call it.
    pub title: String,
    /// The page of those who made it.
    pub home: String,
    /// What to cite.
    pub citation: String,
    /// What its makers allow.
    pub licence: String,
    /// The repository on the Hugging Face Hub that holds it as parquet.
    pub hub: Option<String>,
    /// Height and width of its images.
    pub size: [usize; 2],
    /// How many images it has to learn from.
    pub train: usize,
    /// How many images it has to judge by.
    pub test: usize,
    /// The classes' names, by label.
    pub classes: Vec<String>,
    /// What networks trained on it subtract and divide by, and who says so.
    pub pixels: Statistics,
    /// Folders that the official archives unpack to.
    pub folders: Vec<String>,
    /// The files that it comes in.
    #[serde(rename = "file")]
    pub files: Vec<Entry>,
}

/// Published pixel statistics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Of red, green and blue, in [0, 1].
    pub mean: [f32; 3],
    /// Of red, green and blue, in [0, 1].
    pub std: [f32; 3],
    /// Where the numbers come from.
    pub source: String,
}

impl From<&Statistics> for PixelNorm {
    fn from(statistics: &Statistics) -> Self {
        Self { mean: statistics.mean, std: statistics.std }
    }
}

/// One file of a data set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name, without folders.
    pub name: String,
    /// How it is written.
    pub form: Form,
    /// What its images are for; archives hold both.
    pub part: Option<ForUse>,
    /// How many images it holds.
    pub images: Option<usize>,
    /// Where `sokd data fetch` gets it.
    pub url: Option<String>,
    /// Its length.
    pub bytes: Option<u64>,
    /// Its digest, as its makers published it or as ours of the same file.
    pub md5: Option<String>,
    /// The same, stronger.
    pub sha256: Option<String>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A `.tar.gz` of other files.
    Archive,
    /// The CIFAR binary release: labels, then planes of red, green, blue.
    Binary,
    /// The CIFAR python release: a pickled dict.
    Pickle,
    /// The Hub's: PNG in a column.
    Parquet,
    /// The MNIST family's.
    Idx,
}

/// What the images of a file are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForUse {
    /// To learn from.
    Train,
    /// To judge by.
    Test,
}

static ALL: LazyLock<[Manifest; 4]> = LazyLock::new(|| {
    let texts = [
        include_str!("../../../datasets/cifar10.toml"),
        include_str!("../../../datasets/cifar100.toml"),
        include_str!("../../../datasets/fashion-mnist.toml"),
        include_str!("../../../datasets/mnist.toml"),
    ];
    texts.map(|text| toml::from_str(text).expect("manifests are compiled in, and a test reads them"))
});

impl Manifest {
    /// All of them.
    pub fn all() -> &'static [Self] {
        &*ALL
    }

    pub(crate) fn cifar10() -> &'static Self {
        &ALL[0]
    }

    pub(crate) fn cifar100() -> &'static Self {
        &ALL[1]
    }

    /// The manifest of a data set, if it has one.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|manifest| manifest.name == name)
    }

    /// The files that make the whole data set, with their addresses.
    pub fn to_fetch(&self) -> impl Iterator<Item = &Entry> {
        self.files.iter().filter(|entry| entry.url.is_some())
    }

    /// What to do when it is missing or broken.
    pub fn remedy(&self) -> String {
        format!(
            "fetch it again: `sokd data fetch {}`, or set {} to the folder that holds it",
            self.name,
            crate::DATA_DIR
        )
    }

    /// Its files: at `path` if one is given, else in the first of `locations` that has them.
    ///
    /// # Errors
    /// [`Error::Missing`] with the folders tried; it says so if one has a part only.
    pub(crate) fn shelf(&self, path: Option<&Path>, locations: &Locations) -> Result<Shelf> {
        let folders = match path {
            Some(path) => {
                let found = locations.resolve(path, &self.title, &self.remedy())?;
                if found.is_file() {
                    return Shelf::archive(&found, &self.remedy());
                }
                vec![found]
            }
            None => locations.folders().to_vec(),
        };
        let mut partly = None;
        for place in folders.iter().flat_map(|folder| self.places(folder)).filter(|place| place.is_dir()) {
            let shelf = Shelf::folder(&place, &self.remedy())?;
            if self.form(&shelf).is_some() {
                return Ok(shelf);
            }
            let archive = |entry: &&Entry| entry.form == Form::Archive && shelf.has(stem(&entry.name));
            if let Some(archive) = self.files.iter().find(archive) {
                return Shelf::archive(&place.join(&archive.name), &self.remedy());
            }
            let some = self.files.iter().find(|entry| entry.part.is_some() && shelf.has(stem(&entry.name)));
            partly = partly.or(some.map(|_| self.incomplete(&shelf)));
        }
        Err(partly.unwrap_or_else(|| missing(Path::new(&self.name), &self.title, &folders, &self.remedy())))
    }

    /// Files that are not all there.
    pub(crate) fn incomplete(&self, shelf: &Shelf) -> Error {
        let there: Vec<&str> = shelf.names().collect();
        Error::Missing {
            path: shelf.place.clone(),
            what: format!(
                "{} needs images to learn from and images to judge by; there is {}",
                self.title,
                there.join(", ")
            ),
            remedy: self.remedy(),
        }
    }

    /// The first form of which the shelf has files both to learn from and to judge by.
    pub(crate) fn form(&self, shelf: &Shelf) -> Option<Form> {
        let has = |form, part| !self.parts(shelf, form, part).is_empty();
        let forms = [Form::Binary, Form::Pickle, Form::Parquet, Form::Idx];
        forms.into_iter().find(|&form| has(form, ForUse::Train) && has(form, ForUse::Test))
    }

    /// The files of a form and part that the shelf has, in the order in which their images count, and how many
    /// images each should hold where that is on record.
    pub(crate) fn parts(&self, shelf: &Shelf, form: Form, part: ForUse) -> Vec<(String, Option<usize>)> {
        let (word, all) = match part {
            ForUse::Train => ("train", self.train),
            ForUse::Test => ("test", self.test),
        };
        if form == Form::Parquet {
            // The Hub has changed its file names more than once; what stays is that they name the split.
            let shard = |name: &&str| name.ends_with(".parquet") && name.contains(word);
            return shelf.names().filter(shard).map(|name| (name.to_owned(), None)).collect();
        }
        let mut found = Vec::new();
        let mut images = 0;
        for entry in self.files.iter().filter(|entry| entry.form == form && entry.part == Some(part)) {
            // A whole beside its own halves counts once.
            if images < all && shelf.has(stem(&entry.name)) {
                images += entry.images.unwrap_or(0);
                found.push((stem(&entry.name).to_owned(), entry.images));
            }
        }
        found
    }

    /// Places in `folder` where the files may lie.
    fn places(&self, folder: &Path) -> Vec<PathBuf> {
        let roots = [folder.join(&self.name), folder.to_owned()];
        let below = |root: &PathBuf| self.folders.iter().map(|name| root.join(name)).collect::<Vec<_>>();
        roots.iter().flat_map(|root| std::iter::once(root.clone()).chain(below(root))).collect()
    }
}

/// The name under which a [`Shelf`] knows a file.
pub(crate) fn stem(name: &str) -> &str {
    crate::content::unpacked_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_is_whole() {
        for manifest in Manifest::all() {
            assert!(!manifest.classes.is_empty() && !manifest.licence.is_empty(), "{}", manifest.name);
            assert!(manifest.to_fetch().next().is_some(), "{} cannot be fetched", manifest.name);
            for entry in &manifest.files {
                let hex = |digest: &str, digits| {
                    digest.len() == digits
                        && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                };
                assert!(entry.sha256.iter().all(|digest| hex(digest, 64)), "{}", entry.name);
                assert!(entry.md5.iter().all(|digest| hex(digest, 32)), "{}", entry.name);
                assert_eq!(entry.form == Form::Archive, entry.part.is_none(), "{}", entry.name);
                assert!(
                    entry.url.is_none() || (entry.sha256.is_some() && entry.bytes.is_some()),
                    "{}",
                    entry.name
                );
            }
        }
    }
}
