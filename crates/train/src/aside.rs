//! Files that are there whole or not at all: written aside, flushed to the disk, renamed.

use sokd_core::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::{Builder, TempDir};

/// How names begin of what is not finished yet.
const UNFINISHED: &str = ".tmp-";

/// Puts a file in its place.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = parent(path);
    let place = || -> std::io::Result<()> {
        let mut file = Builder::new().prefix(UNFINISHED).tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync(dir)
    };
    place().map_err(Error::io(path))
}

/// A folder that is being filled; without [`Folder::place`] it vanishes.
pub(crate) struct Folder {
    aside: TempDir,
    target: PathBuf,
}

impl Folder {
    /// What will stand at `target` once it is placed.
    pub(crate) fn new(target: &Path) -> Result<Self> {
        let aside =
            Builder::new().prefix(UNFINISHED).tempdir_in(parent(target)).map_err(Error::io(target))?;
        Ok(Self { aside, target: target.to_owned() })
    }

    /// Adds a file. An error names it by the place it would have had.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let fill = || -> std::io::Result<()> {
            let mut file = File::create(self.aside.path().join(name))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        fill().map_err(Error::io(&self.target.join(name)))
    }

    /// Takes the target's place, after what stood there has moved to `before` or, without one, is gone.
    pub(crate) fn place(self, before: Option<&Path>) -> Result<()> {
        let Self { aside, target } = self;
        sync(aside.path()).map_err(Error::io(&target))?;
        match before {
            Some(before) if target.exists() => rename(&target, before)?,
            Some(_) => {}
            None => remove(&target).map_err(Error::io(&target))?,
        }
        rename(&aside.keep(), &target)
    }
}

/// Moves a folder to a place that may be taken.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    let rename = || -> std::io::Result<()> {
        remove(to)?;
        std::fs::rename(from, to)?;
        sync(parent(to))
    };
    rename().map_err(Error::io(to))
}

/// Removes what unfinished writes left in a folder.
pub(crate) fn sweep(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED)) {
            remove(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Removes a file or folder that may not be there.
fn remove(path: &Path) -> std::io::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames are on the disk once their folder is.
fn sync(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
