//! One image through a convolution, row by row of the output.

use super::geometry::Walk;
use super::line::Line;
use super::pack::{Block, Order, Packed, blocks};
use super::tile::{Finish, Run};
use crate::simd::{Kernel, Lanes};
use crate::threads::stretch;
use std::ops::Range;

/// An image with zeros left and right of each row, where taps ask for them, so that no column of the output is special. Above
/// and below there are none: there the taps that would see them are left out.
#[derive(Clone, Copy)]
pub(crate) struct Padded {
    /// The first float of the first row, zeros included.
    pub floats: *const f32,
    /// Zero pixels before each row.
    pub left: usize,
    /// Pixels of a row, zeros included.
    pub width: usize,
    /// Floats of a pixel.
    pub pixel: usize,
}

impl Padded {
    /// The pixel in row `row` and column `column`, zeros included.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize, column: usize) -> *const f32 {
        self.floats.wrapping_add((row * self.width + column) * self.pixel)
    }

    /// The same, some channels on.
    #[inline(always)]
    pub(crate) fn channel(self, channel: usize) -> Self {
        Self { floats: self.floats.wrapping_add(channel), ..self }
    }
}

/// How the taps of a walk become runs over a [`Padded`] image.
#[derive(Debug)]
pub(crate) struct Runs {
    all: Vec<Run>,
    /// Runs in each row of taps.
    per_row: usize,
    /// How many rows of weights they meet.
    weights: usize,
}

impl Runs {
    /// For images of `width` pixels of `pixel` floats, of which `channels` are read.
    pub(crate) fn new(walk: &Walk, order: Order, width: usize, pixel: usize, channels: usize) -> Self {
        let columns = &walk.columns.taps;
        if order == Order::Abreast {
            return Self::abreast(walk, width, pixel, channels);
        }
        // Pixels that are neighbours in the map are neighbours in memory: their taps are one run.
        let joined = pixel == channels && columns.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0);
        let (count, len) =
            if joined { (columns.len().min(1), columns.len() * channels) } else { (columns.len(), channels) };
        let pieces = len.div_ceil(LONGEST);
        let mut all = Vec::new();
        for (row, &(down, _)) in walk.rows.taps.iter().enumerate() {
            for (column, &(right, _)) in columns.iter().enumerate().take(count) {
                for piece in 0..pieces {
                    let part = stretch(len, pieces, piece);
                    all.push(Run {
                        input: (down * width as isize + right) * pixel as isize + part.start as isize,
                        weight: (row * columns.len() + column) * channels + part.start,
                        len: part.len(),
                    });
                }
            }
        }
        Self { all, per_row: count * pieces, weights: walk.taps() * channels }
    }

    /// The same where a row of taps is met at once, channel by channel.
    fn abreast(walk: &Walk, width: usize, pixel: usize, channels: usize) -> Self {
        let columns = walk.columns.taps.len();
        let pieces = (columns * channels).div_ceil(LONGEST);
        let rows = walk.rows.taps.iter().enumerate();
        let runs = rows.flat_map(|(row, &(down, _))| {
            (0..pieces).map(move |piece| {
                let part = stretch(channels, pieces, piece);
                Run {
                    input: down * (width * pixel) as isize + part.start as isize,
                    weight: (row * channels + part.start) * columns,
                    len: part.len(),
                }
            })
        });
        Self { all: runs.collect(), per_row: pieces, weights: walk.taps() * channels }
    }

    /// Parts the runs so that the weights of each part stay in the nearest cache while a band of rows meets them.
    fn parts(&self, rows: usize) -> impl Iterator<Item = Part> + use<> {
        let (per_row, row_weights) = (self.per_row, self.weights / rows.max(1));
        // Some rows of taps whole, or a stretch of the runs of one.
        let (height, width) = if row_weights <= LONGEST {
            ((LONGEST / row_weights.max(1)).clamp(1, rows.max(1)), per_row.max(1))
        } else {
            (1, (per_row * LONGEST / row_weights).max(1))
        };
        (0..rows.max(1)).step_by(height).flat_map(move |top| {
            (0..per_row.max(1)).step_by(width).map(move |first| Part {
                rows: top..(top + height).min(rows),
                runs: first..(first + width).min(per_row),
                ends: [first == 0, first + width >= per_row],
            })
        })
    }
}

