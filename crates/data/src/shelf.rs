use crate::content::{Content, ROOM, bomb, unpacked_name};
use sokd_core::{Error, Result};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;

/// The files of one release by name: those of a folder, or of the archive that they come in.
///
/// Files packed on their own (`data_batch_1.bin.xz`) answer to the names that they had before.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// The folder or archive.
    pub place: PathBuf,
    files: BTreeMap<String, Kept>,
    remedy: String,
}

#[derive(Debug)]
enum Kept {
    OnDisk(PathBuf),
    Read(Content),
}

impl Shelf {
    /// The files of a folder; none are read yet.
    pub fn folder(place: &Path, remedy: &str) -> Result<Self> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(place).map_err(Error::io(place))? {
            let path = entry.map_err(Error::io(place))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
                continue;
            };
            if !path.is_file() {
                continue;
            }
            // What lies there unpacked already is preferred to its packed twin, whichever is listed first.
            if unpacked_name(&name) == name {
                files.insert(name, Kept::OnDisk(path));
            } else {
                files.entry(unpacked_name(&name).to_owned()).or_insert(Kept::OnDisk(path));
            }
        }
        Ok(Self { place: place.to_owned(), files, remedy: remedy.to_owned() })
    }

    /// The files of a `.tar.gz`, under the last part of their names; read in one pass, nothing written.
    pub fn archive(place: &Path, remedy: &str) -> Result<Self> {
        let packed = std::fs::File::open(place).map_err(Error::io(place))?;
        let mut unpacked = flate2::read::MultiGzDecoder::new(std::io::BufReader::new(packed));
        let torn = |what: &Path, error: &std::io::Error| {
            Error::file(what, None, format!("cannot be read out of the archive: {error}"), remedy)
        };
        let mut files = BTreeMap::new();
        let (mut archive, mut room) = (tar::Archive::new(&mut unpacked), ROOM);
        for member in archive.entries().map_err(|error| torn(place, &error))? {
            let mut member = member.map_err(|error| torn(place, &error))?;
            room = room.checked_sub(member.size()).ok_or_else(|| bomb(place))?;
            let name = member.path().map_err(|error| torn(place, &error))?.into_owned();
            let short = name.file_name().and_then(|name| name.to_str());
            if let (true, Some(short)) = (member.header().entry_type().is_file(), short) {
                let mut bytes = Vec::new();
                member.read_to_end(&mut bytes).map_err(|error| torn(&place.join(&name), &error))?;
                files.insert(short.to_owned(), Kept::Read(Content::new(&place.join(short), bytes, remedy)));
            }
        }
        // The checksum stands behind the last member: only a reader that goes to the end sees it.
        std::io::copy(&mut unpacked, &mut std::io::sink()).map_err(|error| torn(place, &error))?;
        Ok(Self { place: place.to_owned(), files, remedy: remedy.to_owned() })
    }

    /// The names of the files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Where a file lies, if it lies on the disk.
    pub fn on_disk(&self, name: &str) -> Option<&Path> {
        match self.files.get(name)? {
            Kept::OnDisk(path) => Some(path),
            Kept::Read(_) => None,
        }
    }

    /// Reads files at the same time, for those that must be unpacked take long; they stay on the shelf.
    pub fn load(&mut self, names: &[&str]) -> Result<()> {
        let (files, remedy) = (&self.files, &self.remedy);
        let read: Vec<(&str, Result<Content>)> = std::thread::scope(|scope| {
            let started = names.iter().filter_map(|&name| match files.get(name)? {
                Kept::OnDisk(path) => Some((name, scope.spawn(move || Content::read(path, remedy)))),
                Kept::Read(_) => None,
            });
            let started: Vec<_> = started.collect();
            let joined = |(name, reader): (_, ScopedJoinHandle<'_, _>)| {
                (name, reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            };
            started.into_iter().map(joined).collect()
        });
        for (name, content) in read {
            self.files.insert(name.to_owned(), Kept::Read(content?));
        }
        Ok(())
    }

    /// The content of a file that was read.
    pub fn read(&self, name: &str) -> Option<&Content> {
        match self.files.get(name)? {
            Kept::Read(content) => Some(content),
            Kept::OnDisk(_) => None,
        }
    }

    /// Takes a file's content off the shelf.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is none, and whatever reading meets.
    pub fn take(&mut self, name: &str) -> Result<Content> {
        match self.files.remove(name) {
            Some(Kept::OnDisk(path)) => Content::read(&path, &self.remedy),
            Some(Kept::Read(content)) => Ok(content),
            None => Err(Error::Missing {
                path: self.place.join(name),
                what: "a file of the release".into(),
                remedy: self.remedy.clone(),
            }),
        }
    }
}
