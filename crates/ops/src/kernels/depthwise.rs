//! Convolutions in which each channel is a group of its own: lanes are channels, and no sum crosses them.

use super::coming::Coming;
use super::geometry::Walk;
use super::period::load;
use super::rows::Padded;
use super::tile::{ANY, Finish, write, zeros};
use crate::simd::{Kernel, Lanes};
use std::ops::Range;

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
    /// What the next image reads and writes, and how many floats: a channel alone has little to do, and would wait for them.
    pub next: [(*const f32, usize); 2],
}

impl Kernel for Depthwise<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (channels, rows) = (self.input.pixel, self.walk.rows.count);
        let parts = rows * channels.div_ceil(L::N);
        let mut next = self.next.map(|(from, floats)| Coming::new(from, floats, parts));
        for row in 0..rows {
            for channel in (0..channels).step_by(L::N) {
                next.iter_mut().for_each(Coming::ask);
                // SAFETY: who made this sees to it that its pointers reach as far as the walk goes.
                unsafe {
                    match (channel + L::N <= channels, self.walk.columns.stride) {
                        (true, 1) => self.row::<L, true, 1>(row, channel),
                        (true, 2) => self.row::<L, true, 2>(row, channel),
                        (true, _) => self.row::<L, true, ANY>(row, channel),
                        (false, 1) => self.row::<L, false, 1>(row, channel),
                        (false, 2) => self.row::<L, false, 2>(row, channel),
                        (false, _) => self.row::<L, false, ANY>(row, channel),
                    }
                }
            }
        }
    }
}