/// Rows of weights that meet a band of outputs before the next do: of two vectors of sixteen, 24 KiB.
pub(super) const LONGEST: usize = 192;

/// Some rows of taps, or some runs of one.
struct Part {
    rows: Range<usize>,
    runs: Range<usize>,
    /// Whether the first and the last run of each row are among them.
    ends: [bool; 2],
}

/// Outputs whose sums are kept near while the parts of the weights come and go, in floats.
const BAND: usize = 4096;

/// Sums every output that a walk makes of one image.
pub(crate) struct Image<'a> {
    /// How outputs see inputs.
    pub walk: &'a Walk,
    /// The same for the padded image.
    pub runs: &'a Runs,
    /// The image, at the first channel that is read.
    pub input: Padded,
    /// The weights of the walk.
    pub weights: &'a Packed,
    /// Their order.
    pub order: Order,
    /// How many channels are written.
    pub channels: usize,
    /// The image's outputs, at the first channel that is written.
    pub out: *mut f32,
    /// Pixels in a row of outputs, those of other walks included.
    pub out_width: usize,
    /// Floats of a pixel of outputs.
    pub out_pixel: usize,
    /// What happens to the sums, from the same channel on.
    pub finish: Finish,
}

impl Kernel for Image<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for block in blocks(self.channels, L::N) {
            // SAFETY: who made the image sees to it that its pointers reach as far as the walk goes.
            unsafe {
                match block.vectors {
                    1 => self.block::<L, 1>(block),
                    _ => self.block::<L, 2>(block),
                }
            }
        }
    }
}

impl Image<'_> {
    #[inline(always)]
    unsafe fn block<L: Lanes, const V: usize>(&self, block: Block) {
        let Walk { rows, columns } = self.walk;
        let weights = self.weights.block(block).as_ptr();
        // SAFETY: the mask has at most `N` lanes.
        let mask = unsafe { L::mask(block.channels - (V - 1) * L::N) };
        let parts: Vec<Part> = self.runs.parts(rows.taps.len()).collect();
        let band = if parts.len() == 1 { rows.count } else { (BAND / (columns.count * V * L::N)).max(1) };
        for top in (0..rows.count).step_by(band) {
            for (index, part) in parts.iter().enumerate() {
                for row in top..(top + band).min(rows.count) {
                    let seen = rows.inside(row);
                    let taps = seen.start.max(part.rows.start)..seen.end.min(part.rows.end);
                    // An output that sees nothing is written once, too.
                    let nothing = seen.is_empty() && index == 0;
                    if taps.is_empty() && !nothing {
                        continue;
                    }
                    let begins = nothing || (taps.start == seen.start && part.ends[0]);
                    let ends = nothing || (taps.end == seen.end && part.ends[1]);
                    let runs = if part.runs.len() == self.runs.per_row {
                        taps.start * self.runs.per_row..taps.end * self.runs.per_row
                    } else {
                        let first = taps.start * self.runs.per_row;
                        first + part.runs.start..first + part.runs.end
                    };
                    let runs = if nothing { &[] } else { &self.runs.all[runs] };
                    // SAFETY: the condition of the caller.
                    unsafe { self.row::<L, V>(block, weights, row, runs, [begins, ends], mask) };
                }
            }
        }
    }

    /// One row of outputs meets some of the runs, the first of all or the last among them or not.
    #[inline(always)]
    unsafe fn row<L: Lanes, const V: usize>(
        &self,
        block: Block,
        weights: *const f32,
        row: usize,
        runs: &[Run],
        [begins, ends]: [bool; 2],
        mask: L::Mask,
    ) {
        let Walk { rows, columns } = self.walk;
        let step = columns.stride * self.input.pixel;
        let out_step = columns.step * self.out_pixel;
        let place =
            ((rows.first + row * rows.step) * self.out_width + columns.first) * self.out_pixel + block.start;
        let input = self.input.at(row * rows.stride, self.input.left);
        let line = Line {
            input,
            step,
            out: self.out.wrapping_add(place),
            out_step,
            count: columns.count,
            runs,
            weights,
            begins,
            finish: if ends { self.finish.at(block.start, place) } else { Finish::PLAIN },
        };
        // SAFETY: the outputs lie in this row, and the runs are those that stay in the map.
        unsafe {
            match self.order {
                Order::Abreast if L::WIDE => line.sum_abreast::<L, V>(mask),
                _ => line.sum::<L, V>(mask),
            }
        }
    }
}
