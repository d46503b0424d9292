//! The gradient of a kernel: for each tap, what the inputs it saw and the gradients of what it made have in common.

use super::buffer::Scratch;
use super::geometry::{Geometry, Walk};
use super::pack::{Block, blocks};
use super::rows::Padded;
use crate::simd::{Kernel, Lanes};

/// Bytes of a map's and of its gradient's rows that are kept near while all taps look at them.
const NEAR: usize = 16 << 10;

/// Channels of a map that are looked at together: a line of the cache.
const STRIPE: usize = 16;

/// How the gradient of one group's kernel lies while it is summed: by block of channels made, then by stripe of
/// channels seen, `[tap][channel seen][channel made]` with whole vectors. What one stripe of a map meets is then
/// one stretch of memory, and stays in the nearest cache.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    taps: usize,
    from: usize,
    to: usize,
    lanes: usize,
}

impl Sums {
    /// For a convolution and vectors of so many lanes.
    pub(crate) fn new(geometry: &Geometry, lanes: usize) -> Self {
        let taps = geometry.kernel[0] * geometry.kernel[1];
        Self { taps, from: geometry.group_from(), to: geometry.group_to(), lanes }
    }

    /// How many floats they are.
    pub(crate) fn len(&self) -> usize {
        self.taps * self.from * self.to.next_multiple_of(self.lanes)
    }

    /// Where those of a stripe and a block begin.
    #[inline(always)]
    fn start(&self, block: Block, stripe: usize) -> usize {
        self.taps * (self.from * block.start + stripe * block.vectors * self.lanes)
    }

    /// Tap and channel seen of each row of sums, in their order, and the block of channels made.
    fn rows(&self) -> impl Iterator<Item = ([usize; 2], Block)> {
        let Self { taps, from, to, lanes } = *self;
        blocks(to, lanes).flat_map(move |block| {
            (0..from).step_by(STRIPE).flat_map(move |stripe| {
                let width = STRIPE.min(from - stripe);
                (0..taps).flat_map(move |tap| (0..width).map(move |channel| ([tap, stripe + channel], block)))
            })
        })
    }

    /// Writes sums as the kernel of a group, whose rows begin `row` floats apart.
    ///
    /// # Safety
    /// The kernel is there.
    pub(crate) unsafe fn write(&self, sums: &[f32], kernel: *mut f32, row: usize) {
        let mut at = 0;
        for ([tap, channel], block) in self.rows() {
            let to = kernel.wrapping_add((tap * self.from + channel) * row + block.start);
            // SAFETY: this function's own condition.
            unsafe { to.copy_from_nonoverlapping(sums[at..at + block.channels].as_ptr(), block.channels) };
            at += block.vectors * self.lanes;
        }
    }
}

impl Padded {
    /// Some channels of it, copied side by side: pixels that lie a power of two apart share few places of a cache.
    #[inline(always)]
    unsafe fn gather<L: Lanes>(self, size: [usize; 2], channels: usize, to: &mut [f32]) -> Self {
        let pixel = channels.next_multiple_of(L::N);
        let gathered = Self { floats: to.as_ptr(), left: 0, width: size[1], pixel };
        let mut to = to.as_mut_ptr();
        for row in 0..size[0] {
            for column in 0..size[1] {
                let from = self.at(row, self.left + column);
                for channel in (0..channels).step_by(L::N) {
                    // SAFETY: the map has such pixels and channels, and `to` is as large as they need.
                    unsafe {
                        L::load_some(from.wrapping_add(channel), L::mask(channels - channel)).store(to);
                    }
                    to = to.wrapping_add(L::N);
                }
            }
        }
        gathered
    }
}

/// Adds one image's share to the gradient of the kernel.
pub(crate) struct Correlation<'a> {
    /// How the forward pass saw its inputs.
    pub walk: &'a Walk,
    /// What it saw.
    pub x: Padded,
    /// The gradient of what it made.
    pub gradient: Padded,
    /// How the sums lie.
    pub layout: Sums,
    /// The gradient of the kernel.
    pub sums: *mut f32,
}

/// Some pixels, row by row: where `x` and the gradient begin, how far it is to the next.
#[derive(Clone, Copy)]
pub(super) struct Pixels {
    pub rows: usize,
    pub columns: usize,
    pub x: *const f32,
    pub x_row: usize,
    pub x_step: usize,
    pub gradient: *const f32,
    pub gradient_row: usize,
    pub gradient_step: usize,
}