impl Depthwise<'_> {
    /// A row of outputs, one vector of channels; `STRIDE` input columns from one to the next.
    #[inline(always)]
    unsafe fn row<L: Lanes, const WHOLE: bool, const STRIDE: usize>(&self, row: usize, channel: usize) {
        let Walk { rows, columns } = self.walk;
        let (channels, taps) = (self.input.pixel, rows.inside(row));
        let step = columns.step * channels;
        let place = (rows.first + row * rows.step) * self.out_width + columns.first;
        let place = place * channels + channel;
        // SAFETY: the mask has at most `N` lanes.
        let mask = unsafe { L::mask(channels - channel) };
        let mut column = 0;
        macro_rules! tiles {
            ($pixels:literal) => {
                while column + $pixels <= columns.count {
                    let place = place + column * step;
                    // SAFETY: the tile's pixels lie in this row, and the taps are those that stay in the map.
                    unsafe {
                        let at = [row, column];
                        let sums = self.sum::<L, $pixels, WHOLE, STRIDE>(at, taps.clone(), channel, mask);
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

    /// `P` pixels of a row, one vector of channels.
    #[inline(always)]
    unsafe fn sum<L: Lanes, const P: usize, const WHOLE: bool, const STRIDE: usize>(
        &self,
        [row, column]: [usize; 2],
        taps: Range<usize>,
        channel: usize,
        mask: L::Mask,
    ) -> [[L; 1]; P] {
        let Walk { rows, columns } = self.walk;
        let pixel = self.input.pixel;
        let stride = if STRIDE == ANY { columns.stride } else { STRIDE };
        // SAFETY: the condition of the caller.
        unsafe {
            let mut sums = zeros::<L, P, 1>();
            for &(down, kernel_row) in &rows.taps[taps] {
                let from_row = (row * rows.stride).wrapping_add_signed(down);
                let from = self.input.at(from_row, column * columns.stride + self.input.left);
                let from = from.wrapping_add(channel);
                let mut first = 0;
                macro_rules! taps {
                    ($taps:literal) => {
                        while columns.neighbours(first) >= $taps {
                            let taps = &columns.taps[first..first + $taps];
                            // Neighbouring taps see much the same inputs: the compiler reads each but once.
                            let x = from.wrapping_offset(taps[0].0 * pixel as isize);
                            let mut weights = [L::splat(0.0); $taps];
                            for tap in 0..$taps {
                                let place = (kernel_row * self.kernel_width + taps[tap].1) * pixel + channel;
                                weights[tap] = load::<L, WHOLE>(self.kernel[place..].as_ptr(), mask);
                            }
                            for p in 0..P {
                                for tap in 0..$taps {
                                    let x = x.wrapping_add((p * stride + tap) * pixel);
                                    sums[p][0] = load::<L, WHOLE>(x, mask).mul_add(weights[tap], sums[p][0]);
                                }
                            }
                            first += $taps;
                        }
                    };
                }
                taps!(3);
                taps!(1);
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
        let channels = self.x.pixel;
        for channel in (0..channels).step_by(L::N) {
            // SAFETY: who made this sees to it that its pointers reach as far as the walk goes.
            unsafe {
                match (channel + L::N <= channels, self.walk.columns.stride) {
                    (true, 1) => self.channels::<L, true, 1>(channel),
                    (true, 2) => self.channels::<L, true, 2>(channel),
                    (true, _) => self.channels::<L, true, ANY>(channel),
                    (false, 1) => self.channels::<L, false, 1>(channel),
                    (false, 2) => self.channels::<L, false, 2>(channel),
                    (false, _) => self.channels::<L, false, ANY>(channel),
                }
            }
        }
    }
}

/// Sums of one tap that do not wait for each other.
const CHAINS: usize = 4;

impl DepthwiseShare<'_> {
    /// All taps, one vector of channels.
    #[inline(always)]
    unsafe fn channels<L: Lanes, const WHOLE: bool, const STRIDE: usize>(&mut self, channel: usize) {
        let Walk { rows, columns } = self.walk;
        for row_tap in 0..rows.taps.len() {
            let mut first = 0;
            macro_rules! taps {
                ($taps:literal) => {
                    while columns.neighbours(first) >= $taps {
                        // SAFETY: the condition of the caller.
                        unsafe { self.taps::<L, $taps, WHOLE, STRIDE>(channel, row_tap, first) };
                        first += $taps;
                    }
                };
            }
            taps!(3);
            taps!(1);
        }
    }

    /// `T` neighbouring taps, all pixels.
    #[inline(always)]
    unsafe fn taps<L: Lanes, const T: usize, const WHOLE: bool, const STRIDE: usize>(
        &mut self,
        channel: usize,
        row_tap: usize,
        column_tap: usize,
    ) {
        let Walk { rows, columns } = self.walk;
        let pixel = self.x.pixel;
        let stride = if STRIDE == ANY { columns.stride } else { STRIDE };
        // SAFETY: the condition of the caller.
        unsafe {
            let mask = L::mask(pixel - channel);
            let mut sums = [[L::splat(0.0); CHAINS]; T];
            for row in rows.seeing(row_tap) {
                let x_row = (row * rows.stride).wrapping_add_signed(rows.taps[row_tap].0);
                let left = self.x.left.wrapping_add_signed(columns.taps[column_tap].0);
                let mut x = self.x.at(x_row, left).wrapping_add(channel);
                let mut gradient = self.gradient.at(row, self.gradient.left).wrapping_add(channel);
                let mut left = columns.count;
                macro_rules! pixels {
                    ($pixels:expr) => {
                        while left >= $pixels {
                            for p in 0..$pixels {
                                let value = load::<L, WHOLE>(gradient.wrapping_add(p * pixel), mask);
                                for tap in 0..T {
                                    let x = x.wrapping_add((p * stride + tap) * pixel);
                                    sums[tap][p] = load::<L, WHOLE>(x, mask).mul_add(value, sums[tap][p]);
                                }
                            }
                            x = x.wrapping_add($pixels * stride * pixel);
                            gradient = gradient.wrapping_add($pixels * pixel);
                            left -= $pixels;
                        }
                    };
                }
                pixels!(CHAINS);
                pixels!(1);
            }
            for (tap, sums) in sums.iter().enumerate() {
                let tap = row_tap * columns.taps.len() + column_tap + tap;
                let to = self.sums[tap * pixel + channel..].as_mut_ptr();
                let mut total = L::load_some(to, mask);
                for sum in sums {
                    total = total.add(*sum);
                }
                total.store_some(to, mask);
            }
        }
    }
}
