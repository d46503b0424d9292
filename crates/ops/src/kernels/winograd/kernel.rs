//! The gradient of a kernel by Winograd: at each point, what windows and gradients have in common.

use super::maps::{Layout, Maps, Window};
use super::transform::{make_back, weigh_back};
use super::{PIECES, STRIPE, Tiling};
use crate::kernels::buffer::{Fresh, Scratch, Shared};
use crate::kernels::geometry::Geometry;
use crate::kernels::pack::blocks;
use crate::kernels::weights::{Pixels, channels};
use crate::simd::{Kernel, Lanes, Simd};
use crate::threads::{par, stretch};
use std::ops::Range;

/// Floats of windows and gradients at all points, about. They fill the farthest cache: what is summed at each point is
/// read and written once for so many.
const FAR: usize = 1 << 20;

/// Tiles that one piece of work brings to points.
const FEW: usize = 16;

/// The gradient of the kernel, from the maps and from the gradients of the outputs.
pub(super) fn correlate(
    simd: Simd,
    geometry: &Geometry,
    tiling: Tiling,
    x: &[f32],
    gradient: &[f32],
) -> Vec<f32> {
    let Geometry { from, to, batch, .. } = *geometry;
    let total = batch * tiling.each();
    let (maps, gradients) = (Maps::new(x, geometry, from, tiling), Maps::new(gradient, geometry, to, tiling));
    let blocks: Vec<_> = blocks(to, simd.lanes()).collect();
    let point = from * to.next_multiple_of(simd.lanes()) + super::LINE;
    // Halves that meet by themselves let a thread read what it has written: what another has is far away. Their sums are
    // added in the end, which pays where those are fewer than windows and gradients.
    let halves = if 4 * from * to < total * (from + to) { 2 } else { 1 };
    let many = FAR / halves / (tiling.points() * (from + to));
    let many = many.clamp(64, 1024).next_multiple_of(FEW).min(total);
    let (seen, told) =
        (Layout::new(tiling, many, from, STRIPE), Layout::new(tiling, many, to, 2 * simd.lanes()));
    let len = tiling.points() * point;
    let mut sums = Scratch::any(halves * len);
    let mut rooms: Vec<_> = (0..halves).map(|_| (seen.room(), told.room())).collect();
    let sums_at = Shared::to(&mut sums);
    let rooms: Vec<_> = rooms.iter_mut().map(|(seen, told)| (Shared::to(seen), Shared::to(told))).collect();
    par(halves, |half| {
        let (windows_at, tellings_at) = rooms[half];
        // SAFETY: each half has sums of its own.
        let sums_at = Shared::to(unsafe { std::slice::from_raw_parts_mut(sums_at.at(half * len), len) });
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(sums_at.at(0), len) }.fill(0.0);
        let pieces = stretch(total.div_ceil(FEW), halves, half);
        let end = total.min(pieces.end * FEW);
        for first in (pieces.start * FEW..end).step_by(many) {
            let count = many.min(end - first);
            par(count.div_ceil(FEW), |piece| {
                let tiles = piece * FEW..count.min((piece + 1) * FEW);
                // SAFETY: each piece writes its own tiles.
                let (windows, tellings) = unsafe { (windows_at.at(0), tellings_at.at(0)) };
                simd.run(Look { maps, gradients, first, tiles, seen, told, windows, tellings });
            });
            par(tiling.points() * blocks.len(), |piece| {
                let (at, block) = (piece / blocks.len(), blocks[piece % blocks.len()]);
                // SAFETY: all tiles have been written; each piece adds to its own sums.
                unsafe {
                    simd.run(Meet {
                        count,
                        from,
                        vectors: block.vectors,
                        seen,
                        windows: windows_at.at(at * seen.point),
                        tellings: tellings_at.at(at * told.point + told.at(block.start, 0)),
                        sums: sums_at.at(at * point + block.start * from),
                    });
                }
            });
        }
    });
    let mut kernel = Fresh::new(geometry.kernel_len());
    let kernel_at = kernel.as_mut_ptr();
    par(PIECES, |piece| {
        let rows = stretch(from, PIECES, piece);
        // SAFETY: each piece writes its own rows.
        let kernel = unsafe { kernel_at.at(0) };
        simd.run(Gather { sums: &sums, len, point, rows, from, to, window: tiling.window, kernel });
    });
    // SAFETY: the pieces cover all rows of all taps.
    unsafe { kernel.written() }
}

/// Brings the windows and the gradients of some tiles to points.
struct Look<'a> {
    maps: Maps<'a>,
    gradients: Maps<'a>,
    /// The first tile at the points.
    first: usize,
    tiles: Range<usize>,
    seen: Layout,
    told: Layout,
    windows: *mut f32,
    tellings: *mut f32,
}

impl Kernel for Look<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: whoever made this has maps with these tiles, and room for them at all points.
        unsafe {
            match self.maps.tiling.window {
                4 => self.tiles::<L, 4, 2>(),
                _ => self.tiles::<L, 6, 4>(),
            }
        }
    }
}

