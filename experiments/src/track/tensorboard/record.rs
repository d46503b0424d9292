//! Records as TensorFlow frames them: a length, its checksum, the data, its checksum.
//!
//! # Source
//! TensorFlow, `tensorflow/core/lib/io/record_writer.h`; the CRC of RFC 3720, Castagnoli's polynomial, with TensorFlow's
//! mask.

/// Castagnoli's polynomial, lowest power first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| crc >> 8 ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize];
    !bytes.iter().fold(!0, step)
}

/// A checksum that stands in data of which a checksum is taken again.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// A record's frame around its data.
pub fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

/// The data of the records, up to the end or to where it is torn.
pub fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_at_checked(8)?;
        let (check, rest) = rest.split_at_checked(4)?;
        let size = u64::from_le_bytes(length.try_into().ok()?);
        let (data, rest) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        let (proof, rest) = rest.split_at_checked(4)?;
        bytes = rest;
        (check == masked(length) && proof == masked(data)).then_some(data)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4.
    #[test]
    fn checksums_are_castagnolis() {
        let rising: Vec<u8> = (0..32).collect();
        let falling: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&rising), 0x46dd_794e);
        assert_eq!(crc32c(&falling), 0x113f_db5c);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// The first record of every file that TensorFlow writes, but for its time.
    #[test]
    fn a_record_is_framed_as_tensorflow_does_it() {
        let file = framed(b"\x09\0\0\0\0\0\0\0\0\x1a\x0dbrain.Event:2");
        assert_eq!(file[..12], *b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22");
        assert_eq!(file.len(), 8 + 4 + 24 + 4);
        assert_eq!(records(&file).collect::<Vec<_>>(), [&file[12..36]]);
    }

    #[test]
    fn a_torn_file_is_read_up_to_the_tear() {
        let file = [framed(b"one"), framed(b""), framed(b"three")].concat();
        for (end, whole) in [(0, 0), (18, 0), (19, 1), (34, 1), (35, 2), (55, 2), (56, 3)] {
            assert_eq!(records(&file[..end]).count(), whole, "{end} bytes");
        }
        let mut spoiled = file;
        spoiled[12] ^= 1;
        assert_eq!(records(&spoiled).count(), 0);
    }
}
