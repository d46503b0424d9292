//! Small maps, a few images at a time.
//!
//! A tile of neighbouring pixels fits a small map badly: rows end in the middle of a tile, and next to a margin a
//! good part of the sum is zeros (a third of it for a window of 3 × 3 on a map of 4 × 4). A tile of the *same* pixel
//! of several images has neither trouble: each place of the map has exactly the taps that see something. For this
//! the images are stored together, `[pixel][channel][image]`, so that a tile's inputs lie side by side.
//!
//! Long, because the three directions of one convolution share its layout and its lists of taps.

use super::backward::Incoming;
use super::buffer::{Fresh, Scratch, Shared};
use super::forward::Moments;
use super::geometry::{Geometry, Walk};
use super::pack::{Block, Direction, Order, Packed, blocks, pack};
use super::tile::{Finish, INTERLEAVED, Run, sum, write, zeros};
use crate::simd::{Kernel, Lanes, Simd, transpose};
use crate::threads::{par, par_map, stretch};
use std::ops::Range;

/// A convolution is parted into so many pieces at least, where it can be.
const PIECES: usize = 16;

/// Whether a convolution is better done this way: enough images of maps that ask for it.
pub(crate) fn worth_it(simd: Simd, geometry: &Geometry) -> bool {
    geometry.batch >= simd.together() && small(geometry)
}

/// Whether maps ask for it: enough channels to pay for the storing, and rows that would waste a good part of their tiles.
pub(crate) fn small(geometry: &Geometry) -> bool {
    let Walk { columns, .. } = geometry.forward();
    let useful: usize = (0..columns.count).map(|column| columns.inside(column).len()).sum();
    let done = columns.count.next_multiple_of(4) * columns.taps.len();
    geometry.group_from() >= 16
        && geometry.group_to() >= 16
        && geometry.kernel != [1, 1]
        && useful * 16 < done * 15
}

/// A batch of maps, some images together: `[images / together][pixel][channel][together]`, zeros for the images
/// that the last few lack.
pub(crate) struct Together {
    floats: Scratch,
    /// Images in all.
    batch: usize,
    /// Images that are stored together.
    width: usize,
    /// Floats of those.
    len: usize,
    channels: usize,
}

impl Together {
    /// Stores the maps, of `rows` rows of `columns` pixels.
    pub(crate) fn new(
        simd: Simd,
        maps: &impl Incoming,
        batch: usize,
        [rows, columns]: [usize; 2],
        channels: usize,
    ) -> Self {
        let width = simd.together();
        let (pixels, image) = (rows * columns, rows * columns * channels);
        let len = image * width;
        let mut floats = Scratch::any(batch.div_ceil(width) * len);
        let floats_at = Shared::to(&mut floats);
        par(batch.div_ceil(width), |few| {
            let first = few * width;
            let images = width.min(batch - first);
            let mut own = Scratch::any(if maps.ready().is_some() { 0 } else { images * image });
            let maps = if let Some(maps) = maps.ready() {
                &maps[first * image..]
            } else {
                maps.fill(first * image, &mut own);
                &own[..]
            };
            // SAFETY: each piece writes its own images.
            let to = unsafe { floats_at.at(few * len) };
            if images < width {
                // SAFETY: there are `len` of them.
                unsafe { std::slice::from_raw_parts_mut(to, len) }.fill(0.0);
            }
            for pixel in 0..pixels {
                let (from, to) = (pixel * channels, to.wrapping_add(pixel * channels * width));
                // SAFETY: the pixel of the last image ends where that image does, or before; there is room for it.
                unsafe { transpose(maps[from..].as_ptr(), image, to, width, [images, channels]) };
            }
        });
        Self { floats, batch, width, len, channels }
    }

    /// How many times some images stand together.
    fn count(&self) -> usize {
        self.batch.div_ceil(self.width)
    }
}

/// One place of the output and the stretches of input and weights that it sums.
struct Place {
    /// Its pixel.
    pixel: usize,
    runs: Range<usize>,
}

/// All places that a walk makes.
struct Places {
    places: Vec<Place>,
    runs: Vec<Run>,
}

