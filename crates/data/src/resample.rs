//! Pictures of bytes, made larger or smaller as Pillow makes them, bit for bit, lines before columns.

use std::ops::Range;

/// One axis of a resizing: which pixels of a picture become how many, and which of these are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Pixels of the picture; what lies beside them has no say.
    pub from: Range<usize>,
    /// How many they become.
    pub to: usize,
    /// Which of these are made.
    pub wanted: Range<usize>,
}

impl Axis {
    /// All that `from` becomes.
    pub fn whole(from: Range<usize>, to: usize) -> Self {
        Self { from, to, wanted: 0..to }
    }

    /// Of each wanted pixel: the first pixel that it sees, and the weight of each that it sees.
    ///
    /// # Source
    /// Pillow, `Resample.c`: a triangle as wide as an output pixel, and at least as an input pixel, whose weights are
    /// cut at the picture's border and divided by their sum; fixed point of 22 bits.
    fn taps(&self) -> Vec<(usize, Vec<i32>)> {
        let length = self.from.len();
        let scale = length as f64 / self.to as f64;
        let reach = scale.max(1.0);
        let taps = |place: usize| {
            let center = (place as f64 + 0.5) * scale;
            // Both casts cut off; a negative start becomes 0.
            let first = (center - reach + 0.5) as usize;
            let end = ((center + reach + 0.5) as usize).min(length);
            // Divided by the reciprocal, as there: the last bits of the weights are then the same.
            let per_pixel = 1.0 / reach;
            let weight = |at: usize| (1.0 - ((at as f64 - center + 0.5) * per_pixel).abs()).max(0.0);
            let weights: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: f64| (0.5 + weight / sum * f64::from(1 << BITS)) as i32;
            (self.from.start + first, weights.into_iter().map(fixed).collect())
        };
        self.wanted.clone().map(taps).collect()
    }
}

/// Bits behind the point of a weight: 32, without those of a byte and two to spare.
const BITS: u32 = 22;

/// A picture of `[height, width]` and three channels, resized: bilinear with antialiasing, along its lines first, and
/// rounded to bytes between the two.
pub(crate) fn resample(picture: &[u8], [height, width]: [usize; 2], [down, right]: &[Axis; 2]) -> Vec<u8> {
    debug_assert_eq!(picture.len(), height * width * 3, "a picture has three channels");
    let (down, right_taps) = (down.taps(), right.taps());
    let (Some((top, _)), Some((last, seen))) = (down.first(), down.last()) else { return Vec::new() };
    let lines = *top..last + seen.len();
    let row = right_taps.len() * 3;
    let mut narrow = Vec::with_capacity(lines.len() * row);
    for line in picture.chunks_exact(width * 3).skip(lines.start).take(lines.len()) {
        for (first, weights) in &right_taps {
            let mut sums = [HALF; 3];
            for (pixel, weight) in line[first * 3..].chunks_exact(3).zip(weights) {
                for (sum, &byte) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(byte) * weight;
                }
            }
            narrow.extend(sums.map(byte));
        }
    }
    let mut out = Vec::with_capacity(down.len() * row);
    let mut sums = vec![HALF; row];
    for (first, weights) in &down {
        sums.fill(HALF);
        for (line, weight) in narrow.chunks_exact(row).skip(first - lines.start).zip(weights) {
            for (sum, &byte) in sums.iter_mut().zip(line) {
                *sum += i32::from(byte) * weight;
            }
        }
        out.extend(sums.iter().copied().map(byte));
    }
    out
}

/// Half of one, so that cutting off rounds.
const HALF: i32 = 1 << (BITS - 1);

/// Weights add up to one but for their rounding, which can carry white beyond 255.
fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}
