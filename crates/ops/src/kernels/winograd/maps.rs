//! Maps in tiles, and how those lie at all points.

use super::transform::look;
use super::{LINE, Tiling};
use crate::kernels::buffer::Scratch;
use crate::kernels::geometry::Geometry;
use crate::simd::Lanes;
use std::ops::Range;

/// Maps that are parted into tiles.
#[derive(Clone, Copy)]
pub(super) struct Maps<'a> {
    floats: &'a [f32],
    pub size: [usize; 2],
    pub channels: usize,
    pub tiling: Tiling,
}

impl<'a> Maps<'a> {
    /// As large as the outputs of `geometry`.
    pub fn new(floats: &'a [f32], geometry: &Geometry, channels: usize, tiling: Tiling) -> Self {
        Self { floats, size: geometry.output, channels, tiling }
    }

    /// The image of a tile, and its first row and column.
    #[inline(always)]
    pub fn place(&self, tile: usize) -> (usize, [usize; 2]) {
        let (image, tile) = (tile / self.tiling.each(), tile % self.tiling.each());
        let [_, columns] = self.tiling.tiles;
        (image, [tile / columns, tile % columns].map(|at| at * (self.tiling.window - 2)))
    }

    /// The windows of some tiles.
    pub fn windows<const R: usize>(
        &self,
        tiles: Range<usize>,
        border: usize,
        nothing: &[f32],
    ) -> Vec<Window<R>> {
        tiles.map(|tile| self.window(tile, border, nothing.as_ptr())).collect()
    }

    /// `R` × `R` pixels from `border` before tile `tile` on, along both axes. Rows outside of the map are `nothing`.
    fn window<const R: usize>(&self, tile: usize, border: usize, nothing: *const f32) -> Window<R> {
        let [height, width] = self.size;
        let (image, [top, left]) = self.place(tile);
        let first = image * height * width;
        let rows = std::array::from_fn(|row| {
            let row = (top + row).wrapping_sub(border);
            if row < height {
                let pixel = (first + row * width + left) * self.channels;
                self.floats.as_ptr().wrapping_add(pixel).wrapping_sub(border * self.channels)
            } else {
                nothing
            }
        });
        Window { rows, columns: border.saturating_sub(left)..R.min(width + border - left) }
    }

    /// As many zeros as a row of a window of side `side` may have.
    pub fn nothing(&self, side: usize) -> Scratch {
        Scratch::zeros(side * self.channels)
    }
}

/// Some rows of a map, and those of their columns that it has.
pub(super) struct Window<const R: usize> {
    pub rows: [*const f32; R],
    pub columns: Range<usize>,
}

/// How tiles lie at all points: `[point][group of channels][tile][channel]`.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    tiles: usize,
    /// Channels of a group.
    pub width: usize,
    /// From one point to the next.
    pub point: usize,
    points: usize,
}

impl Layout {
    /// For so many tiles.
    pub fn new(tiling: Tiling, tiles: usize, channels: usize, width: usize) -> Self {
        let point = channels.next_multiple_of(width) * tiles + LINE;
        Self { tiles, width, point, points: tiling.points() }
    }

    /// Room for all of it.
    pub fn room(&self) -> Scratch {
        Scratch::any(self.points * self.point)
    }

    /// The first of the channels of a group that begins with channel `group`, at the first point.
    #[inline(always)]
    pub fn at(&self, group: usize, tile: usize) -> usize {
        group * self.tiles + tile * self.width
    }

    /// Brings windows of maps of `channels` channels to points, as tiles from `first` on.
    ///
    /// A group of channels at a time: all points of all groups would be more pages than the processor has in mind.
    ///
    /// # Safety
    /// Beside the condition of [`Lanes`]: the windows are there, and `to` has the room of this layout.
    #[inline(always)]
    pub unsafe fn look<L: Lanes, const N: usize>(
        &self,
        windows: &[Window<N>],
        channels: usize,
        first: usize,
        to: *mut f32,
    ) {
        for group in (0..channels).step_by(self.width) {
            let width = self.width.min(channels - group);
            for (window, tile) in windows.iter().zip(first..) {
                let place = to.wrapping_add(self.at(group, tile));
                for channel in (0..width).step_by(L::N) {
                    let (x, to) = (group + channel, place.wrapping_add(channel));
                    // SAFETY: this function's own condition.
                    unsafe {
                        let mask = L::mask(width - channel);
                        if width - channel >= L::N {
                            seen::<L, N, true>(window, x, channels, mask, to, self.point);
                        } else {
                            seen::<L, N, false>(window, x, channels, mask, to, self.point);
                        }
                    }
                }
            }
        }
    }
}

/// A vector of channels of a window, at all points.
#[inline(always)]
unsafe fn seen<L: Lanes, const N: usize, const WHOLE: bool>(
    window: &Window<N>,
    channel: usize,
    pixel: usize,
    mask: L::Mask,
    to: *mut f32,
    point: usize,
) {
    // SAFETY: the condition of the caller.
    unsafe {
        let mut half = [[L::splat(0.0); N]; N];
        for column in 0..N {
            if window.columns.start <= column && column < window.columns.end {
                let mut x = [L::splat(0.0); N];
                for row in 0..N {
                    let from = window.rows[row].wrapping_add(column * pixel + channel);
                    x[row] = if WHOLE { L::load(from) } else { L::load_some(from, mask) };
                }
                half[column] = look(x);
            }
        }
        for row in 0..N {
            let mut x = [L::splat(0.0); N];
            for column in 0..N {
                x[column] = half[column][row];
            }
            let x = look(x);
            for column in 0..N {
                x[column].store(to.wrapping_add((row * N + column) * point));
            }
        }
    }
}
