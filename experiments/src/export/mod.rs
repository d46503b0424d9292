//! Networks leave: as files that the field's own programs load. `experiments/tests/export.rs` holds every format against
//! the program that it is for.

mod leaving;

pub use leaving::{Given, Leaving};

use crate::{Misfit, Result};
use clap::ValueEnum;
use sokd_core::{Error, file};
use std::path::{Path, PathBuf};

/// A format as the command line knows it.
#[derive(Debug)]
pub struct Format {
    /// Its name there.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
    /// Makes its files.
    ///
    /// # Errors
    /// A network that those who read the format do not have.
    pub make: fn(&Leaving, Normalise) -> Result<Export>,
}

/// What a format makes of a network.
#[derive(Debug)]
pub struct Export {
    /// Names and bytes, the weights last: where they are, all is.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Python that loads them, beside them.
    pub python: String,
}

/// Where images are normalised, in a format that holds operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Normalise {
    /// By the file: it takes pixels in [0, 1].
    #[default]
    Inside,
    /// By whoever calls it, with the mean and deviation that the file notes.
    Outside,
}

macro_rules! formats {
    ($($file:ident::$format:ident),* $(,)?) => {
        $(pub mod $file;)*

        /// All that there are. A new one is a file beside this one, and a line here.
        pub const ALL: &[&Format] = &[$(&$file::$format),*];
    };
}

formats! {
    safetensors::FORMAT,
    timm::FORMAT,
    torchvision::FORMAT,
    mdistiller::FORMAT,
    onnx::FORMAT,
}

/// The format of that name.
pub fn named(name: &str) -> Option<&'static Format> {
    ALL.iter().copied().find(|format| format.name == name)
}

impl Format {
    /// Writes a network's files into a folder, and says where.
    ///
    /// # Errors
    /// What [`Format::make`] raises; files that are there already, unless `force`; whatever the system refuses.
    pub fn write(
        &self,
        leaving: &Leaving,
        normalise: Normalise,
        folder: &Path,
        force: bool,
    ) -> Result<(Vec<PathBuf>, Export)> {
        let mut export = (self.make)(leaving, normalise)?;
        let card = leaving.card(self, &export.python);
        export.files.insert(0, ("README.md", card.into_bytes()));
        let paths: Vec<_> = export.files.iter().map(|(name, _)| folder.join(name)).collect();
        if let Some(there) = paths.iter().find(|path| !force && path.exists()) {
            let problem = format!("{} is there already", there.display());
            return Err(Misfit::new(problem)
                .help("choose another folder with -o, or --force to replace it")
                .into());
        }
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        for (path, (_, bytes)) in paths.iter().zip(&export.files) {
            file::write(path, bytes)?;
        }
        Ok((paths, export))
    }
}
