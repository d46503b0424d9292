//! One image through a convolution, row by row of the output.

use super::geometry::Walk;
use super::pack::{Block, Packed, blocks};
use super::tile::{ANY, Finish, Run, sum, write};
use crate::simd::{Kernel, Lanes};
use std::ops::Range;

/// An image with zeros left and right of each row, so that no column of the output is special. Above and below
/// there are none: there the taps that would see them are left out.
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

/// How the taps of a walk become runs over a [`Padded`] image.
#[derive(Debug)]
pub(crate) struct Runs {
    all: Vec<Run>,
    /// Runs in each row of taps.
    per_row: usize,
}

impl Runs {
    /// For images of `width` pixels of `pixel` floats, of which `channels` are read.
    pub(crate) fn new(walk: &Walk, width: usize, pixel: usize, channels: usize) -> Self {
        let columns = &walk.columns.taps;
        // Pixels that are neighbours in the map are neighbours in memory: their taps are one run.
        let joined = pixel == channels && columns.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0);
        let (per_row, len) =
            if joined { (columns.len().min(1), columns.len() * channels) } else { (columns.len(), channels) };
        let mut all = Vec::with_capacity(walk.rows.taps.len() * per_row);
        for (row, &(down, _)) in walk.rows.taps.iter().enumerate() {
            for (column, &(right, _)) in columns.iter().enumerate().take(per_row) {
                all.push(Run {
                    input: (down * width as isize + right) * pixel as isize,
                    weight: (row * columns.len() + column) * channels,
                    len,
                });
            }
        }
        Self { all, per_row }
    }

    /// The runs of some rows of taps.
    fn of(&self, rows: Range<usize>) -> &[Run] {
        &self.all[rows.start * self.per_row..rows.end * self.per_row]
    }
}

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
        let step = columns.stride * self.input.pixel;
        let out_step = columns.step * self.out_pixel;
        for row in 0..rows.count {
            let runs = self.runs.of(rows.inside(row));
            let start = (row * rows.stride * self.input.width + self.input.left) * self.input.pixel;
            let place = ((rows.first + row * rows.step) * self.out_width + columns.first) * self.out_pixel
                + block.start;
            let input = self.input.floats.wrapping_add(start);
            let mut column = 0;
            macro_rules! tiles {
                ($pixels:literal, $step:expr) => {
                    while column + $pixels <= columns.count {
                        // SAFETY: the tile's pixels lie in this row, and the runs are those that stay in the map.
                        unsafe {
                            let sums = sum::<L, $pixels, V, $step>(input.wrapping_add(column * step), step, runs, weights);
                            let place = place + column * out_step;
                            let finish = self.finish.at(block.start, place);
                            write::<L, $pixels, V>(sums, self.out.add(place), out_step, $pixels, mask, &finish);
                        }
                        column += $pixels;
                    }
                };
            }
            if L::WIDE {
                if V == 1 {
                    match step {
                        3 => tiles!(16, 3),
                        16 => tiles!(16, 16),
                        32 => tiles!(16, 32),
                        _ => {}
                    }
                }
                tiles!(8, ANY);
            } else {
                tiles!(6, ANY);
            }
            tiles!(4, ANY);
            tiles!(2, ANY);
            tiles!(1, ANY);
        }
    }
}
