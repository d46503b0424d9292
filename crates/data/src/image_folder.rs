use crate::content::Content;
use crate::decode::{fill, picture, picture_of};
use crate::hold::hold;
use crate::{Images, Locations, Memory, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Error, Key, Result};
use std::path::{Path, PathBuf};

/// Folders of PNG or JPEG files, a folder a class.
///
/// With `train/` in it, `train/<class>/` is learned from and `test/<class>/`, else `val/<class>/`, judged by; without,
/// a part of each class is set aside to judge by. All images must be of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ImageFolder {
    /// Its folder, as it is or below one that `SOKD_DATA_DIR` names.
    pub path: PathBuf,
    /// The share of the images that is set aside to judge by, where no folder holds them; each class in proportion.
    pub test_share: f64,
    /// Training images held out for policies and for choosing, each class in proportion.
    pub search: usize,
    /// At most so many images of each class to learn from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Decides which images `test-share`, `search` and `limit` take.
    pub seed: u64,
}

impl Default for ImageFolder {
    fn default() -> Self {
        // ours: a fifth to judge by.
        Self { path: PathBuf::new(), test_share: 0.2, search: 0, limit: None, seed: 0 }
    }
}

const REMEDY: &str = "mend or remove the file";
const LAYOUT: &str =
    "name a folder with train/<class>/ and test/<class>/, or with <class>/, of PNG or JPEG files";

impl Source for ImageFolder {
    fn read(&self, locations: &Locations) -> Result<Memory> {
        if self.path.as_os_str().is_empty() {
            return Err(Error::setting("path", LAYOUT));
        }
        let root = locations.resolve(&self.path, "a folder of images", LAYOUT)?;
        let (classes, train, test) = self.files(&root)?;
        let (train, test) = read_both(&train, &test)?;
        let name = self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy();
        let pixels = train.statistics();
        Memory::new(&name, classes, pixels, train, test)?.hold_out(self.search, self.limit, self.seed)
    }
}

/// A file and its class.
type Labelled = (PathBuf, u32);

impl ImageFolder {
    /// The classes, what to learn from and what to judge by.
    fn files(&self, root: &Path) -> Result<(Vec<String>, Vec<Labelled>, Vec<Labelled>)> {
        let below = |name: &str| Some(root.join(name)).filter(|folder| folder.is_dir());
        if let Some(train) = below("train") {
            let test = below("test").or_else(|| below("val")).ok_or_else(|| Error::Missing {
                path: root.join("test"),
                what: "the images to judge by, beside train/".into(),
                remedy: LAYOUT.into(),
            })?;
            let classes = class_names(&train)?;
            if let Some(odd) = class_names(&test)?.iter().find(|name| !classes.contains(name)) {
                let problem = "a class that train/ does not have";
                return Err(Error::file(&test.join(odd), None, problem, "remove it, or add it to train/"));
            }
            let (train, test) = (labelled(&train, &classes)?, labelled(&test, &classes)?);
            return Ok((classes, train, test));
        }
        let classes = class_names(root)?;
        let all = labelled(root, &classes)?;
        let labels: Vec<u32> = all.iter().map(|&(_, label)| label).collect();
        let aside = (all.len() as f64 * self.test_share).round() as usize;
        if !(0.0..1.0).contains(&self.test_share) || aside == 0 || aside >= all.len() {
            let problem = format!("{} of {} images is not between none and all", self.test_share, all.len());
            return Err(Error::setting("test-share", problem));
        }
        let (test, train) = hold(&labels, classes.len(), aside, None, Key::new(self.seed).fold("test share"));
        let pick = |rows: Vec<u32>| rows.into_iter().map(|row| all[row as usize].clone()).collect();
        Ok((classes, pick(train), pick(test)))
    }
}

/// The names of the folders in `folder`, in order.
fn class_names(folder: &Path) -> Result<Vec<String>> {
    let names: Vec<String> = entries(folder)?
        .into_iter()
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    if names.is_empty() {
        let what = "it holds no folder, so there is no class".into();
        return Err(Error::Missing { path: folder.to_owned(), what, remedy: LAYOUT.into() });
    }
    Ok(names)
}

/// The image files of every class, class by class, in order of their paths.
fn labelled(folder: &Path, classes: &[String]) -> Result<Vec<Labelled>> {
    let mut all = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let place = folder.join(class);
        if !place.is_dir() {
            continue;
        }
        let before = all.len();
        gather(&place, label as u32, &mut all)?;
        if all.len() == before {
            let what = "it holds no PNG or JPEG".into();
            return Err(Error::Missing { path: place, what, remedy: LAYOUT.into() });
        }
    }
    Ok(all)
}

/// Some sets keep another folder between the class and its images.
fn gather(folder: &Path, label: u32, into: &mut Vec<Labelled>) -> Result<()> {
    for path in entries(folder)? {
        let end = path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase);
        if path.is_dir() {
            gather(&path, label, into)?;
        } else if matches!(end.as_deref(), Some("png" | "jpg" | "jpeg")) {
            into.push((path, label));
        }
    }
    Ok(())
}

/// What lies in a folder, in the order of the names, without what is hidden.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_both(train: &[Labelled], test: &[Labelled]) -> Result<(Images, Images)> {
    let Some((first, _)) = train.first() else { return Err(Error::setting("path", LAYOUT)) };
    let size = picture(&Content::read(first, REMEDY)?)?.size;
    let read = |files: &[Labelled]| -> Result<Images> {
        let mut images = Images::of_size(size);
        images.labels = files.iter().map(|&(_, label)| label).collect();
        fill(&mut images, files, |(path, _)| picture_of(&Content::read(path, REMEDY)?, size))?;
        Ok(images)
    };
    Ok((read(train)?, read(test)?))
}
