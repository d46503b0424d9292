//! The cache on disk, as Python's library lays it out: each reads what the other fetched.
//!
//! `<kind>s--<owner>--<name>/{blobs/<digest>, refs/<revision>, snapshots/<commit>/<file> -> blob}`, and locks below `.locks`.

use crate::address::{Address, Repository};
use crate::digest::{git_blob, sha256};
use sokd_core::{Error, Result, Watch, file};
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(crate) struct Cache {
    pub root: PathBuf,
}

impl Cache {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn folder(&self, repository: &Repository) -> PathBuf {
        let Repository { kind, owner, name, .. } = repository;
        self.root.join(format!("{}--{owner}--{name}", kind.plural()))
    }

    /// Where a commit's files stand under their names.
    pub fn snapshot(&self, repository: &Repository, commit: &str) -> PathBuf {
        self.folder(repository).join("snapshots").join(commit)
    }

    /// Where content lies under its digest.
    pub fn blob(&self, repository: &Repository, digest: &str) -> PathBuf {
        self.folder(repository).join("blobs").join(digest)
    }

    fn noted(&self, repository: &Repository) -> PathBuf {
        self.folder(repository).join("refs").join(&repository.revision)
    }

    /// The commit that a revision meant when it was last asked for.
    pub fn commit(&self, repository: &Repository) -> Option<String> {
        if repository.is_pinned() {
            return Some(repository.revision.clone());
        }
        let text = std::fs::read_to_string(self.noted(repository)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| crate::address::is_commit(commit))
    }

    /// The file, where it is here.
    pub fn find(&self, address: &Address) -> Option<(PathBuf, String)> {
        let commit = self.commit(&address.repository)?;
        let path = self.snapshot(&address.repository, &commit).join(&address.file);
        path.is_file().then_some((path, commit))
    }

    fn absence(&self, address: &Address) -> PathBuf {
        let Address { repository, file } = address;
        self.folder(repository).join(".no_exist").join(&repository.revision).join(file)
    }

    /// Whether a commit is known not to have a file.
    pub fn is_absent(&self, address: &Address) -> bool {
        address.repository.is_pinned() && self.absence(address).is_file()
    }

    /// Notes that a commit does not have a file, as Python's library does. To ask again is no harm, so a cache that cannot
    /// be written is none either.
    pub fn note_absence(&self, address: &Address) {
        let path = self.absence(address);
        if address.repository.is_pinned() && folder_of(&path).is_ok() {
            std::fs::write(path, "").ok();
        }
    }

    /// Notes which commit a revision means.
    pub fn note(&self, repository: &Repository, commit: &str) -> Result<()> {
        if self.commit(repository).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.noted(repository);
        folder_of(&path)?;
        file::write(&path, commit.as_bytes()).map_err(or_unkept(&path))
    }

    /// Lets a name of a commit lead to its content.
    pub fn link(&self, address: &Address, commit: &str, digest: &str) -> Result<PathBuf> {
        let pointer = self.snapshot(&address.repository, commit).join(&address.file);
        let blob = self.blob(&address.repository, digest);
        let real = |path: &Path| path.canonicalize().ok();
        let leads = || real(&pointer).is_some_and(|path| Some(path) == real(&blob));
        if leads() {
            return Ok(pointer);
        }
        folder_of(&pointer)?;
        // From snapshots/<commit>/<folders of the file>/ up to where blobs/ lies.
        let up = "../".repeat(2 + address.file.matches('/').count());
        match link(Path::new(&format!("{up}blobs/{digest}")), &blob, &pointer) {
            // Someone else was faster.
            Err(_) if leads() => Ok(pointer),
            done => done.map(|()| pointer.clone()).map_err(or_unkept(&pointer)),
        }
    }