impl Look<'_> {
    #[inline(always)]
    unsafe fn tiles<L: Lanes, const N: usize, const M: usize>(self) {
        let Self { maps, gradients, first, tiles, seen, windows, .. } = &self;
        let nothing = [maps.nothing(N), gradients.nothing(M)];
        let places = first + tiles.start..first + tiles.end;
        let x = maps.windows::<N>(places.clone(), 1, &nothing[0]);
        let gradients = gradients.windows::<M>(places, 0, &nothing[1]);
        // SAFETY: the condition of the caller.
        unsafe {
            seen.look::<L, N>(&x, maps.channels, tiles.start, *windows);
            self.told::<L, N, M>(&gradients);
        }
    }

    /// The gradients of the tiles' outputs, at all points.
    #[inline(always)]
    unsafe fn told<L: Lanes, const N: usize, const M: usize>(&self, windows: &[Window<M>]) {
        let Self { told, tellings, .. } = self;
        let all = self.gradients.channels;
        for group in (0..all).step_by(told.width) {
            let width = told.width.min(all - group);
            for (window, tile) in windows.iter().zip(self.tiles.start..) {
                let place = tellings.wrapping_add(told.at(group, tile));
                for channel in (0..width).step_by(L::N) {
                    let to = place.wrapping_add(channel);
                    // SAFETY: the condition of the caller.
                    unsafe {
                        let mask = L::mask(width - channel);
                        let mut half = [[L::splat(0.0); N]; M];
                        for column in 0..M {
                            if column < window.columns.end {
                                let from = column * all + group + channel;
                                let mut gradient = [L::splat(0.0); M];
                                for row in 0..M {
                                    gradient[row] = L::load_some(window.rows[row].wrapping_add(from), mask);
                                }
                                half[column] = make_back(gradient);
                            }
                        }
                        for row in 0..N {
                            let mut gradient = [L::splat(0.0); M];
                            for column in 0..M {
                                gradient[column] = half[column][row];
                            }
                            let at = make_back::<L, N, M>(gradient);
                            for column in 0..N {
                                at[column].store(to.wrapping_add((row * N + column) * told.point));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What all windows and a block of the gradients have in common at one point.
struct Meet {
    /// Tiles.
    count: usize,
    from: usize,
    vectors: usize,
    seen: Layout,
    windows: *const f32,
    tellings: *const f32,
    /// `[channel seen][channel made]`.
    sums: *mut f32,
}

impl Kernel for Meet {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: whoever made this has so many tiles at the point.
        unsafe {
            match self.vectors {
                1 => self.stripes::<L, 1>(),
                _ => self.stripes::<L, 2>(),
            }
        }
    }
}

impl Meet {
    #[inline(always)]
    unsafe fn stripes<L: Lanes, const V: usize>(self) {
        for stripe in (0..self.from).step_by(STRIPE) {
            let pixels = Pixels {
                rows: 1,
                columns: self.count,
                x: self.windows.wrapping_add(self.seen.at(stripe, 0)),
                x_row: 0,
                x_step: STRIPE,
                gradient: self.tellings,
                gradient_row: 0,
                gradient_step: 2 * L::N,
            };
            let width = STRIPE.min(self.from - stripe);
            // SAFETY: the condition of the caller. Behind the last channel lie zeros.
            unsafe {
                channels::<L, V, true>(
                    pixels,
                    width,
                    self.sums.wrapping_add(stripe * V * L::N),
                    L::mask(L::N),
                );
            }
        }
    }
}

/// Brings some rows of a kernel's gradient back from the points.
struct Gather<'a> {
    /// Of each half.
    sums: &'a [f32],
    /// How many a half has.
    len: usize,
    point: usize,
    rows: Range<usize>,
    from: usize,
    to: usize,
    window: usize,
    kernel: *mut f32,
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: whoever made this has all sums, and room for the kernel.
        unsafe {
            match self.window {
                4 => self.rows::<L, 4>(),
                _ => self.rows::<L, 6>(),
            }
        }
    }
}

impl Gather<'_> {
    #[inline(always)]
    unsafe fn rows<L: Lanes, const N: usize>(self) {
        for row in self.rows {
            for block in blocks(self.to, L::N) {
                for vector in 0..block.vectors {
                    let channel = block.start + vector * L::N;
                    let from = block.start * self.from + (row * block.vectors + vector) * L::N;
                    let to = self.kernel.wrapping_add(row * self.to + channel);
                    // SAFETY: the condition of the caller.
                    unsafe {
                        let mask = L::mask(self.to - channel);
                        let mut half = [[L::splat(0.0); N]; 3];
                        for column in 0..N {
                            let mut at = [L::splat(0.0); N];
                            for row in 0..N {
                                let from = (row * N + column) * self.point + from;
                                for half in self.sums.chunks_exact(self.len) {
                                    at[row] = at[row].add(L::load(half.as_ptr().wrapping_add(from)));
                                }
                            }
                            let at = weigh_back(at);
                            for row in 0..3 {
                                half[row][column] = at[row];
                            }
                        }
                        for row in 0..3 {
                            let weights = weigh_back(half[row]);
                            for column in 0..3 {
                                let tap = (row * 3 + column) * self.from * self.to;
                                weights[column].store_some(to.wrapping_add(tap), mask);
                            }
                        }
                    }
                }
            }
        }
    }
}