impl Places {
    /// Over maps of `channels`, of which `read` are read, stored `together`; the output is `out_width` pixels wide.
    fn new(walk: &Walk, channels: usize, read: usize, together: usize, out_width: usize) -> Self {
        let Walk { rows, columns } = walk;
        let (mut places, mut runs) = (Vec::new(), Vec::new());
        let joined = channels == read && columns.taps.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0);
        for row in 0..rows.count {
            for column in 0..columns.count {
                let start = runs.len();
                let seen = columns.inside(column);
                for row_tap in rows.inside(row) {
                    let down = rows.taps[row_tap].0 + (row * rows.stride) as isize;
                    for column_tap in seen.clone().step_by(if joined { seen.len().max(1) } else { 1 }) {
                        let right = columns.taps[column_tap].0 + (column * columns.stride) as isize;
                        runs.push(Run {
                            input: (down * columns.limit as isize + right) * (channels * together) as isize,
                            weight: (row_tap * columns.taps.len() + column_tap) * read,
                            len: read * if joined { seen.len() } else { 1 },
                        });
                    }
                }
                let pixel =
                    (rows.first + row * rows.step) * out_width + columns.first + column * columns.step;
                places.push(Place { pixel, runs: start..runs.len() });
            }
        }
        Self { places, runs }
    }
}

/// Where sums go.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    /// The first float of the first image.
    pub floats: Shared,
    /// Pixels in a row.
    pub width: usize,
    /// Floats of a pixel.
    pub pixel: usize,
    /// Floats of an image.
    pub image: usize,
}

/// Convolves maps that are stored together; gives the moments of all outputs where `finish` has a pivot.
pub(crate) fn convolve(
    simd: Simd,
    geometry: &Geometry,
    direction: Direction,
    maps: &Together,
    kernel: &[f32],
    output: Output,
    finish: Finish,
) -> Moments {
    let (read, written) = direction.channels(geometry);
    let walks = match direction {
        Direction::Forward => vec![geometry.forward()],
        Direction::Backward => geometry.backward(),
    };
    let places = |walk| Places::new(walk, maps.channels, read, maps.width, output.width);
    let places: Vec<Places> = walks.iter().map(places).collect();
    let blocks: Vec<Block> = blocks(written, simd.lanes()).collect();
    let groups = geometry.conv.groups;
    let parts = PIECES.div_ceil(groups * blocks.len()).min(maps.count());
    // Where a piece has all images its weights are used but once: they are packed right before that, into the
    // nearer cache.
    let packed: Vec<Packed> = (0..if parts > 1 { groups * walks.len() } else { 0 })
        .map(|index| {
            let walk = &walks[index % walks.len()];
            Packed::new(simd, geometry, direction, walk, Order::TapByTap, kernel, index / walks.len())
        })
        .collect();
    let counted = !finish.pivot.is_null();
    let moments = par_map(groups * blocks.len() * parts, |piece| {
        let (part, block, group) =
            (piece % parts, blocks[piece / parts % blocks.len()], piece / parts / blocks.len());
        let mut moments = vec![[0.0; 2]; if counted { block.channels } else { 0 }];
        for (index, (walk, places)) in walks.iter().zip(&places).enumerate() {
            let own;
            let weights = if let Some(packed) = packed.get(group * walks.len() + index) {
                packed.block(block)
            } else {
                let width = block.vectors * simd.lanes();
                let mut floats = Scratch::any(walk.taps() * read * width);
                pack(geometry, direction, walk, Order::TapByTap, kernel, group, block, width, &mut floats);
                own = floats;
                &own[..]
            };
            simd.run(Piece {
                maps,
                images: stretch(maps.count(), parts, part),
                channel: group * read,
                places,
                weights,
                block,
                output,
                out_channel: group * written + block.start,
                finish,
                moments: &mut moments,
            });
        }
        (group * written + block.start, moments)
    });
    let mut all = vec![[0.0; 2]; if counted { groups * written } else { 0 }];
    for (start, part) in moments {
        for (all, part) in all[if counted { start } else { 0 }..].iter_mut().zip(part) {
            all[0] += part[0];
            all[1] += part[1];
        }
    }
    all
}

