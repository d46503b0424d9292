//! Parquet's pages, whose headers say how much they unpack to: whoever lies is not given the memory.

use crate::decode::TIGHTEST;
use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{BufRead, BufReader};

/// Bytes that any page may take: writers end one at about a megabyte, and labels that are all the same pack very tightly.
const ALWAYS: u64 = 8 << 20;

/// A file whose pages are looked at before the library reads them.
pub(crate) struct Pages(pub File);

impl Length for Pages {
    fn len(&self) -> u64 {
        Length::len(&self.0)
    }
}

impl ChunkReader for Pages {
    type T = BufReader<File>;

    /// The library asks for this where a header begins.
    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut reader = self.0.get_read(start)?;
        match sizes(reader.fill_buf()?) {
            Some([unpacked, packed]) if unpacked > (TIGHTEST * packed).max(ALWAYS) => {
                Err(ParquetError::General(format!("{packed} bytes claim to unpack to {unpacked}")))
            }
            _ => Ok(reader),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// What a page unpacks to and what it is packed in: the second and the third field of its header, as Thrift's compact
/// protocol writes them. A field that follows the one before and has 32 bits begins with 0x15.
fn sizes(header: &[u8]) -> Option<[u64; 2]> {
    let mut bytes = header.iter();
    let mut field = || {
        bytes.next().filter(|&&byte| byte == 0x15)?;
        let mut number = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = *bytes.next()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // Zigzag: the sign is the last bit. The library refuses what is negative.
                return (number & 1 == 0).then_some(number >> 1);
            }
        }
        None
    };
    let [_, unpacked, packed] = [field()?, field()?, field()?];
    Some([unpacked, packed])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_thrift_writes_them() {
        assert_eq!(sizes(&[0x15, 0, 0x15, 0x80, 0x01, 0x15, 0x06, 0x2c]), Some([64, 3]));
        assert_eq!(sizes(&[0x15, 0, 0x15, 0x03, 0x15, 0x06]), None, "less than nothing");
        assert_eq!(sizes(b"PAR1"), None);
        assert_eq!(sizes(&[0x15; 40]), None);
        assert_eq!(sizes(&[]), None);
    }

    #[test]
    fn who_claims_too_much_is_not_read() {
        let page = |unpacked: [u8; 4]| [&[0x15, 0, 0x15][..], &unpacked, &[0x15, 0x06, 0x2c]].concat();
        let read = |header: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, header).unwrap();
            Pages(file).get_read(0).map(drop)
        };
        assert!(read(&page([0x80, 0x80, 0x80, 0x08])).is_ok());
        let error = read(&page([0x82, 0x80, 0x80, 0x08])).unwrap_err().to_string();
        assert!(error.contains("3 bytes claim to unpack to 8388609"), "{error}");
    }
}
