use crate::content::Content;
use crate::decode::{fill, picture, picture_of};
use crate::files::{Files, Labelled};
use crate::hold::{hold, hold_out};
use crate::resample::resample;
use crate::{Fit, Images, Locations, Memory, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Dataset, DatasetInfo, Error, Key, PixelNorm, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders of PNG or JPEG files, a folder a class.
///
/// With `train/` in it, `train/<class>/` is learned from and `test/<class>/`, else `val/<class>/`, judged by; without,
/// a part of each class is set aside to judge by. All images must be of one size, unless `fit` brings them to one; then they
/// stay in their files and are decoded batch by batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ImageFolder {
    /// Its folder, as it is or below one that `SOKD_DATA_DIR` names.
    pub path: PathBuf,
    /// How images of any size come to one size. What is learned from may be cut out of the whole image instead, by
    /// `resized-crop` of `augment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
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
        Self { path: PathBuf::new(), fit: None, test_share: 0.2, search: 0, limit: None, seed: 0 }
    }
}

const REMEDY: &str = "mend or remove the file; images of any size want `fit`";
const LAYOUT: &str =
    "name a folder with train/<class>/ and test/<class>/, or with <class>/, of PNG or JPEG files";

/// The statistics of `ImageNet`, as torchvision's networks have them.
const IMAGENET: PixelNorm = PixelNorm { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

impl Source for ImageFolder {
    fn read(&self, locations: &Locations) -> Result<Memory> {
        let (classes, train, test) = self.find(locations)?;
        let (train, test) = self.read_both(&train, &test)?;
        let pixels = if self.fit.is_some() { IMAGENET } else { train.statistics() };
        Memory::new(&self.name(), classes, pixels, train, test)?.hold_out(self.search, self.limit, self.seed)
    }

    fn open(&self, locations: &Locations) -> Result<Arc<dyn Dataset>> {
        let Some(fit) = self.fit else { return Ok(Arc::new(self.read(locations)?)) };
        fit.check()?;
        let (classes, all, test) = self.find(locations)?;
        let labels: Vec<u32> = all.iter().map(|&(_, label)| label).collect();
        let (aside, kept) = hold_out(&labels, classes.len(), self.search, self.limit, self.seed)?;
        let (train, search) = (pick(&all, &kept), pick(&all, &aside));
        let info = DatasetInfo {
            name: self.name(),
            classes,
            size: fit.size(),
            // ours: the field's numbers for photographs. Their own would take every one of them decoded.
            pixels: IMAGENET,
            train: train.len(),
            search: search.len(),
            test: test.len(),
        };
        Ok(Arc::new(Files { info, fit, splits: [train, search, test], remedy: REMEDY }))
    }
}

fn pick(all: &[Labelled], rows: &[u32]) -> Vec<Labelled> {
    rows.iter().map(|&row| all[row as usize].clone()).collect()
}

impl ImageFolder {
    fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// What [`ImageFolder::files`] finds where the folder lies.
    fn find(&self, locations: &Locations) -> Result<(Vec<String>, Vec<Labelled>, Vec<Labelled>)> {
        if self.path.as_os_str().is_empty() {
            return Err(Error::setting("path", LAYOUT));
        }
        self.files(&locations.resolve(&self.path, "a folder of images", LAYOUT)?)
    }

    /// The classes, what to learn from and what to judge by.
    fn files(&self, root: &Path) -> Result<(Vec<String>, Vec<Labelled>, Vec<Labelled>)> {
        let below = |name: &str| Some(root.join(name)).filter(|folder| folder.is_dir());
        if let Some(train) = below("train") {
            let test = below("test").or_else(|| below("val")).ok_or_else(|| Error::Missing {
                path: root.join("test"),
                what: "the images to judge by, beside train/".into(),
                remedy: LAYOUT.into(),
            })?;
            if test.join("val_annotations.txt").is_file() {
                let problem = "this is the layout of Tiny-ImageNet's makers, not class folders";
                return Err(Error::file(&test, None, problem, "read it by `type = \"tiny-imagenet\"`"));
            }
            let classes = class_names(&train)?;
            if let Some(odd) = class_names(&test)?.iter().find(|name| !classes.contains(name)) {
                let problem = "a class that train/ does not have";
                return Err(Error::file(&test.join(odd), None, problem, "remove it, or add it to train/"));
            }
            let (train, test) = (labelled(&train, &classes, LAYOUT)?, labelled(&test, &classes, LAYOUT)?);
            return Ok((classes, train, test));
        }
        let classes = class_names(root)?;
        let all = labelled(root, &classes, LAYOUT)?;
        let labels: Vec<u32> = all.iter().map(|&(_, label)| label).collect();
        let aside = (all.len() as f64 * self.test_share).round() as usize;
        if !(0.0..1.0).contains(&self.test_share) || aside == 0 || aside >= all.len() {
            let problem = format!("{} of {} images is not between none and all", self.test_share, all.len());
            return Err(Error::setting("test-share", problem));
        }
        let (test, train) = hold(&labels, classes.len(), aside, None, Key::new(self.seed).fold("test share"));
        Ok((classes, pick(&all, &train), pick(&all, &test)))
    }

    fn read_both(&self, train: &[Labelled], test: &[Labelled]) -> Result<(Images, Images)> {
        let Some((first, _)) = train.first() else { return Err(Error::setting("path", LAYOUT)) };
        let size = match self.fit {
            Some(fit) => fit.check().map(|()| fit.size())?,
            None => picture(&Content::read(first, REMEDY)?)?.size,
        };
        let Some(fit) = self.fit else {
            return Ok((images(train, size, REMEDY)?, images(test, size, REMEDY)?));
        };
        let fitted = |(path, _): &Labelled| {
            let picture = picture(&Content::read(path, REMEDY)?)?;
            Ok(resample(&picture.pixels, picture.size, &fit.axes(picture.size)))
        };
        Ok((decoded(train, size, fitted)?, decoded(test, size, fitted)?))
    }
}

/// The pictures in files, all of one size.
pub(crate) fn images(files: &[Labelled], size: [usize; 2], remedy: &str) -> Result<Images> {
    decoded(files, size, |(path, _)| picture_of(&Content::read(path, remedy)?, size))
}

fn decoded(
    files: &[Labelled],
    size: [usize; 2],
    pixels: impl Fn(&Labelled) -> Result<Vec<u8>> + Sync,
) -> Result<Images> {
    let mut images = Images::of_size(size);
    images.labels = files.iter().map(|&(_, label)| label).collect();
    fill(&mut images, files, pixels)?;
    Ok(images)
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
pub(crate) fn labelled(folder: &Path, classes: &[String], remedy: &str) -> Result<Vec<Labelled>> {
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
            return Err(Error::Missing { path: place, what, remedy: remedy.into() });
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