    /// Holds the lock that whoever fetches a content holds, Python's library too; waits for whoever has it. The system
    /// frees it with the process, however that ends.
    pub fn lock(&self, repository: &Repository, digest: &str, watch: &dyn Watch) -> Result<File> {
        let folder = self.folder(repository);
        let name = folder.file_name().unwrap_or_default();
        let path = self.root.join(".locks").join(name).join(format!("{digest}.lock"));
        folder_of(&path)?;
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(unkept(&path))?;
        let taken = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                watch.say("another process fetches the same file: waiting for it");
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        match taken {
            // Some network drives know no locks. Two processes then fetch twice, and the digest tells if they collide.
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(unkept(&path)(error)),
            _ => Ok(file),
        }
    }
}

/// Compares a file with the digest that it has for a name: SHA-256 of large files, and for small ones the digest that
/// git gives them. The found one, if it is another.
pub(crate) fn other_digest(path: &Path, digest: &str) -> Result<Option<String>> {
    let found = match digest.len() {
        _ if !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) => return Ok(None),
        64 => sha256(path)?,
        40 => git_blob(path)?,
        // A mirror that names its files otherwise: their length is all that is known.
        _ => return Ok(None),
    };
    Ok((found != digest.to_lowercase()).then_some(found))
}

/// Whether a file of the cache is what it was fetched as; its digest is the name of what its link leads to. Where links
/// are not possible the cache holds files by their names, and nothing to compare them with.
pub(crate) fn other_than_fetched(path: &Path) -> Result<Option<String>> {
    let blob = std::fs::canonicalize(path).map_err(unkept(path))?;
    let digest = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let by_digest = blob.parent().is_some_and(|folder| folder.ends_with("blobs"));
    if by_digest { other_digest(&blob, &digest) } else { Ok(None) }
}

/// Removes a file of the cache and what it leads to.
pub(crate) fn discard(path: &Path) -> Result<()> {
    let blob = std::fs::canonicalize(path).map_err(unkept(path))?;
    for stale in [path, &blob] {
        match std::fs::remove_file(stale) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unkept(stale)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Makes the folder that a file belongs into.
pub(crate) fn folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(unkept(folder))
}

/// What the system's refusal to keep a file of the cache means.
pub(crate) fn unkept(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| {
        let remedy = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                "make room, or set HF_HUB_CACHE to a folder on another disk; what has come is kept, and the same \
                 command goes on from it"
            }
            _ => "set HF_HUB_CACHE to a folder that may be written",
        };
        Error::file(&path, None, error.to_string(), remedy)
    }
}

/// The same, where the error has a path already.
fn or_unkept(path: &Path) -> impl FnOnce(Error) -> Error {
    let path = path.to_owned();
    move |error| match error {
        Error::Io { source, .. } => unkept(&path)(source),
        other => other,
    }
}

/// A link, or on a file system without links the content once more. Whoever comes meanwhile, from this process or another
/// machine, has a name of their own until it stands.
fn link(target: &Path, blob: &Path, pointer: &Path) -> Result<()> {
    #[cfg(unix)]
    use std::os::unix::fs::symlink;
    #[cfg(windows)]
    use std::os::windows::fs::symlink_file as symlink;
    let copied = |aside: &Path| io::copy(&mut File::open(blob)?, &mut File::create_new(aside)?).map(drop);
    file::make(pointer, |aside| symlink(target, aside).or_else(|_| copied(aside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody writes a copy to a name under which another has just made a link: it would empty the content.
    #[test]
    fn who_links_together_leaves_the_content_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let (cache, content) = (Cache::new(root.path()), b"content");
        let digest = "3e9b2c";
        let address: Address = "owner/name/model.safetensors".parse().expect("an address");
        let blob = cache.blob(&address.repository, digest);
        folder_of(&blob).and_then(|()| file::write(&blob, content)).expect("the content");
        for commit in 0..200 {
            let commit = commit.to_string();
            let all_at_once = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        all_at_once.wait();
                        let path = cache.link(&address, &commit, digest).expect("a link");
                        assert_eq!(std::fs::read(path).expect("the content"), content);
                    });
                }
            });
        }
    }
}
