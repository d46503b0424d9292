//! What disks, downloads and people do to a file.

use sokd_core::Stream;

/// One to four damages: an end cut off, a byte or a bit changed, a piece doubled, lost or filled with ones, a number made
/// as large as it can be.
pub fn damaged(whole: &[u8], draws: &mut Stream) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=draws.below(3) {
        // Headers stand at the start, and a third of the damage does.
        let reach = if draws.below(3) == 0 { bytes.len().min(64) } else { bytes.len() };
        if reach == 0 {
            break;
        }
        let at = draws.below(reach as u32) as usize;
        match draws.below(7) {
            0 => bytes.truncate(at),
            1 => bytes[at] = draws.bits() as u8,
            2 => bytes[at] ^= 1 << draws.below(8),
            3 => {
                let from = draws.below(whole.len() as u32) as usize;
                let piece = &whole[from..(from + 16).min(whole.len())];
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
            4 => drop(bytes.drain(at..(at + 7).min(bytes.len()))),
            5 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
            _ => bytes[at..].iter_mut().take(4).for_each(|byte| *byte = b'9'),
        }
    }
    bytes
}
