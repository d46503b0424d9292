//! Convolutions in which each channel is a group of its own: lanes are channels, and no sum crosses them.

use super::geometry::Walk;
use super::rows::Padded;
use super::tile::{Finish, write, zeros};
use crate::simd::{Kernel, Lanes};

/// Sums every output that a walk makes of one image.
pub(crate) struct Depthwise<'a> {
    /// How outputs see inputs.
    pub walk: &'a Walk,
    /// The image.
    pub input: Padded,
    /// `(tap, channel)`.
    pub kernel: &'a [f32],
    /// Taps in a row of the kernel.
    pub kernel_width: usize,
    /// The image's outputs.
    pub out: *mut f32,
    /// Pixels in a row of outputs, those of other walks included.
    pub out_width: usize,
    /// What happens to the sums.
    pub finish: Finish,
}

impl Kernel for Depthwise<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Walk { rows, columns } = self.walk;
        let channels = self.input.pixel;
        let step = columns.step * channels;
        for row in 0..rows.count {
            let taps = rows.inside(row);
            for channel in (0..channels).step_by(L::N) {
                // SAFETY: the mask has at most `N` lanes.
                let mask = unsafe { L::mask(channels - channel) };
                let mut column = 0;
                macro_rules! tiles {
                    ($pixels:literal) => {
                        while column + $pixels <= columns.count {
                            let place = (rows.first + row * rows.step) * self.out_width + columns.first;
                            let place = place * channels + column * step + channel;
                            // SAFETY: the tile's pixels lie in this row, and the taps are those that stay in the map.
                            unsafe {
                                let sums = self.sum::<L, $pixels>([row, column], taps.clone(), channel, mask);
                                let finish = self.finish.at(channel, place);
                                write::<L, $pixels, 1>(sums, self.out.add(place), step, $pixels, mask, &finish);
                            }
                            column += $pixels;
                        }
                    };
                }
                tiles!(8);
                tiles!(4);
                tiles!(1);
            }
        }
    }
}

impl Depthwise<'_> {
    /// `P` pixels of a row, one vector of channels.
    #[inline(always)]
    unsafe fn sum<L: Lanes, const P: usize>(
        &self,
        [row, column]: [usize; 2],
        taps: std::ops::Range<usize>,
        channel: usize,
        mask: L::Mask,
    ) -> [[L; 1]; P] {
        let Walk { rows, columns } = self.walk;
        let step = columns.stride * self.input.pixel;
        // SAFETY: the condition of the caller.
        unsafe {
            let mut sums = zeros::<L, P, 1>();
            for &(down, kernel_row) in &rows.taps[taps] {
                let from_row = (row * rows.stride).wrapping_add_signed(down);
                for &(right, kernel_column) in &columns.taps {
                    let from_column = (column * columns.stride + self.input.left).wrapping_add_signed(right);
                    let tap = kernel_row * self.kernel_width + kernel_column;
                    let weight = L::load_some(self.kernel[tap * self.input.pixel + channel..].as_ptr(), mask);
                    let x = self.input.at(from_row, from_column).wrapping_add(channel);
                    for p in 0..P {
                        sums[p][0] = L::load_some(x.wrapping_add(p * step), mask).mul_add(weight, sums[p][0]);
                    }
                }
            }
            sums
        }
    }
}

/// Adds one image's share to the gradient of the kernel.
pub(crate) struct DepthwiseShare<'a> {
    /// How the forward pass saw its inputs.
    pub walk: &'a Walk,
    /// What it saw.
    pub x: Padded,
    /// The gradient of what it made.
    pub gradient: Padded,
    /// `(tap, channel)`.
    pub sums: &'a mut [f32],
}

impl Kernel for DepthwiseShare<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        for channel in (0..self.x.pixel).step_by(L::N) {
            for row_tap in 0..self.walk.rows.taps.len() {
                let mut column_tap = 0;
                macro_rules! taps {
                    ($taps:literal) => {
                        while column_tap + $taps <= self.walk.columns.taps.len() {
                            // SAFETY: who made this sees to it that its pointers reach as far as the walk goes.
                            unsafe { self.taps::<L, $taps>(channel, row_tap, column_tap) };
                            column_tap += $taps;
                        }
                    };
                }
                taps!(3);
                taps!(1);
            }
        }
    }
}

/// Sums of one tap that do not wait for each other.
const CHAINS: usize = 4;

impl DepthwiseShare<'_> {
    /// `T` neighbouring taps, one vector of channels, all pixels.
    #[inline(always)]
    unsafe fn taps<L: Lanes, const T: usize>(&mut self, channel: usize, row_tap: usize, column_tap: usize) {
        let Walk { rows, columns } = self.walk;
        let (channels, step) = (self.x.pixel, columns.stride * self.x.pixel);
        let places: [isize; T] = std::array::from_fn(|tap| columns.taps[column_tap + tap].0);
        // SAFETY: the condition of the caller.
        unsafe {
            let mask = L::mask(channels - channel);
            let mut sums = [[L::splat(0.0); CHAINS]; T];
            for row in rows.seeing(row_tap) {
                let x_row = (row * rows.stride).wrapping_add_signed(rows.taps[row_tap].0);
                let x = places.map(|right| {
                    self.x.at(x_row, self.x.left.wrapping_add_signed(right)).wrapping_add(channel)
                });
                let gradient = self.gradient.at(row, self.gradient.left).wrapping_add(channel);
                let pixel = |sums: &mut [[L; CHAINS]; T], column: usize, chain: usize| {
                    let value = L::load_some(gradient.wrapping_add(column * channels), mask);
                    for tap in 0..T {
                        let x = L::load_some(x[tap].wrapping_add(column * step), mask);
                        sums[tap][chain] = x.mul_add(value, sums[tap][chain]);
                    }
                };
                let mut column = 0;
                while column + CHAINS <= columns.count {
                    for chain in 0..CHAINS {
                        pixel(&mut sums, column + chain, chain);
                    }
                    column += CHAINS;
                }
                while column < columns.count {
                    pixel(&mut sums, column, 0);
                    column += 1;
                }
            }
            for (tap, sums) in sums.iter().enumerate() {
                let tap = row_tap * columns.taps.len() + column_tap + tap;
                let to = self.sums[tap * channels + channel..].as_mut_ptr();
                let mut total = L::load_some(to, mask);
                for sum in sums {
                    total = total.add(*sum);
                }
                total.store_some(to, mask);
            }
        }
    }
}
