//! The gradient of a kernel: for each tap, what the inputs it saw and the gradients of what it made have in common.

use super::geometry::Walk;
use super::pack::{Block, blocks};
use crate::simd::{Kernel, Lanes};

/// Bytes of a map's and of its gradient's rows that are kept near while all taps look at them.
const NEAR: usize = 24 << 10;

/// One image's map, or its gradient.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    /// The first float of the first pixel.
    pub floats: *const f32,
    /// Pixels from one row to the next.
    pub width: usize,
    /// Floats from one pixel to the next.
    pub pixel: usize,
}

impl Map {
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> *const f32 {
        self.floats.wrapping_add((row * self.width + column) * self.pixel)
    }
}

/// Adds one image's share to the gradient of the kernel.
pub(crate) struct Correlation<'a> {
    /// How the forward pass saw its inputs.
    pub walk: &'a Walk,
    /// What it saw.
    pub x: Map,
    /// The gradient of what it made.
    pub gradient: Map,
    /// Channels seen.
    pub from: usize,
    /// Channels made.
    pub to: usize,
    /// The gradient of the kernel.
    pub out: *mut f32,
    /// From one of its rows to the next.
    pub out_row: usize,
}

/// Some pixels, row by row: where `x` and the gradient begin, how far it is to the next.
#[derive(Clone, Copy)]
struct Pixels {
    rows: usize,
    columns: usize,
    x: *const f32,
    x_row: usize,
    x_step: usize,
    gradient: *const f32,
    gradient_row: usize,
    gradient_step: usize,
}

impl Kernel for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Walk { rows, columns } = self.walk;
        let pixel_bytes = 4 * (self.to.min(2 * L::N) + self.from.min(64) * columns.stride);
        let near_columns = columns.count.min((NEAR / pixel_bytes).max(16));
        let near_rows = (NEAR / (near_columns * pixel_bytes)).max(1);
        for top in (0..rows.count).step_by(near_rows) {
            for first in (0..columns.count).step_by(near_columns) {
                for block in blocks(self.to, L::N) {
                    // SAFETY: who made this sees to it that the pointers reach as far as the walk goes.
                    unsafe {
                        match block.vectors {
                            1 => self.taps::<L, 1>(block, [top, first], [near_rows, near_columns]),
                            _ => self.taps::<L, 2>(block, [top, first], [near_rows, near_columns]),
                        }
                    }
                }
            }
        }
    }
}

impl Correlation<'_> {
    #[inline(always)]
    unsafe fn taps<L: Lanes, const V: usize>(
        &self,
        block: Block,
        [top, first]: [usize; 2],
        [height, width]: [usize; 2],
    ) {
        let Walk { rows, columns } = self.walk;
        // SAFETY: the mask has at most `N` lanes.
        let mask = unsafe { L::mask(block.channels - (V - 1) * L::N) };
        for (row_tap, &(down, kernel_row)) in rows.taps.iter().enumerate() {
            let seen = rows.seeing(row_tap);
            let (low, high) = (seen.start.max(top), seen.end.min(top + height));
            for (column_tap, &(right, kernel_column)) in columns.taps.iter().enumerate() {
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
                    x: self.x.at(x_row, x_column),
                    x_row: rows.stride * self.x.width * self.x.pixel,
                    x_step: columns.stride * self.x.pixel,
                    gradient: self.gradient.at(low, start).wrapping_add(block.start),
                    gradient_row: self.gradient.width * self.gradient.pixel,
                    gradient_step: self.gradient.pixel,
                };
                let tap = kernel_row * columns.taps.len() + kernel_column;
                let out = self.out.wrapping_add(tap * self.from * self.out_row + block.start);
                // SAFETY: the pixels are those that the tap sees, and each tap has its own rows.
                unsafe { channels::<L, V>(pixels, self.from, out, self.out_row, mask) };
            }
        }
    }
}

/// All channels seen, as many at a time as there are registers for.
#[inline(always)]
unsafe fn channels<L: Lanes, const V: usize>(
    pixels: Pixels,
    from: usize,
    out: *mut f32,
    out_row: usize,
    mask: L::Mask,
) {
    let mut channel = 0;
    macro_rules! tiles {
        ($channels:literal, $chains:literal) => {
            while channel + $channels <= from {
                let pixels = Pixels { x: pixels.x.wrapping_add(channel), ..pixels };
                // SAFETY: the condition of the caller.
                unsafe {
                    tile::<L, $channels, V, $chains>(
                        pixels,
                        out.wrapping_add(channel * out_row),
                        out_row,
                        mask,
                    );
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
#[inline(always)]
unsafe fn tile<L: Lanes, const I: usize, const V: usize, const C: usize>(
    pixels: Pixels,
    out: *mut f32,
    out_row: usize,
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
                    step::<L, I, V>(sums, x, gradient, mask);
                    x = x.wrapping_add(pixels.x_step);
                    gradient = gradient.wrapping_add(pixels.gradient_step);
                }
                left -= C;
            }
            if C > 1 {
                while left > 0 {
                    step::<L, I, V>(&mut sums[0], x, gradient, mask);
                    x = x.wrapping_add(pixels.x_step);
                    gradient = gradient.wrapping_add(pixels.gradient_step);
                    left -= 1;
                }
            }
        }
        for i in 0..I {
            for v in 0..V {
                let mask = if v == V - 1 { mask } else { L::mask(L::N) };
                let to = out.wrapping_add(i * out_row + v * L::N);
                let mut total = L::load_some(to, mask);
                for sums in &sums {
                    total = total.add(sums[i][v]);
                }
                total.store_some(to, mask);
            }
        }
    }
}

#[inline(always)]
unsafe fn step<L: Lanes, const I: usize, const V: usize>(
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
            row[v] = if v == V - 1 { L::load_some(from, mask) } else { L::load(from) };
        }
        for i in 0..I {
            let value = L::splat(*x.wrapping_add(i));
            for v in 0..V {
                sums[i][v] = value.mul_add(row[v], sums[i][v]);
            }
        }
    }
}
