//! From a manifest to the files that lie here.

use crate::content::unpacked_name;
use crate::locations::{Locations, missing};
use crate::manifest::{Entry, ForUse, Form, Manifest};
use crate::shelf::Shelf;
use sokd_core::{Error, Result};
use std::path::{Path, PathBuf};

impl Manifest {
    /// The folder or archive that it would be read from.
    ///
    /// # Errors
    /// [`Error::Missing`] with the folders tried.
    pub fn place(&self, locations: &Locations) -> Result<PathBuf> {
        let files = || Ok(self.find(None, locations)?.place());
        if self.tree.is_some() {
            self.root(None, locations).or_else(|missing| files().or(Err(missing)))
        } else {
            files()
        }
    }

    /// The folder of a set that is a tree: at `path` if one is given, else in the first of `locations` that has it.
    ///
    /// # Errors
    /// [`Error::Missing`] with the folders tried.
    pub(crate) fn root(&self, path: Option<&Path>, locations: &Locations) -> Result<PathBuf> {
        let folders = match path {
            Some(path) => vec![locations.resolve(path, &self.title, &self.remedy())?],
            None => locations.folders().to_vec(),
        };
        let top = |place: &PathBuf| self.tree.as_ref().is_some_and(|file| place.join(file).is_file());
        folders.iter().flat_map(|folder| self.places(folder)).find(top).ok_or_else(|| {
            let tree = self.tree.as_deref().unwrap_or_default();
            missing(
                Path::new(&self.name),
                &format!("{} with its {tree}", self.title),
                &folders,
                &self.remedy(),
            )
        })
    }

    /// Its files: at `path` if one is given, else in the first of `locations` that has them.
    ///
    /// # Errors
    /// [`Error::Missing`] with the folders tried; it says so if one has a part only.
    pub(crate) fn shelf(&self, path: Option<&Path>, locations: &Locations) -> Result<Shelf> {
        self.find(path, locations)?.open(self)
    }

    /// The same, nothing of them read yet.
    pub(crate) fn find(&self, path: Option<&Path>, locations: &Locations) -> Result<Found> {
        let folders = match path {
            Some(path) => {
                let found = locations.resolve(path, &self.title, &self.remedy())?;
                if found.is_file() {
                    return Ok(Found::Archive(found));
                }
                vec![found]
            }
            None => locations.folders().to_vec(),
        };
        let mut partly = None;
        for place in folders.iter().flat_map(|folder| self.places(folder)).filter(|place| place.is_dir()) {
            let shelf = Shelf::folder(&place, &self.remedy())?;
            if self.form(&shelf).is_some() {
                return Ok(Found::Folder(shelf));
            }
            let there = |archive| {
                self.files
                    .iter()
                    .find(|entry| (entry.form == Form::Archive) == archive && shelf.has(entry.stem()))
            };
            if let Some(archive) = there(true).and_then(|entry| shelf.on_disk(entry.stem())) {
                return Ok(Found::Archive(archive.to_owned()));
            }
            partly = partly.or(there(false).map(|_| self.incomplete(&shelf)));
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
        let (words, all): (&[&str], _) = match part {
            ForUse::Train => (&["train"], self.train),
            // Of a set whose test labels nobody knows, the validation images are what is judged by.
            ForUse::Test if self.tree.is_some() => (&["valid", "validation"], self.test),
            ForUse::Test => (&["test"], self.test),
        };
        if form == Form::Parquet {
            // The Hub has changed its file names more than once; what stays is that they begin with the split.
            let split = |name: &str| words.contains(&name.split(['-', '.']).next().unwrap_or(name));
            let shard = |name: &&str| name.ends_with(".parquet") && split(name);
            return shelf.names().filter(shard).map(|name| (name.to_owned(), None)).collect();
        }
        let mut found = Vec::new();
        let mut images = 0;
        for entry in self.files.iter().filter(|entry| entry.form == form && entry.part == Some(part)) {
            // A whole beside its own halves counts once.
            if images < all && shelf.has(entry.stem()) {
                images += entry.images.unwrap_or(0);
                found.push((entry.stem().to_owned(), entry.images));
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

/// Where a release lies.
pub(crate) enum Found {
    /// In a folder.
    Folder(Shelf),
    /// In the archive that it is handed round in.
    Archive(PathBuf),
}

impl Found {
    /// The folder or archive.
    fn place(self) -> PathBuf {
        match self {
            Self::Folder(shelf) => shelf.place,
            Self::Archive(path) => path,
        }
    }

    /// Its files.
    ///
    /// # Errors
    /// [`Error::File`] for an archive that cannot be read.
    pub fn open(self, manifest: &Manifest) -> Result<Shelf> {
        match self {
            Self::Folder(shelf) => Ok(shelf),
            Self::Archive(path) => Shelf::archive(&path, &manifest.remedy()),
        }
    }

    /// The files that its images come from; none where all of them lie there as they are.
    pub fn packed(&self, manifest: &Manifest) -> Vec<PathBuf> {
        let shelf = match self {
            Self::Archive(path) => return vec![path.clone()],
            Self::Folder(shelf) => shelf,
        };
        let Some(form) = manifest.form(shelf) else { return Vec::new() };
        let parts = [ForUse::Train, ForUse::Test].map(|part| manifest.parts(shelf, form, part)).concat();
        let paths = parts.iter().filter_map(|(name, _)| shelf.on_disk(name).map(Path::to_owned));
        let files: Vec<PathBuf> = paths.collect();
        let is_packed = |file: &PathBuf| file.to_str().is_some_and(|name| unpacked_name(name) != name);
        if form == Form::Parquet || files.iter().any(is_packed) { files } else { Vec::new() }
    }
}

impl Entry {
    /// The name under which a [`Shelf`] knows the file.
    pub(crate) fn stem(&self) -> &str {
        unpacked_name(&self.name)
    }
}
