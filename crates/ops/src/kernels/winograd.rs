//! A window of 3 × 3 by Winograd: fewer multiplications, a little more error.
//!
//! A tile of `M` × `M` outputs reads a window of `N` × `N` inputs, `N = M + 2`. Window and kernel are brought to `N · N`
//! *points*; at each of them the tiles of a map and the channels make one product of two matrices. For 16 outputs of a
//! channel that is 36 multiplications with each channel read, where the plain sum has 144; for 4 it is 16, where that has
//! 36. In return maps pass through the small matrices of [`transform`] on both ways, and the kernel does once a call.
//!
//! Each piece of work has so few tiles that their points stay near: it looks at their windows, multiplies, and makes
//! their outputs.

mod kernel;
mod maps;
mod transform;
mod weights;

use super::backward::{Gradients, Incoming, Wanted};
use super::buffer::{Fresh, Scratch, Shared};
use super::forward::Moments;
use super::geometry::Geometry;
use super::pack::{Block, Direction, blocks};
use super::tile::{Finish, Run, sum, write, zeros};
use crate::Conv;
use crate::simd::{Kernel, Lanes, Simd, prefetch};
use crate::threads::{par_map, stretch};
use maps::{Layout, Maps};
use std::ops::Range;
use transform::make;
use weights::Weights;

/// Channels read that lie side by side, of one tile and then of the next: a line of the cache.
const STRIPE: usize = 16;

/// Floats between points, beside what they need: points a power of two apart would share few places of a cache.
const LINE: usize = 16;

/// Rows of weights that all tiles of a piece meet before the next do.
const LONGEST: usize = 256;

/// Images for which it is decided whether a convolution goes by points: a recipe's batch, the field's. What is said of an image
/// must not depend on how many stand beside it.
const IMAGES: usize = 64;

/// Pieces in which kernels are brought to points and back; a convolution has a quarter as many at least, if it has the
/// channels.
const PIECES: usize = 16;

/// How a map is parted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    /// Side of the window that a tile reads: 4 or 6.
    window: usize,
    /// Tiles along height and width of a map.
    tiles: [usize; 2],
}

impl Tiling {
    /// With windows of side `window`.
    pub(crate) fn new(geometry: &Geometry, window: usize) -> Self {
        Self { window, tiles: geometry.output.map(|side| side.div_ceil(window - 2)) }
    }

    /// The tiling in which a convolution is faster than as a plain sum, if it asks for that and there is one.
    ///
    /// A rule of the map's shape alone: what is computed must depend neither on the machine nor on the batch.
    pub(crate) fn of(geometry: &Geometry) -> Option<Self> {
        let Conv { stride, padding, dilation, groups, winograd } = geometry.conv;
        if !winograd || geometry.kernel != [3, 3] || groups != 1 {
            return None;
        }
        if [stride, padding, dilation] != [[1; 2]; 3] {
            return None;
        }
        let [height, width] = geometry.output;
        // What a plain sum multiplies: zeros in the margin are left out there.
        let plain = IMAGES * (3 * height - 2) * (3 * width - 2) * geometry.from * geometry.to;
        let cost = |tiling: &Self| tiling.cost(geometry);
        let best = [4, 6].map(|window| Self::new(geometry, window)).into_iter().min_by_key(cost)?;
        // What gains less is not worth the digits.
        (best.cost(geometry) * 5 < plain * 4).then_some(best)
    }

    /// Multiplications, and what takes as long: a channel of a tile on its way to a point or back takes 24, and the
    /// kernel as much as 96 tiles. Both were fitted to measurements, and foretell most of them to a fifth.
    fn cost(self, geometry: &Geometry) -> usize {
        let (tiles, Geometry { from, to, .. }) = (IMAGES * self.each(), *geometry);
        self.points() * ((tiles + 96) * from * to + 24 * tiles * (from + to))
    }

    /// Tiles of a map.
    fn each(self) -> usize {
        self.tiles[0] * self.tiles[1]
    }

    fn points(self) -> usize {
        self.window * self.window
    }
}

