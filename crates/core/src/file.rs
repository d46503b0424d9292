//! Files that are whole or absent, whatever kills the program.

use crate::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// What unfinished files are called: `.unfinished-…`, beside the file they would become.
const UNFINISHED: &str = ".unfinished-";

/// Writes a file so that a reader finds the old bytes or the new ones, also after a crash of the machine.
///
/// # Errors
/// [`Error::Io`], with the old file untouched.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // tempfile makes private files; these are results, which others may read.
        use std::os::unix::fs::PermissionsExt;
        aside.permissions(std::fs::Permissions::from_mode(0o644));
    }
    let mut aside = aside.prefix(UNFINISHED).tempfile_in(folder).map_err(Error::io(path))?;
    aside.write_all(bytes).map_err(Error::io(path))?;
    aside.as_file().sync_all().map_err(Error::io(path))?;
    aside.persist(path).map_err(|error| Error::io(path)(error.error))?;
    // The name is in the folder, and a folder is synchronised apart. Where it cannot be opened, as on Windows, the
    // file system sees to it.
    if let Ok(folder) = File::open(folder) {
        folder.sync_all().ok();
    }
    Ok(())
}

/// Removes what a killed [`write`] left in a folder. Only for a folder in which no one else writes.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be read.
pub fn sweep(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            std::fs::remove_file(entry.path()).map_err(Error::io(&entry.path()))?;
        }
    }
    Ok(())
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
        for name in [".unfinished-abc", "kept"] {
            std::fs::write(folder.path().join(name), b"x").expect("room for a byte");
        }
        sweep(folder.path()).expect("a folder of ours");
        assert!(folder.path().join("kept").exists());
        assert!(!folder.path().join(".unfinished-abc").exists());
    }
}
