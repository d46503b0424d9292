//! Tiny-ImageNet, as its makers lay it out or as the Hub has it.

use crate::content::Content;
use crate::files::Labelled;
use crate::hold::hold;
use crate::image_folder::{images, labelled};
use crate::manifest::{ForUse, Form, Manifest};
use crate::shelf::Shelf;
use crate::{Images, Locations, Memory, Source, parquet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Error, Key, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Two hundred classes of photographs of 64 × 64 pixels: 100,000 to learn from, and 10,000 to judge by, which its makers call
/// validation. The labels of what they call test are not public.
///
/// Classes are in the order of their synsets, as torchvision's class folders have them, and called by the first word that
/// `words.txt` has for them. The Hub's parquet has the same order, and calls them by their synsets.
///
/// # Source
/// Le and Yang, "Tiny ImageNet visual recognition challenge", 2015.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TinyImagenet {
    /// Its folder, of pictures or of parquet; without one, `SOKD_DATA_DIR` and the cache are searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// At most so many validation images of each class to judge by: all 50, if nothing is said. The others are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<usize>,
    /// Training images held out for policies and for choosing, each class in proportion.
    pub search: usize,
    /// At most so many images of each class to learn from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Decides which images `judge`, `search` and `limit` take.
    pub seed: u64,
}

impl Source for TinyImagenet {
    fn read(&self, locations: &Locations) -> Result<Memory> {
        let manifest = Manifest::tiny_imagenet();
        let path = self.path.as_deref();
        let (names, train, test) = match manifest.root(path, locations) {
            Ok(root) => self.tree(manifest, root)?,
            Err(missing) => match manifest.shelf(path, locations) {
                Ok(shelf) => self.parquet(manifest, &shelf)?,
                Err(_) => return Err(missing),
            },
        };
        Memory::new(&manifest.name, names, (&manifest.pixels).into(), train, test)?.hold_out(
            self.search,
            self.limit,
            self.seed,
        )
    }
}

/// What the classes are called, what is learned from, and what is judged by.
type Parts = (Vec<String>, Images, Images);

impl TinyImagenet {
    /// From its makers' folder.
    fn tree(&self, manifest: &Manifest, root: PathBuf) -> Result<Parts> {
        let tree = Tree { root, remedy: manifest.remedy() };
        let synsets = tree.synsets()?;
        let (train, all) = (tree.train(&synsets)?, tree.validation(&synsets)?);
        let labels: Vec<u32> = all.iter().map(|&(_, label)| label).collect();
        let judged = self.judged(&labels, synsets.len())?;
        let test: Vec<Labelled> = judged.into_iter().map(|row| all[row as usize].clone()).collect();
        let images = |files: &[Labelled]| images(files, manifest.size, &tree.remedy);
        Ok((tree.names(synsets)?, images(&train)?, images(&test)?))
    }

    /// From the Hub's parquet.
    fn parquet(&self, manifest: &Manifest, shelf: &Shelf) -> Result<Parts> {
        let files = |part| manifest.parts(shelf, Form::Parquet, part).into_iter().map(|(name, _)| name);
        let first = files(ForUse::Train).next().unwrap_or_default();
        let names = parquet::classes(shelf, &first, &manifest.remedy())?;
        let read = |part| {
            let mut images = Images::of_size(manifest.size);
            files(part)
                .try_for_each(|name| parquet::read(shelf, &name, (manifest, names.len()), &mut images))?;
            Ok::<_, Error>(images)
        };
        let (train, all) = (read(ForUse::Train)?, read(ForUse::Test)?);
        let judged = self.judged(&all.labels, names.len())?;
        let mut test = Images::of_size(manifest.size);
        for row in judged {
            test.pixels.extend_from_slice(all.image(row as usize));
            test.labels.push(all.labels[row as usize]);
        }
        Ok((names, train, test))
    }

    /// Which of the validation images judge.
    fn judged(&self, labels: &[u32], classes: usize) -> Result<Vec<u32>> {
        if self.judge == Some(0) {
            return Err(Error::setting("judge", "0 images of each class leave none to judge by"));
        }
        Ok(hold(labels, classes, 0, self.judge, Key::new(self.seed).fold("judge")).1)
    }
}

/// The folder, and what to do about a file that is missing or broken.
struct Tree {
    root: PathBuf,
    remedy: String,
}

impl Tree {
    fn read(&self, name: &str) -> Result<Content> {
        let path = self.root.join(name);
        if !path.is_file() {
            return Err(self.missing(path, "a list that comes with the images"));
        }
        Content::read(&path, &self.remedy)
    }

    fn missing(&self, path: PathBuf, what: &str) -> Error {
        Error::Missing { path, what: what.into(), remedy: self.remedy.clone() }
    }

    /// The classes' synsets, in order.
    fn synsets(&self) -> Result<Vec<String>> {
        let list = self.read("wnids.txt")?;
        let mut synsets: Vec<String> =
            text(&list)?.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
        synsets.sort();
        synsets.dedup();
        if synsets.is_empty() || synsets.iter().any(|synset| !is_name(synset)) {
            return Err(list.wrong(0, "it should name a synset, such as n01443537, on every line"));
        }
        Ok(synsets)
    }

    /// What each class is called, by its synset; by the synset itself where no list says more.
    fn names(&self, synsets: Vec<String>) -> Result<Vec<String>> {
        if !self.root.join("words.txt").is_file() {
            return Ok(synsets);
        }
        let list = self.read("words.txt")?;
        let words: HashMap<&str, &str> =
            text(&list)?.lines().filter_map(|line| line.split_once('\t')).collect();
        let name = |synset: String| {
            let first = words.get(synset.as_str()).and_then(|words| words.split(',').next());
            first.map(|name| name.trim().to_owned()).unwrap_or(synset)
        };
        Ok(synsets.into_iter().map(name).collect())
    }

    /// `train/<synset>/images/*.JPEG`
    fn train(&self, synsets: &[String]) -> Result<Vec<Labelled>> {
        let train = self.root.join("train");
        if let Some(absent) = synsets.iter().map(|synset| train.join(synset)).find(|folder| !folder.is_dir())
        {
            return Err(self.missing(absent, "the training images of a class that wnids.txt names"));
        }
        labelled(&train, synsets, &self.remedy)
    }

    /// `val/images/*.JPEG`, whose classes a list says: file, synset and a box on each line.
    fn validation(&self, synsets: &[String]) -> Result<Vec<Labelled>> {
        let list = self.read("val/val_annotations.txt")?;
        let mut all = Vec::new();
        for (number, line) in (1..).zip(text(&list)?.lines()) {
            let mut fields = line.split('\t');
            let (Some(file), Some(synset)) = (fields.next().filter(|file| is_name(file)), fields.next())
            else {
                return Err(list.wrong(None, format!("line {number} is no file and synset: {line:?}")));
            };
            let Ok(label) = synsets.binary_search_by(|known| known.as_str().cmp(synset)) else {
                let problem = format!("line {number} is about {synset:?}, which wnids.txt does not name");
                return Err(list.wrong(None, problem));
            };
            let path = self.root.join("val/images").join(file);
            if !path.is_file() {
                return Err(self.missing(path, "an image that val_annotations.txt lists"));
            }
            all.push((path, label as u32));
        }
        Ok(all)
    }
}

fn text(list: &Content) -> Result<&str> {
    std::str::from_utf8(&list.bytes).map_err(|error| list.wrong(error.valid_up_to() as u64, "it is no text"))
}

/// Whether it is the name of a file or folder and no way to another place.
fn is_name(text: &str) -> bool {
    Path::new(text).file_name().is_some_and(|name| name == text)
}