/// Convolves maps; gives the moments of all outputs where `finish` has a pivot.
#[expect(clippy::too_many_arguments, reason = "all of them say what is convolved, and to what end")]
pub(crate) fn convolve(
    simd: Simd,
    geometry: &Geometry,
    tiling: Tiling,
    direction: Direction,
    x: &[f32],
    kernel: &[f32],
    out: Shared,
    finish: Finish,
) -> Moments {
    let (read, written) = direction.channels(geometry);
    let maps = Maps::new(x, geometry, read, tiling);
    let weights = Weights::new(simd, geometry, direction, tiling, kernel);
    let total = geometry.batch * tiling.each();
    // Each piece reads all its weights: the more they are, the more tiles must share them. Points of few tiles stay
    // nearer.
    let parts = total.div_ceil((read * written / 1024).clamp(24, 64));
    let few = total.div_ceil(parts).next_multiple_of(8);
    // Where there are few pieces then, some of the channels make a piece.
    let blocks: Vec<Block> = blocks(written, simd.lanes()).collect();
    let shares = (PIECES / 4).div_ceil(parts).min(written / 64).clamp(1, blocks.len());
    let counted = !finish.pivot.is_null();
    let moments = par_map(total.div_ceil(few) * shares, |piece| {
        let (part, share) = (piece / shares, piece % shares);
        let tiles = part * few..total.min((part + 1) * few);
        let blocks = &blocks[stretch(blocks.len(), shares, share)];
        let (first, channels) = (blocks[0].start, blocks.iter().map(|block| block.channels).sum());
        let mut sums = Scratch::zeros(if counted { 2 * channels } else { 0 });
        let mut finish = finish;
        if counted {
            finish.sum = sums.as_mut_ptr().wrapping_sub(first);
            finish.square = finish.sum.wrapping_add(channels);
        }
        simd.run(Piece {
            maps,
            tiles,
            weights: &weights,
            seen: Layout::new(tiling, few, read, STRIPE),
            made: Layout::new(tiling, few, channels, 2 * simd.lanes()),
            blocks,
            written,
            // SAFETY: each tile of each channel is written by one piece of work.
            out: unsafe { out.at(0) },
            finish,
        });
        let (sums, squares) = sums.split_at(sums.len() / 2);
        let moments = sums.iter().zip(squares).map(|(&sum, &square)| [sum, square].map(f64::from));
        (first, moments.collect::<Moments>())
    });
    let mut all = vec![[0.0; 2]; if counted { written } else { 0 }];
    for (first, moments) in moments {
        for (channel, moments) in (first..).zip(moments) {
            all[channel][0] += moments[0];
            all[channel][1] += moments[1];
        }
    }
    all
}

/// Some tiles of some maps, and some of the channels that are made of them.
struct Piece<'a> {
    maps: Maps<'a>,
    tiles: Range<usize>,
    weights: &'a Weights,
    /// How the windows lie at all points.
    seen: Layout,
    /// How the products lie there.
    made: Layout,
    blocks: &'a [Block],
    /// How many channels the outputs have in all.
    written: usize,
    out: *mut f32,
    finish: Finish,
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: whoever made this has maps with these tiles, room for the outputs and weights of this window.
        unsafe {
            match self.maps.tiling.window {
                4 => self.tiles::<L, 4, 2>(),
                _ => self.tiles::<L, 6, 4>(),
            }
        }
    }
}

impl Piece<'_> {
    #[inline(always)]
    unsafe fn tiles<L: Lanes, const N: usize, const M: usize>(self) {
        let Self { maps, seen, blocks, .. } = &self;
        let (mut windows, mut products) = (seen.room(), self.made.room());
        let nothing = maps.nothing(N);
        let count = self.tiles.len();
        let stripes = (0..maps.channels).step_by(STRIPE).map(|channel| Run {
            input: seen.at(channel, 0) as isize,
            weight: channel,
            len: STRIPE.min(maps.channels - channel),
        });
        let stripes: Vec<Run> = stripes.collect();
        // SAFETY: the condition of the caller; both rooms are as large as their layouts say.
        unsafe {
            let views = maps.windows::<N>(self.tiles.clone(), 1, &nothing);
            seen.look::<L, N>(&views, maps.channels, 0, windows.as_mut_ptr());
            for point in 0..N * N {
                let windows = windows[point * seen.point..].as_ptr();
                let weights = self.weights.floats[point * self.weights.point..].as_ptr();
                for block in *blocks {
                    let weights = weights.wrapping_add(block.start * maps.channels);
                    let products = products[point * self.made.point + self.product(block, 0)..].as_mut_ptr();
                    match block.vectors {
                        1 => multiply::<L, 1>(count, windows, &stripes, weights, products),
                        _ => multiply::<L, 2>(count, windows, &stripes, weights, products),
                    }
                }
            }
            let tiles: Vec<_> = self.tiles.clone().map(|tile| maps.place(tile)).collect();
            for block in *blocks {
                for (tile, &place) in tiles.iter().enumerate() {
                    let products = products[self.product(block, tile)..].as_ptr();
                    self.make::<L, N, M>(*block, place, products);
                }
            }
        }
    }

    /// Where the products of a block begin, at the first point.
    #[inline(always)]
    fn product(&self, block: &Block, tile: usize) -> usize {
        self.made.at(block.start - self.blocks[0].start, tile)
    }

    /// Writes a block of the outputs of one tile.
    #[inline(always)]
    unsafe fn make<L: Lanes, const N: usize, const M: usize>(
        &self,
        block: Block,
        (image, [top, left]): (usize, [usize; 2]),
        products: *const f32,
    ) {
        let Self { maps, made, written, out, finish, .. } = self;
        let [height, width] = maps.size;
        let (rows, columns) = (M.min(height - top), M.min(width - left));
        let pixel = (image * height + top) * width + left;
        for vector in 0..block.vectors {
            let channel = block.start + vector * L::N;
            let from = products.wrapping_add(vector * L::N);
            // SAFETY: the condition of the caller; the rows and columns are those that the map has.
            unsafe {
                let mask = L::mask(written - channel);
                let mut half = [[L::splat(0.0); N]; M];
                for column in 0..N {
                    let mut at = [L::splat(0.0); N];
                    for row in 0..N {
                        at[row] = L::load(from.wrapping_add((row * N + column) * made.point));
                    }
                    let at = make::<L, N, M>(at);
                    for row in 0..M {
                        half[row][column] = at[row];
                    }
                }
                for row in 0..M {
                    if row < rows {
                        let values = make::<L, N, M>(half[row]);
                        let mut sums = [[L::splat(0.0); 1]; M];
                        for column in 0..M {
                            sums[column][0] = values[column];
                        }
                        let place = (pixel + row * width) * written + channel;
                        let finish = finish.at(channel, place);
                        write(sums, out.wrapping_add(place), *written, columns, mask, &finish);
                    }
                }
            }
        }
    }
}