impl Kernel for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Walk { rows, columns } = self.walk;
        let Sums { from, to, .. } = self.layout;
        let (input, output) = ([rows.limit, columns.limit], [rows.count, columns.count]);
        let stripe_len = input[0] * input[1] * STRIPE.next_multiple_of(L::N);
        let mut x_room = Scratch::any(if from > STRIPE { from.div_ceil(STRIPE) * stripe_len } else { 0 });
        let mut gradient_room =
            Scratch::any(if to > 2 * L::N { output[0] * output[1] * 2 * L::N } else { 0 });
        for (block_index, block) in blocks(to, L::N).enumerate() {
            let mut gradient = self.gradient.channel(block.start);
            let gathered = to > 2 * L::N;
            if gathered {
                // SAFETY: the gradient has these channels.
                gradient = unsafe { gradient.gather::<L>(output, block.channels, &mut gradient_room) };
            }
            for (index, stripe) in (0..from).step_by(STRIPE).enumerate() {
                let width = STRIPE.min(from - stripe);
                let mut x = self.x.channel(stripe);
                if from > STRIPE {
                    let room = &mut x_room[index * stripe_len..][..stripe_len];
                    x = if block_index == 0 {
                        // SAFETY: the map has these channels.
                        unsafe { x.gather::<L>(input, width, room) }
                    } else {
                        Padded {
                            floats: room.as_ptr(),
                            left: 0,
                            width: input[1],
                            pixel: width.next_multiple_of(L::N),
                        }
                    };
                }
                let sums = self.sums.wrapping_add(self.layout.start(block, stripe));
                let share = Share { walk: self.walk, x, gradient, gathered, width, sums };
                // SAFETY: who made this sees to it that the pointers reach as far as the walk goes.
                unsafe {
                    match block.vectors {
                        1 => share.bands::<L, 1>(block.channels),
                        _ => share.bands::<L, 2>(block.channels),
                    }
                }
            }
        }
    }
}

/// What a stripe of channels seen and a block of channels made have in common.
struct Share<'a> {
    walk: &'a Walk,
    x: Padded,
    gradient: Padded,
    /// Whether that was filled up to whole vectors.
    gathered: bool,
    /// How many channels are seen.
    width: usize,
    sums: *mut f32,
}