/// One block of channels of some images.
struct Piece<'a> {
    maps: &'a Together,
    /// Which of the images that stand together.
    images: Range<usize>,
    /// The first channel that is read.
    channel: usize,
    places: &'a Places,
    weights: &'a [f32],
    block: Block,
    output: Output,
    /// The first channel that is written.
    out_channel: usize,
    finish: Finish,
    moments: &'a mut [[f64; 2]],
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: who made the piece sees to it that its pointers reach as far as the images do.
        unsafe {
            match (L::WIDE, self.block.vectors) {
                (true, 1) => self.images::<L, 8, 1>(),
                (true, _) => self.images::<L, 8, 2>(),
                (false, 1) => self.images::<L, 6, 1>(),
                (false, _) => self.images::<L, 6, 2>(),
            }
        }
    }
}

impl Piece<'_> {
    #[inline(always)]
    unsafe fn images<L: Lanes, const P: usize, const V: usize>(self) {
        let Self { maps, output, block, finish, .. } = self;
        // SAFETY: the mask has at most `N` lanes.
        let mask = unsafe { L::mask(block.channels - (V - 1) * L::N) };
        let mut sums = Scratch::any(2 * block.channels);
        for few in self.images {
            let first = few * P;
            let input = maps.floats[few * maps.len + self.channel * P..].as_ptr();
            let mut finish = finish.at(self.out_channel, 0);
            if !finish.pivot.is_null() {
                sums.fill(0.0);
                finish.sum = sums.as_mut_ptr();
                finish.square = finish.sum.wrapping_add(block.channels);
            }
            for place in &self.places.places {
                let at = first * output.image + place.pixel * output.pixel + self.out_channel;
                // SAFETY: the runs are those that stay in the map; the images are all there.
                unsafe {
                    let runs = &self.places.runs[place.runs.clone()];
                    let tile = sum::<L, P, V, INTERLEAVED>(zeros(), input, 0, runs, self.weights.as_ptr());
                    let images = P.min(maps.batch - first);
                    write::<L, P, V>(
                        tile,
                        output.floats.at(at),
                        output.image,
                        images,
                        mask,
                        &finish.at(0, at),
                    );
                }
            }
            for (channel, moments) in self.moments.iter_mut().enumerate() {
                moments[0] += f64::from(sums[channel]);
                moments[1] += f64::from(sums[block.channels + channel]);
            }
        }
    }
}

/// Pixels of some images that are looked at by all taps before the next come: about the nearest cache.
const NEAR: usize = 32;

/// The gradient of the kernel, from the maps and from the gradients of the outputs, those stored together.
///
/// Here inputs are the vectors and gradients are what is broadcast: so the same gradients serve both ways.
pub(crate) fn correlate(simd: Simd, geometry: &Geometry, x: &[f32], gradients: &Together) -> Vec<f32> {
    let walk = geometry.forward();
    let (from, to, groups) = (geometry.group_from(), geometry.group_to(), geometry.conv.groups);
    let blocks: Vec<Block> = blocks(from, simd.lanes()).collect();
    let panels = Panels::new(simd, geometry, x, &blocks);
    let parts = PIECES.div_ceil(groups * blocks.len()).min(to.div_ceil(16));
    let mut out = Fresh::new(geometry.kernel_len());
    let out_at = out.as_mut_ptr();
    par(groups * blocks.len() * parts, |piece| {
        let (part, index, group) =
            (piece % parts, piece / parts % blocks.len(), piece / parts / blocks.len());
        let block = blocks[index];
        // Whole tiles.
        let channels = stretch(to.div_ceil(8), parts, part);
        let channels = channels.start * 8..(channels.end * 8).min(to);
        let width = block.vectors * simd.lanes();
        let mut sums = Scratch::zeros(walk.taps() * channels.len() * width);
        let panel = panels.of(group, index);
        let first = group * to + channels.start;
        let count = channels.len();
        simd.run(Share {
            walk: &walk,
            gradients,
            first,
            count,
            panel,
            vectors: block.vectors,
            sums: &mut sums,
        });
        for (tap, sums) in sums.chunks_exact(count * width).enumerate() {
            // SAFETY: each piece writes its own channels, of those read and of those written.
            unsafe {
                let out = out_at.at((tap * from + block.start) * geometry.to + first);
                transpose(sums.as_ptr(), width, out, geometry.to, [count, block.channels]);
            }
        }
    });
    // SAFETY: the pieces cover all taps and channels.
    unsafe { out.written() }
}