/// The products of `count` tiles with `V` vectors of channels written, at one point.
#[inline(always)]
unsafe fn multiply<L: Lanes, const V: usize>(
    count: usize,
    windows: *const f32,
    stripes: &[Run],
    weights: *const f32,
    products: *mut f32,
) {
    for (index, stripes) in stripes.chunks(LONGEST / STRIPE).enumerate() {
        let rows: usize = stripes.iter().map(|stripe| stripe.len).sum();
        // Weights come from far away, and each only once a piece: those that follow are on their way while these work.
        let following = weights.wrapping_add((index * LONGEST + rows) * V * L::N);
        let lines = (rows * V * L::N).div_ceil(LINE * count);
        let mut tile = 0;
        macro_rules! tiles {
            ($tiles:literal) => {
                while tile + $tiles <= count {
                    let windows = windows.wrapping_add(tile * STRIPE);
                    let products = products.wrapping_add(tile * 2 * L::N);
                    for line in tile * lines..(tile + $tiles) * lines {
                        prefetch(following.wrapping_add(line * LINE));
                    }
                    // SAFETY: the condition of the caller.
                    unsafe {
                        let mut sums = zeros::<L, $tiles, V>();
                        if index > 0 {
                            for tile in 0..$tiles {
                                for v in 0..V {
                                    sums[tile][v] = L::load(products.wrapping_add((tile * 2 + v) * L::N));
                                }
                            }
                        }
                        let sums = sum::<L, $tiles, V, STRIPE>(sums, windows, STRIPE, stripes, weights);
                        for tile in 0..$tiles {
                            for v in 0..V {
                                sums[tile][v].store(products.wrapping_add((tile * 2 + v) * L::N));
                            }
                        }
                    }
                    tile += $tiles;
                }
            };
        }
        if L::WIDE {
            if V == 1 {
                tiles!(16);
            }
            tiles!(8);
        } else {
            tiles!(6);
        }
        tiles!(4);
        tiles!(2);
        tiles!(1);
    }
}

/// Gradients of a convolution that is done so.
pub(crate) fn backward(
    simd: Simd,
    geometry: &Geometry,
    tiling: Tiling,
    x: &[f32],
    kernel: &[f32],
    incoming: &impl Incoming,
    wanted: Wanted<'_>,
) -> Gradients {
    // Windows overlap.
    let gradient = &incoming.whole()[..];
    let input = wanted.input.then(|| {
        let mut input = Fresh::new(geometry.batch * geometry.input_len());
        let out = input.as_mut_ptr();
        convolve(simd, geometry, tiling, Direction::Backward, gradient, kernel, out, wanted.finish());
        // SAFETY: the tiles cover each map.
        unsafe { input.written() }
    });
    let kernel = wanted.kernel.then(|| kernel::correlate(simd, geometry, tiling, x, gradient));
    Gradients { input, kernel }
}

#[cfg(test)]
mod tests;