impl Share<'_> {
    #[inline(always)]
    unsafe fn bands<L: Lanes, const V: usize>(&self, channels: usize) {
        let Walk { rows, columns } = self.walk;
        // SAFETY: the mask has at most `N` lanes.
        let mask = unsafe { L::mask(channels - (V - 1) * L::N) };
        // Whole vectors are there to be read where the block fills them, and where `gather` has filled up the last.
        let whole = channels == V * L::N || self.gathered;
        let pixel_bytes = 4 * (V * L::N + self.width * columns.stride);
        let near_columns = columns.count.min((NEAR / pixel_bytes).max(16));
        let near_rows = (NEAR / (near_columns * pixel_bytes)).max(1);
        for top in (0..rows.count).step_by(near_rows) {
            for first in (0..columns.count).step_by(near_columns) {
                // SAFETY: the condition of the caller.
                unsafe {
                    let (from, size) = ([top, first], [near_rows, near_columns]);
                    if whole {
                        self.taps::<L, V, true>(from, size, mask);
                    } else {
                        self.taps::<L, V, false>(from, size, mask);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn taps<L: Lanes, const V: usize, const WHOLE: bool>(
        &self,
        [top, first]: [usize; 2],
        [height, width]: [usize; 2],
        mask: L::Mask,
    ) {
        let Walk { rows, columns } = self.walk;
        for (row_tap, &(down, _)) in rows.taps.iter().enumerate() {
            let seen = rows.seeing(row_tap);
            let (low, high) = (seen.start.max(top), seen.end.min(top + height));
            for (column_tap, &(right, _)) in columns.taps.iter().enumerate() {
                let seen = columns.seeing(column_tap);
                let (start, end) = (seen.start.max(first), seen.end.min(first + width));
                if low >= high || start >= end {
                    continue;
                }
                let x_row = ((low * rows.stride) as isize + down) as usize;
                let x_column = ((start * columns.stride) as isize + right) as usize;
                let pixels = Pixels {
                    rows: high - low,
                    columns: end - start,
                    x: self.x.at(x_row, self.x.left + x_column),
                    x_row: rows.stride * self.x.width * self.x.pixel,
                    x_step: columns.stride * self.x.pixel,
                    gradient: self.gradient.at(low, self.gradient.left + start),
                    gradient_row: self.gradient.width * self.gradient.pixel,
                    gradient_step: self.gradient.pixel,
                };
                let tap = row_tap * columns.taps.len() + column_tap;
                let sums = self.sums.wrapping_add(tap * self.width * V * L::N);
                // SAFETY: the pixels are those that the tap sees, and each tap has its own sums.
                unsafe { channels::<L, V, WHOLE>(pixels, self.width, sums, mask) };
            }
        }
    }
}

/// All channels seen, as many at a time as there are registers for.
///
/// # Safety
/// Beside the condition of [`Lanes`]: the pixels are there, and `V` vectors of sums for each of `from` channels.
#[inline(always)]
pub(super) unsafe fn channels<L: Lanes, const V: usize, const WHOLE: bool>(
    pixels: Pixels,
    from: usize,
    sums: *mut f32,
    mask: L::Mask,
) {
    let mut channel = 0;
    macro_rules! tiles {
        ($channels:literal, $chains:literal) => {
            while channel + $channels <= from {
                let pixels = Pixels { x: pixels.x.wrapping_add(channel), ..pixels };
                // SAFETY: the condition of the caller.
                unsafe {
                    let sums = sums.wrapping_add(channel * V * L::N);
                    tile::<L, $channels, V, $chains, WHOLE>(pixels, sums, mask);
                }
                channel += $channels;
            }
        };
    }
    if L::WIDE {
        if V == 1 {
            tiles!(16, 1);
        }
        tiles!(8, 1);
        tiles!(4, 2);
        // Colours.
        tiles!(3, 4);
    } else {
        tiles!(6, 1);
        tiles!(4, 1);
        tiles!(3, 2);
    }
    tiles!(1, 4);
}

/// `I` channels seen × `V` vectors of channels made, summed over some pixels in `C` chains, because one sum alone
/// would wait for itself.
///
/// A mask takes a register: with 16 of them it would push a sum out, and where the vectors are `WHOLE` there is none.
#[inline(always)]
unsafe fn tile<L: Lanes, const I: usize, const V: usize, const C: usize, const WHOLE: bool>(
    pixels: Pixels,
    out: *mut f32,
    mask: L::Mask,
) {
    // SAFETY: the condition of the caller.
    unsafe {
        let mut sums = [[[L::splat(0.0); V]; I]; C];
        for row in 0..pixels.rows {
            let mut x = pixels.x.wrapping_add(row * pixels.x_row);
            let mut gradient = pixels.gradient.wrapping_add(row * pixels.gradient_row);
            let mut left = pixels.columns;
            while left >= C {
                for sums in &mut sums {
                    step::<L, I, V, WHOLE>(sums, x, gradient, mask);
                    x = x.wrapping_add(pixels.x_step);
                    gradient = gradient.wrapping_add(pixels.gradient_step);
                }
                left -= C;
            }
            if C > 1 {
                while left > 0 {
                    step::<L, I, V, WHOLE>(&mut sums[0], x, gradient, mask);
                    x = x.wrapping_add(pixels.x_step);
                    gradient = gradient.wrapping_add(pixels.gradient_step);
                    left -= 1;
                }
            }
        }
        for i in 0..I {
            for v in 0..V {
                let to = out.wrapping_add((i * V + v) * L::N);
                let mut total = L::load(to);
                for sums in &sums {
                    total = total.add(sums[i][v]);
                }
                total.store(to);
            }
        }
    }
}

#[inline(always)]
unsafe fn step<L: Lanes, const I: usize, const V: usize, const WHOLE: bool>(
    sums: &mut [[L; V]; I],
    x: *const f32,
    gradient: *const f32,
    mask: L::Mask,
) {
    // SAFETY: the condition of the caller.
    unsafe {
        let mut row = [L::splat(0.0); V];
        for v in 0..V {
            let from = gradient.wrapping_add(v * L::N);
            row[v] = if v == V - 1 && !WHOLE { L::load_some(from, mask) } else { L::load(from) };
        }
        for i in 0..I {
            let value = L::splat(*x.wrapping_add(i));
            for v in 0..V {
                sums[i][v] = value.mul_add(row[v], sums[i][v]);
            }
        }
    }
}