/// A batch of maps by blocks of channels: `[group][block][images / together][pixel][together][channel]`, zeros for
/// the images and channels that the last ones lack.
struct Panels {
    floats: Scratch,
    /// Floats of a whole block, and of a group.
    whole: usize,
    group: usize,
}

impl Panels {
    fn new(simd: Simd, geometry: &Geometry, x: &[f32], blocks: &[Block]) -> Self {
        let together = simd.together();
        let pixels = geometry.input[0] * geometry.input[1];
        let few = geometry.batch.div_ceil(together);
        let rows = few * pixels * together;
        let whole = rows * 2 * simd.lanes();
        let group = rows * simd.lanes() * blocks.iter().map(|block| block.vectors).sum::<usize>();
        let mut floats = Scratch::any(group * geometry.conv.groups);
        let floats_at = Shared::to(&mut floats);
        par(few * geometry.conv.groups * blocks.len(), |piece| {
            let (few, piece) = (piece % few, piece / few);
            let (index, in_group) = (piece % blocks.len(), piece / blocks.len());
            let block = blocks[index];
            let width = block.vectors * simd.lanes();
            let first = few * together;
            simd.run(Gather {
                images: together.min(geometry.batch - first),
                together,
                image: geometry.input_len(),
                pixels,
                pixel: geometry.from,
                from: x[first * geometry.input_len() + in_group * geometry.group_from() + block.start..]
                    .as_ptr(),
                channels: block.channels,
                // SAFETY: each piece writes its own part.
                to: unsafe {
                    floats_at.at(in_group * group + index * whole + few * pixels * together * width)
                },
            });
        });
        Self { floats, whole, group }
    }

    fn of(&self, group: usize, block: usize) -> &[f32] {
        &self.floats[group * self.group + block * self.whole..]
    }
}

/// Copies a few channels of some images, pixel by pixel.
struct Gather {
    images: usize,
    together: usize,
    image: usize,
    pixels: usize,
    pixel: usize,
    from: *const f32,
    channels: usize,
    to: *mut f32,
}

impl Kernel for Gather {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let mut to = self.to;
        for pixel in 0..self.pixels {
            for image in 0..self.together {
                for channel in (0..self.channels).step_by(L::N) {
                    // SAFETY: the pixel's channels are there, and room for them rounded up to vectors.
                    unsafe {
                        let value = if image < self.images {
                            let from =
                                self.from.wrapping_add(image * self.image + pixel * self.pixel + channel);
                            L::load_some(from, L::mask(self.channels - channel))
                        } else {
                            L::splat(0.0)
                        };
                        value.store(to);
                    }
                    to = to.wrapping_add(L::N);
                }
            }
        }
    }
}

/// What some channels written have in common with a block of channels read.
struct Share<'a> {
    /// How outputs saw inputs.
    walk: &'a Walk,
    gradients: &'a Together,
    /// The first channel written.
    first: usize,
    /// How many.
    count: usize,
    /// The channels read.
    panel: &'a [f32],
    /// How many vectors they are.
    vectors: usize,
    /// `[tap][channel written][channel read]`.
    sums: &'a mut [f32],
}

impl Kernel for Share<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: who made this sees to it that its slices reach as far as the walk goes.
        unsafe {
            match (L::WIDE, self.vectors) {
                (true, 1) => self.images::<L, 8, 1>(),
                (true, _) => self.images::<L, 8, 2>(),
                (false, 1) => self.images::<L, 6, 1>(),
                (false, _) => self.images::<L, 6, 2>(),
            }
        }
    }
}

