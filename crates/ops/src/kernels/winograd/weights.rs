//! A kernel at all points.

use super::transform::weigh;
use super::{LINE, PIECES, Tiling};
use crate::kernels::buffer::{Scratch, Shared};
use crate::kernels::geometry::Geometry;
use crate::kernels::pack::{Direction, blocks};
use crate::simd::{Kernel, Lanes, Simd, transpose};
use crate::threads::{par, stretch};
use std::ops::Range;

/// A kernel at all points: `[point][block of channels written][channel read][channel written]`.
pub(super) struct Weights {
    pub floats: Scratch,
    /// From one point to the next.
    pub point: usize,
}

impl Weights {
    /// Of a kernel `(3, 3, from, to)`, whichever way it is used.
    pub fn new(
        simd: Simd,
        geometry: &Geometry,
        direction: Direction,
        tiling: Tiling,
        kernel: &[f32],
    ) -> Self {
        let (read, written) = direction.channels(geometry);
        let point = read * written.next_multiple_of(simd.lanes()) + LINE;
        let mut floats = Scratch::any(tiling.points() * point);
        let to = Shared::to(&mut floats);
        // Backwards, each input sees the outputs through the taps in the other order.
        let turned = (direction == Direction::Backward).then(|| turned(kernel, [written, read]));
        let kernel = turned.as_deref().unwrap_or(kernel);
        par(PIECES, |piece| {
            let rows = stretch(read, PIECES, piece);
            // SAFETY: each piece writes its own rows.
            let to = unsafe { to.at(0) };
            simd.run(Weigh { kernel, rows, read, written, window: tiling.window, to, point });
        });
        Self { floats, point }
    }
}

/// A kernel with its taps in the other order, and the channels read and written exchanged.
fn turned(kernel: &[f32], [from, to]: [usize; 2]) -> Scratch {
    let mut turned = Scratch::any(kernel.len());
    let out = Shared::to(&mut turned);
    par(9, |tap| {
        // SAFETY: each tap is a matrix of its own.
        unsafe {
            transpose(
                kernel[tap * from * to..].as_ptr(),
                to,
                out.at((8 - tap) * from * to),
                from,
                [from, to],
            );
        }
    });
    turned
}

/// Brings some rows of a kernel to points.
struct Weigh<'a> {
    kernel: &'a [f32],
    rows: Range<usize>,
    read: usize,
    written: usize,
    window: usize,
    to: *mut f32,
    point: usize,
}

impl Kernel for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: whoever made this has a kernel of 3 × 3, and room for it at all points.
        unsafe {
            match self.window {
                4 => self.weigh::<L, 4>(),
                _ => self.weigh::<L, 6>(),
            }
        }
    }
}

impl Weigh<'_> {
    #[inline(always)]
    unsafe fn weigh<L: Lanes, const N: usize>(self) {
        for row in self.rows {
            for block in blocks(self.written, L::N) {
                for vector in 0..block.vectors {
                    let channel = block.start + vector * L::N;
                    let from = self.kernel.as_ptr().wrapping_add(row * self.written + channel);
                    let to = block.start * self.read + (row * block.vectors + vector) * L::N;
                    // SAFETY: the condition of the caller.
                    unsafe {
                        let mask = L::mask(self.written - channel);
                        let mut half = [[L::splat(0.0); N]; 3];
                        for column in 0..3 {
                            let mut weights = [L::splat(0.0); 3];
                            for row in 0..3 {
                                let tap = (row * 3 + column) * self.read * self.written;
                                weights[row] = L::load_some(from.wrapping_add(tap), mask);
                            }
                            half[column] = weigh(weights);
                        }
                        for row in 0..N {
                            let weights = weigh::<L, N>([half[0][row], half[1][row], half[2][row]]);
                            for column in 0..N {
                                let point = (row * N + column) * self.point;
                                weights[column].store(self.to.wrapping_add(point + to));
                            }
                        }
                    }
                }
            }
        }
    }
}
