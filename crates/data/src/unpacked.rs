//! Images as bytes, kept from the first time that a release was unpacked: the next program begins at once.

use crate::{Images, Locations};
use serde::{Deserialize, Serialize};
use sokd_core::file::Unfinished;
use sokd_core::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// What stands in the first line of the file; then come labels and pixels of each part.
#[derive(Serialize, Deserialize)]
struct Head {
    /// The digest of [`stamp`].
    of: String,
    /// Images of each part.
    images: [usize; 2],
    /// The digest of what follows.
    blake3: String,
}

/// The images to learn from and to judge by that `unpack` makes of `files`: as they were kept, where no file has changed since.
///
/// Whoever cannot keep them, for want of a folder or of room, unpacks them again; a file that is not whole is as good as none.
///
/// # Errors
/// Those of `unpack`.
pub(crate) fn kept(
    locations: &Locations,
    (name, size): (&str, [usize; 2]),
    files: &[PathBuf],
    unpack: impl FnOnce() -> Result<[Images; 2]>,
) -> Result<[Images; 2]> {
    let (Some(folder), Some(of)) = (locations.unpacked(), stamp(name, size, files)) else { return unpack() };
    // A file for each place, so that a release that has changed leaves nothing behind.
    let place = files[0].parent().unwrap_or(Path::new("")).to_string_lossy().into_owned();
    let path = folder.join(format!("{name}-{}", &blake3::hash(place.as_bytes()).to_hex()[..16]));
    if let Some(images) = read(&path, &of, size) {
        return Ok(images);
    }
    let images = unpack()?;
    write(&path, of, &images).ok();
    Ok(images)
}

/// The digest of the files' names, sizes and times of change; `None` where there are none, or one cannot be looked at.
fn stamp(name: &str, size: [usize; 2], files: &[PathBuf]) -> Option<String> {
    let mut digest = blake3::Hasher::new();
    digest.update(format!("1 {name} {size:?}").as_bytes());
    for file in files {
        let about = file.metadata().ok()?;
        let changed = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        digest.update(format!("\n{} {} {}", file.display(), about.len(), changed.as_nanos()).as_bytes());
    }
    (!files.is_empty()).then(|| digest.finalize().to_hex().to_string())
}

fn read(path: &Path, of: &str, size: [usize; 2]) -> Option<[Images; 2]> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut file = BufReader::new(file);
    let mut head = String::new();
    // A line that does not end is not read on and on.
    file.by_ref().take(1024).read_line(&mut head).ok()?;
    let Head { of: about, images, blake3 } = serde_json::from_str(&head).ok()?;
    let each = (size[0] * size[1] * 3 + 4) as u64;
    let claimed = images
        .iter()
        .try_fold(head.len() as u64, |sum, &count| sum.checked_add(each.checked_mul(count as u64)?));
    if about != of || claimed != Some(length) {
        return None;
    }
    let mut digest = blake3::Hasher::new();
    let mut bytes = |count: usize| {
        let mut bytes = vec![0; count];
        file.read_exact(&mut bytes).ok()?;
        digest.update(&bytes);
        Some(bytes)
    };
    let mut part = |count: usize| {
        let labels = bytes(4 * count)?
            .chunks_exact(4)
            .map(|label| u32::from_le_bytes([label[0], label[1], label[2], label[3]]))
            .collect();
        Some(Images { labels, pixels: bytes(count * size[0] * size[1] * 3)?, ..Images::of_size(size) })
    };
    let parts = [part(images[0])?, part(images[1])?];
    (digest.finalize().to_hex().as_str() == blake3).then_some(parts)
}

fn write(path: &Path, of: String, parts: &[Images; 2]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let labels = parts
        .each_ref()
        .map(|part| part.labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<u8>>());
    let pieces = || labels.iter().zip(parts).flat_map(|(labels, part)| [labels, &part.pixels]);
    let mut digest = blake3::Hasher::new();
    pieces().for_each(|piece| _ = digest.update(piece));
    let images = parts.each_ref().map(Images::len);
    let head = Head { of, images, blake3: digest.finalize().to_hex().to_string() };
    let mut file = Unfinished::new(path)?;
    serde_json::to_writer(&mut file, &head).map_err(|error| Error::io(path)(error.into()))?;
    file.write_all(b"\n").map_err(Error::io(path))?;
    pieces().try_for_each(|piece| file.write_all(piece)).map_err(Error::io(path))?;
    file.place()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn images(first: u8) -> [Images; 2] {
        let part = |count: usize| Images {
            labels: (0..count as u32).collect(),
            pixels: (0..count * 12).map(|at| first + at as u8).collect(),
            ..Images::of_size([2, 2])
        };
        [part(3), part(1)]
    }

    /// Where a release lies, where it is kept, and how often it was unpacked.
    struct Case {
        _dir: tempfile::TempDir,
        release: PathBuf,
        kept: PathBuf,
        unpacked: Cell<usize>,
    }

    impl Case {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (release, kept) = (dir.path().join("train.bin.xz"), dir.path().join("kept"));
            std::fs::write(&release, "release").unwrap();
            Self { _dir: dir, release, kept, unpacked: Cell::new(0) }
        }

        fn open(&self, first: u8) -> [Images; 2] {
            let locations = Locations::default().keeping(&self.kept);
            let unpack = || {
                self.unpacked.set(self.unpacked.get() + 1);
                Ok(images(first))
            };
            kept(&locations, ("tiny", [2, 2]), std::slice::from_ref(&self.release), unpack).unwrap()
        }

        #[track_caller]
        fn expect(&self, open: u8, first: u8, unpacked: usize) {
            for (got, want) in self.open(open).iter().zip(&images(first)) {
                assert_eq!((&got.labels, &got.pixels, got.size), (&want.labels, &want.pixels, want.size));
            }
            assert_eq!(self.unpacked.get(), unpacked);
        }
    }

    #[test]
    fn what_was_unpacked_once_is_kept_until_the_release_changes() {
        let case = Case::new();
        case.expect(1, 1, 1);
        case.expect(9, 1, 1);
        std::fs::write(&case.release, "another release").unwrap();
        case.expect(2, 2, 2);
        assert_eq!(std::fs::read_dir(&case.kept).unwrap().count(), 1, "the old one is gone");
    }

    #[test]
    fn a_kept_file_that_is_torn_or_changed_is_made_again() {
        let case = Case::new();
        case.expect(1, 1, 1);
        let path = std::fs::read_dir(&case.kept).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        let mut unpacked = 1;
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            for broken in [&changed[..], &whole[..at]] {
                std::fs::write(&path, broken).unwrap();
                unpacked += 1;
                case.expect(1, 1, unpacked);
                assert_eq!(std::fs::read(&path).unwrap(), whole);
            }
        }
    }

    #[test]
    fn who_cannot_keep_unpacks_again() {
        let case = Case::new();
        std::fs::write(&case.kept, "no folder").unwrap();
        case.expect(1, 1, 1);
        case.expect(2, 2, 2);
    }
}