/// Pixels of some images, row by row, of an input and of the gradients that it meets.
#[derive(Clone, Copy)]
struct Pixels {
    rows: usize,
    columns: usize,
    x: *const f32,
    x_row: usize,
    x_pixel: usize,
    gradient: *const f32,
    gradient_row: usize,
    gradient_pixel: usize,
}

impl Share<'_> {
    #[inline(always)]
    unsafe fn images<L: Lanes, const P: usize, const V: usize>(self) {
        let Walk { rows, columns } = self.walk;
        let near = (NEAR / columns.count).max(1);
        let (x_pixel, gradient_pixel) = (P * V * L::N, self.gradients.channels * P);
        let width = V * L::N;
        for few in 0..self.gradients.count() {
            let x = self.panel[few * rows.limit * columns.limit * x_pixel..].as_ptr();
            let gradient = self.gradients.floats[few * self.gradients.len + self.first * P..].as_ptr();
            for top in (0..rows.count).step_by(near) {
                let mut channel = 0;
                macro_rules! tiles {
                    ($channels:literal) => {
                        while channel + $channels <= self.count {
                            for tap in 0..self.walk.taps() {
                                let (row_tap, column_tap) =
                                    (tap / columns.taps.len(), tap % columns.taps.len());
                                let seen = rows.seeing(row_tap);
                                let (low, high) = (seen.start.max(top), seen.end.min(top + near));
                                let seen = columns.seeing(column_tap);
                                if low >= high || seen.is_empty() {
                                    continue;
                                }
                                let x_row = (low * rows.stride) as isize + rows.taps[row_tap].0;
                                let x_column =
                                    (seen.start * columns.stride) as isize + columns.taps[column_tap].0;
                                let x_place = x_row as usize * columns.limit + x_column as usize;
                                let place = low * columns.count + seen.start;
                                let pixels = Pixels {
                                    rows: high - low,
                                    columns: seen.len(),
                                    x: x.wrapping_add(x_place * x_pixel),
                                    x_row: rows.stride * columns.limit * x_pixel,
                                    x_pixel: columns.stride * x_pixel,
                                    gradient: gradient.wrapping_add(place * gradient_pixel + channel * P),
                                    gradient_row: columns.count * gradient_pixel,
                                    gradient_pixel,
                                };
                                let sums = &mut self.sums[(tap * self.count + channel) * width..]
                                    [..$channels * width];
                                // SAFETY: the pixels are those that the tap sees.
                                unsafe { share::<L, $channels, P, V>(pixels, sums.as_mut_ptr()) };
                            }
                            channel += $channels;
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
                tiles!(2);
                tiles!(1);
            }
        }
    }
}

/// Adds what `I` channels written and `V` vectors of channels read have in common in some pixels of `P` images.
#[inline(always)]
unsafe fn share<L: Lanes, const I: usize, const P: usize, const V: usize>(pixels: Pixels, out: *mut f32) {
    // SAFETY: the condition of the caller.
    unsafe {
        let mut sums = [[L::splat(0.0); V]; I];
        for row in 0..pixels.rows {
            let mut x = pixels.x.wrapping_add(row * pixels.x_row);
            let mut gradient = pixels.gradient.wrapping_add(row * pixels.gradient_row);
            for _ in 0..pixels.columns {
                for image in 0..P {
                    let mut values = [L::splat(0.0); V];
                    for v in 0..V {
                        values[v] = L::load(x.wrapping_add((image * V + v) * L::N));
                    }
                    for i in 0..I {
                        let gradient = L::splat(*gradient.wrapping_add(i * P + image));
                        for v in 0..V {
                            sums[i][v] = gradient.mul_add(values[v], sums[i][v]);
                        }
                    }
                }
                x = x.wrapping_add(pixels.x_pixel);
                gradient = gradient.wrapping_add(pixels.gradient_pixel);
            }
        }
        for i in 0..I {
            for v in 0..V {
                let to = out.wrapping_add((i * V + v) * L::N);
                L::load(to).add(sums[i][v]).store(to);
            }
        }
    }
}
