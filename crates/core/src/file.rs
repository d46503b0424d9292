//! Files and folders that are whole or absent, whatever kills the program: written aside, flushed to the disk, renamed.

use crate::{Error, Result};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile, TempDir};

/// What unfinished files and folders are called: `.unfinished-…`, beside what they would become.
const UNFINISHED: &str = ".unfinished-";

/// Where programs on this machine keep what can be had again: `XDG_CACHE_HOME`, or `.cache` in the user's home.
pub fn cache() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").filter(|named| !named.is_empty());
    named.map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cache")))
}

/// Writes a file so that a reader finds the old bytes or the new ones, also after a crash of the machine.
///
/// # Errors
/// [`Error::Io`], with the old file untouched.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = Unfinished::new(path)?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.place()
}

/// A file that is being written piece by piece; without [`place`](Self::place) it vanishes.
#[derive(Debug)]
pub struct Unfinished {
    aside: NamedTempFile,
    target: PathBuf,
}

impl Unfinished {
    /// What will stand at `target` once it is placed.
    ///
    /// # Errors
    /// [`Error::Io`] where no file can be made.
    pub fn new(target: &Path) -> Result<Self> {
        let mut aside = Builder::new();
        #[cfg(unix)]
        {
            // tempfile makes private files; these are results, as open to others as the user's umask has it.
            use std::os::unix::fs::PermissionsExt;
            aside.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let aside = aside.prefix(UNFINISHED).tempfile_in(parent(target)).map_err(Error::io(target))?;
        Ok(Self { aside, target: target.to_owned() })
    }

    /// Takes the target's place.
    ///
    /// # Errors
    /// [`Error::Io`], with the old file untouched.
    pub fn place(self) -> Result<()> {
        let Self { aside, target } = self;
        let place = || -> io::Result<()> {
            aside.as_file().sync_all()?;
            aside.persist(&target)?;
            sync(parent(&target))
        };
        place().map_err(Error::io(&target))
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.aside.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.aside.flush()
    }
}

/// A folder that is being filled; without [`place`](Self::place) it vanishes.
#[derive(Debug)]
pub struct Folder {
    aside: TempDir,
    target: PathBuf,
}

impl Folder {
    /// What will stand at `target` once it is placed.
    ///
    /// # Errors
    /// [`Error::Io`] where no folder can be made.
    pub fn new(target: &Path) -> Result<Self> {
        let aside =
            Builder::new().prefix(UNFINISHED).tempdir_in(parent(target)).map_err(Error::io(target))?;
        Ok(Self { aside, target: target.to_owned() })
    }

    /// Adds a file.
    ///
    /// # Errors
    /// [`Error::Io`], which names the file by the place that it would have had.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let fill = || -> io::Result<()> {
            let mut file = File::create(self.aside.path().join(name))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        fill().map_err(Error::io(&self.target.join(name)))
    }

    /// Takes the target's place, after what stood there has moved to `before` or, without one, is gone.
    ///
    /// # Errors
    /// [`Error::Io`], with the old folder at the target or at `before`.
    pub fn place(self, before: Option<&Path>) -> Result<()> {
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

/// Makes what is no plain file, such as a link, under a name of its own and renames it to its place. `make` must not
/// touch a name that is taken: it is asked again for another one.
///
/// # Errors
/// [`Error::Io`], with what stood there untouched.
pub fn make(path: &Path, make: impl FnMut(&Path) -> io::Result<()>) -> Result<()> {
    let aside = Builder::new().prefix(UNFINISHED).make_in(parent(path), make);
    let placed = aside.and_then(|aside| Ok(aside.into_temp_path().persist(path)?));
    placed.map_err(Error::io(path))
}

/// Moves a file or folder to a place that may be taken.
///
/// # Errors
/// [`Error::Io`] for the place.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    let rename = || -> io::Result<()> {
        remove(to)?;
        std::fs::rename(from, to)?;
        sync(parent(to))
    };
    rename().map_err(Error::io(to))
}

/// Removes what was being written in a folder when the program was killed. Only for a folder in which no one else
/// writes.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be read.
pub fn sweep(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            remove(&entry.path()).map_err(Error::io(&entry.path()))?;
        }
    }
    Ok(())
}

/// Removes a file or folder that may not be there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A name is in its folder, and a folder is flushed apart. Where folders cannot be opened (Windows) or flushed (some
/// network drives), the file system sees to it.
fn sync(folder: &Path) -> io::Result<()> {
    let Ok(folder) = File::open(folder) else { return Ok(()) };
    match folder.sync_all() {
        Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Err(error),
        _ => Ok(()),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("kept");
        write(&path, b"old").expect("room for three bytes");
        write(&path, b"new").expect("room for three bytes");
        assert_eq!(std::fs::read(&path).expect("the file"), b"new");

        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).expect("a folder in the file's place");
        assert!(matches!(write(&taken, b"x"), Err(Error::Io { .. })));
        let left = std::fs::read_dir(folder.path()).expect("the folder").count();
        assert_eq!(left, 2, "the unfinished file is gone");
    }

    #[test]
    fn sweeping_takes_only_what_was_unfinished() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        for name in [".unfinished-file", "kept"] {
            std::fs::write(folder.path().join(name), b"x").expect("room for a byte");
        }
        let inner = folder.path().join(".unfinished-folder/inner");
        std::fs::create_dir_all(inner).expect("a folder that was being filled");
        sweep(folder.path()).expect("a folder of ours");
        let left = std::fs::read_dir(folder.path()).expect("the folder");
        let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(left, ["kept"]);
    }

    /// What is written aside may be read by whoever may read what the user writes otherwise.
    #[cfg(unix)]
    #[test]
    fn permissions_are_the_umasks() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder for the test");
        let at = |name: &str| folder.path().join(name);
        let mode = |name: &str| at(name).metadata().expect("it is there").permissions().mode();
        File::create(at("plain file")).expect("an empty file");
        std::fs::create_dir(at("plain folder")).expect("an empty folder");

        write(&at("written"), b"x")?;
        let filled = Folder::new(&at("filled"))?;
        filled.write("inside", b"x")?;
        filled.place(None)?;
        for name in ["written", "filled/inside"] {
            assert_eq!(mode(name), mode("plain file"), "{name}");
        }
        assert_eq!(mode("filled"), mode("plain folder"));
        Ok(())
    }
}
