use sokd_core::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a file holds, unpacked, and what an error about it has to say.
#[derive(Debug)]
pub(crate) struct Content {
    /// Where it came from: a file, or `archive/member`.
    pub path: PathBuf,
    /// The content itself; offsets in errors count these.
    pub bytes: Vec<u8>,
    /// What to do when it is not what it should be.
    pub remedy: String,
}

/// Bytes that a packed file may hold: twice the largest of the field's, EMNIST's 550 MB. A bomb holds a thousand times its
/// own size.
pub(crate) const ROOM: u64 = 1 << 30;

/// A packed file that holds more than that.
pub(crate) fn bomb(path: &Path) -> Error {
    let problem = format!("holds {ROOM} bytes or more, unpacked");
    Error::file(path, None, problem, "unpack it yourself, if it is what it should be")
}

/// How a file is packed, by the end of its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Xz,
}

/// The name that a packed file had before it was packed.
pub(crate) fn unpacked_name(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".xz")).unwrap_or(name)
}

impl Packing {
    fn of(path: &Path) -> Self {
        match path.extension().and_then(|end| end.to_str()) {
            Some("gz") => Self::Gzip,
            Some("xz") => Self::Xz,
            _ => Self::None,
        }
    }
}

impl Content {
    /// The content of `path`, unpacked where its name ends in `.gz` or `.xz`.
    pub fn read(path: &Path, remedy: &str) -> Result<Self> {
        let packed = std::fs::read(path).map_err(Error::io(path))?;
        let mut left = packed.as_slice();
        let mut bytes = Vec::new();
        let unpacked = match Packing::of(path) {
            Packing::None => return Ok(Self::new(path, packed, remedy)),
            Packing::Gzip => {
                flate2::bufread::MultiGzDecoder::new(&mut left).take(ROOM).read_to_end(&mut bytes)
            }
            Packing::Xz => lzma_rust2::XzReader::new(&mut left, true).take(ROOM).read_to_end(&mut bytes),
        };
        match unpacked {
            Ok(count) if count as u64 == ROOM => Err(bomb(path)),
            Ok(_) => Ok(Self::new(path, bytes, remedy)),
            Err(error) => {
                let offset = (packed.len() - left.len()) as u64;
                Err(Error::file(path, offset, format!("cannot be unpacked: {error}"), remedy))
            }
        }
    }

    /// Content that came out of something else.
    pub fn new(path: &Path, bytes: Vec<u8>, remedy: &str) -> Self {
        Self { path: path.to_owned(), bytes, remedy: remedy.to_owned() }
    }

    /// An error about this content.
    pub fn wrong(&self, offset: impl Into<Option<u64>>, problem: impl Into<String>) -> Error {
        Error::file(&self.path, offset, problem, &self.remedy)
    }

    /// A reader from the start.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { content: self, at: 0 }
    }
}

/// A place in a [`Content`], from which bytes are taken or an error says where it stood.
pub(crate) struct Cursor<'a> {
    content: &'a Content,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next `count` bytes.
    pub fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        let rest = &self.content.bytes[self.at..];
        if rest.len() < count {
            let problem = format!("ends where {count} bytes of {what} should stand: {} are left", rest.len());
            return Err(self.wrong(problem));
        }
        self.at += count;
        Ok(&rest[..count])
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    /// The bytes up to the next line feed, which is taken too.
    pub fn line(&mut self, what: &str) -> Result<&'a [u8]> {
        let rest = &self.content.bytes[self.at..];
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(self.wrong(format!("ends inside {what}")));
        };
        self.at += end + 1;
        Ok(&rest[..end])
    }

    /// Bytes not yet taken.
    pub fn left(&self) -> usize {
        self.content.bytes.len() - self.at
    }

    /// An error about this place.
    pub fn wrong(&self, problem: impl Into<String>) -> Error {
        self.content.wrong(self.at as u64, problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn a_torn_gzip_names_file_and_offset() {
        let dir = tempfile::tempdir().unwrap();
        let whole = gzip(&[7; 4000]);
        let path = dir.path().join("x.gz");
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(Content::read(&path, "").unwrap().bytes, [7; 4000]);
        for end in 0..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            match Content::read(&path, "fetch it again").unwrap_err() {
                Error::File { path: named, offset: Some(at), remedy, .. } => {
                    assert_eq!((named, remedy.as_str()), (path.clone(), "fetch it again"));
                    assert!(at <= end as u64);
                }
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_cursor_says_where_it_stood() {
        let content = Content::new(Path::new("x"), vec![1, 2, 3], "");
        let mut cursor = content.cursor();
        assert_eq!(cursor.array::<2>("a pair").unwrap(), [1, 2]);
        let error = cursor.take(5, "pixels").unwrap_err().to_string();
        assert!(
            error.starts_with("x at byte 2: ends where 5 bytes of pixels should stand: 1 are left"),
            "{error}"
        );
    }
}
