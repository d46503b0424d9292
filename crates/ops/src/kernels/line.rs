//! A row of outputs, tile by tile.

use super::tile::{ANY, Finish, Run, read, sum, sum_abreast, write, zeros};
use crate::simd::Lanes;
use crate::threads::stretch;

/// Outputs in a row, a block of channels of each.
pub(crate) struct Line<'a> {
    /// Where the first output looks.
    pub input: *const f32,
    /// Floats from where an output looks to where the next does.
    pub step: usize,
    /// The first output.
    pub out: *mut f32,
    /// Floats from one output to the next.
    pub out_step: usize,
    /// How many outputs.
    pub count: usize,
    /// What each sums.
    pub runs: &'a [Run],
    /// The block's weights.
    pub weights: *const f32,
    /// Whether the sums begin here, or go on with what was written plainly.
    pub begins: bool,
    /// What happens to them, from the first output and its first channel on.
    pub finish: Finish,
}

impl Line<'_> {
    /// Sums `V` vectors of channels of each output, the last under `mask`.
    ///
    /// # Safety
    /// Beside the condition of [`Lanes`]: the runs stay in the map, and the weights and the outputs are there.
    #[inline(always)]
    pub(crate) unsafe fn sum<L: Lanes, const V: usize>(&self, mask: L::Mask) {
        let Self { input, step, out, out_step, count, runs, weights, begins, finish } = *self;
        let mut done = 0;
        macro_rules! tiles {
            ($pixels:literal, $step:expr) => {
                while done + $pixels <= count {
                    // SAFETY: this function's own condition.
                    unsafe {
                        let place = done * out_step;
                        let out = out.add(place);
                        let sums = if begins { zeros() } else { read::<L, $pixels, V>(out, out_step, mask) };
                        let input = input.wrapping_add(done * step);
                        let sums = sum::<L, $pixels, V, $step>(sums, input, step, runs, weights);
                        write::<L, $pixels, V>(sums, out, out_step, $pixels, mask, &finish.at(0, place));
                    }
                    done += $pixels;
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

    /// The same of a whole row, with three taps abreast: in tiles of about the same size, of as many sums and inputs as
    /// there are registers for.
    ///
    /// # Safety
    /// As for [`Line::sum`].
    #[inline(always)]
    pub(crate) unsafe fn sum_abreast<L: Lanes, const V: usize>(&self, mask: L::Mask) {
        let Self { input, step, out, out_step, count, runs, weights, begins, finish } = *self;
        let tiles = count.div_ceil(if V == 1 { 11 } else { 8 });
        for index in 0..tiles {
            let tile = stretch(count, tiles, index);
            let beside = [tile.start > 0, tile.end < count];
            let place = tile.start * out_step;
            let (input, out) = (input.wrapping_add(tile.start * step), out.wrapping_add(place));
            let finish = finish.at(0, place);
            macro_rules! tile {
                ($pixels:literal) => {
                    // SAFETY: this function's own condition.
                    unsafe {
                        let sums = if begins { zeros() } else { read::<L, $pixels, V>(out, out_step, mask) };
                        let sums = sum_abreast::<L, $pixels, V>(sums, input, step, beside, runs, weights);
                        write::<L, $pixels, V>(sums, out, out_step, $pixels, mask, &finish);
                    }
                };
            }
            match tile.len() {
                1 => tile!(1),
                2 => tile!(2),
                3 => tile!(3),
                4 => tile!(4),
                5 => tile!(5),
                6 => tile!(6),
                7 => tile!(7),
                8 => tile!(8),
                9 if V == 1 => tile!(9),
                10 if V == 1 => tile!(10),
                11 if V == 1 => tile!(11),
                _ => unreachable!("a tile of that size"),
            }
        }
    }
}
