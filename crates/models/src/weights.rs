//! Checkpoints of the field, read and written.
//!
//! What a file *is* is told by its content, not by its name: safetensors, PyTorch's zip archives, and the rows of
//! pickles that PyTorch wrote before 2020. Pickles are read as data; nothing in them is ever run.

mod bytes;
mod file;
mod graph;
mod group;
mod pickle;
mod pth;
mod torch;
mod view;
mod write;

pub use pth::pth;
pub use write::{StateDict, safetensors, save, state_dict};

use candle::Tensor;
use sokd_core::{Error, Result};
use sokd_nn::Params;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A network's weights, as a file had them.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// In PyTorch's layout, by their names without a wrapper's prefix: floats as `f32`, counters as `i64`.
    pub tensors: BTreeMap<String, Tensor>,
    /// The keys inside the file that led to them, joined by dots; empty where the file holds nothing else.
    pub path: String,
    /// The Python classes that the file mentions and that nobody here builds, such as `argparse.Namespace`.
    pub foreign: Vec<String>,
}

/// Reads the weights of a network.
///
/// A file may hold more than one dictionary of tensors. The largest is taken if it is by far the largest, and the
/// optimiser's are not counted; otherwise `path::key` says which: `latest.pth::model`,
/// `latest.pth::model.module.student`.
///
/// # Errors
/// [`Error::Missing`]; [`Error::File`] for what is torn, hostile, of an unknown format, or ambiguous. No file makes
/// this function allocate more than a few times the file's size.
pub fn read(path: &Path) -> Result<Checkpoint> {
    let (path, key) = split(path);
    let bytes = std::fs::read(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing {
            path: path.clone(),
            what: "a checkpoint: safetensors, or a file that torch.save wrote".into(),
            remedy: "check the path, or fetch the file".into(),
        },
        _ => Error::Io { path: path.clone(), source },
    })?;
    file::decode(&bytes, key.as_deref()).map_err(|fault| fault.of(&path))
}

/// Fills the weights under `prefix` from a file, all of them and with nothing left over.
///
/// Where networks of the field differ in nothing but a word (`fc` and `linear` and `classifier` for the classifier,
/// `downsample` and `shortcut` for projections), either is understood.
///
/// # Errors
/// As [`read`]; [`Error::Unfit`] lists what is missing, unexpected and misshapen, and nothing is changed then.
pub fn load(params: &Params, prefix: &str, path: &Path) -> Result<()> {
    let Checkpoint { tensors, path: inside, .. } = read(path)?;
    let wanted = params.tensors(prefix)?;
    let tensors = tensors.into_iter().map(|(name, tensor)| (translate(name, &wanted), tensor)).collect();
    params.load(prefix, &tensors).map_err(|error| match error {
        Error::Unfit { what, missing, unexpected, misshapen } => {
            let at = if inside.is_empty() { String::new() } else { format!("::{inside}") };
            Error::Unfit {
                what: format!("{what} from {}{at}", path.display()),
                missing,
                unexpected,
                misshapen,
            }
        }
        other => other,
    })
}

/// A name by which the network knows what the file calls `name`, if it has one.
fn translate(name: String, wanted: &BTreeMap<String, Tensor>) -> String {
    const SYNONYMS: [&[&str]; 2] = [&["fc", "linear", "classifier"], &["downsample", "shortcut"]];
    if wanted.contains_key(&name) {
        return name;
    }
    for words in SYNONYMS {
        for (from, to) in words.iter().flat_map(|from| words.iter().map(move |to| (from, to))) {
            let other: Vec<_> = name.split('.').map(|part| if part == *from { to } else { part }).collect();
            let other = other.join(".");
            if wanted.contains_key(&other) {
                return other;
            }
        }
    }
    name
}

/// `path::key` → path and key, unless a file of that whole name exists.
fn split(path: &Path) -> (PathBuf, Option<String>) {
    match path.to_str().and_then(|text| text.split_once("::")) {
        Some((file, key)) if !path.exists() => (file.into(), Some(key.to_owned())),
        _ => (path.to_owned(), None),
    }
}
