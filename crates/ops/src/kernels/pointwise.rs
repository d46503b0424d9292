//! Convolutions of single pixels: a map times a few weights.
//!
//! A pixel has little to do where its channels are parted into groups, and what bounds it then is how fast the maps come from
//! memory and go there. Group by group and block by block, a walk over many pixels would touch a line of the cache here
//! and one there, and no cache looks ahead for that. So all groups and blocks of a few pixels come before the next
//! pixels do: what is read and what is written lies in a row.

use super::backward::{CHUNKS, Gradients, Incoming, Wanted, add_up};
use super::buffer::{Fresh, Scratch, Shared};
use super::coming::{Coming, LINE};
use super::forward::{Moments, counting};
use super::geometry::Geometry;
use super::line::Line;
use super::norm;
use super::pack::{Block, Direction, Order, Packed, blocks};
use super::rows::LONGEST;
use super::tile::{Finish, Run};
use super::weights::{Pixels, channels};
use crate::simd::{Kernel, Lanes, Simd, transpose};
use crate::threads::{par, par_map, stretch};
use std::ops::Range;

/// Pixels of a piece of a forward pass.
const PIECE: usize = 128;

/// Pixels whose gradients are computed together, and lie in a near cache while both gradients are made of them.
const BAND: usize = 48;

/// Floats of a page: addresses that lie so far apart share a few places of the nearest cache.
const PAGE: usize = 1024;

/// Convolves a map; gives the moments of all outputs where `finish` has a pivot.
pub(crate) fn forward(
    simd: Simd,
    geometry: &Geometry,
    x: &[f32],
    kernel: &[f32],
    out: Shared,
    finish: Finish,
) -> Moments {
    let Geometry { from, to, .. } = *geometry;
    let (pixels, product) = (geometry.pixels(), Product::new(simd, geometry, Direction::Forward, kernel));
    let pieces = pixels.div_ceil(PIECE);
    let moments = par_map(pieces, |piece| {
        let Range { start, end } = stretch(pixels, pieces, piece);
        counting(finish.at(0, start * to), to, |finish| {
            // SAFETY: each piece writes its own pixels.
            unsafe {
                let (x, out) = (x[start * from..].as_ptr(), out.at(start * to));
                let soon = [(x, from), (out.cast_const(), to)]
                    .map(|(map, pixel)| Soon { from: map.wrapping_add(NEAR * pixel), pixel });
                product.pixels(x, from, end - start, out, finish, soon);
            };
        })
    });
    norm::add_up(moments, if finish.pivot.is_null() { 0 } else { to })
}

/// Both gradients of [`forward`], a few pixels at a time.
pub(crate) fn backward(
    simd: Simd,
    geometry: &Geometry,
    x: &[f32],
    kernel: &[f32],
    incoming: &impl Incoming,
    wanted: Wanted<'_>,
) -> Gradients {
    let (Geometry { from, to, .. }, pixels) = (*geometry, geometry.pixels());
    let Wanted { input: of_input, kernel: of_kernel, .. } = wanted;
    let chunks = CHUNKS.min(pixels.div_ceil(BAND));
    let product = of_input.then(|| Product::new(simd, geometry, Direction::Backward, kernel));
    let mut input = Fresh::new(if of_input { pixels * from } else { 0 });
    let input_at = input.as_mut_ptr();
    let layout = Layout::new(simd, geometry);
    let mut parts = Scratch::any(if of_kernel { chunks * layout.len() } else { 0 });
    let parts_at = Shared::to(&mut parts);
    par(chunks, |chunk| {
        // SAFETY: each piece of work has its own part.
        let sums = unsafe { parts_at.at(chunk * layout.len()) };
        if of_kernel {
            // SAFETY: as above.
            unsafe { std::slice::from_raw_parts_mut(sums, layout.len()) }.fill(0.0);
        }
        // Whole vectors can be read to the end of the last pixel, and pixels do not lie pages apart.
        let step = if to.is_multiple_of(PAGE) { to + LINE } else { to };
        let mut gradient = Scratch::any(BAND * step + simd.lanes());
        let range = stretch(pixels, chunks, chunk);
        for start in range.clone().step_by(BAND) {
            let count = BAND.min(range.end - start);
            if step == to {
                incoming.fill(start * to, &mut gradient[..count * to]);
            } else {
                for (pixel, gradient) in gradient.chunks_exact_mut(step).take(count).enumerate() {
                    incoming.fill((start + pixel) * to, &mut gradient[..to]);
                }
            }
            let (x, gradient) = (x[start * from..][..count * from].as_ptr(), gradient.as_ptr());
            if let Some(product) = &product {
                // SAFETY: each piece writes its own pixels.
                unsafe {
                    let out = input_at.at(start * from);
                    let soon = [out.wrapping_add(NEAR * from).cast_const(), x]
                        .map(|map| Soon { from: map, pixel: from });
                    product.pixels(gradient, step, count, out, wanted.finish().at(0, start * from), soon);
                };
            }
            if of_kernel {
                simd.run(Common { layout, x, gradient, step, count, sums });
            }
        }
    });
    Gradients {
        // SAFETY: the chunks cover all pixels.
        input: of_input.then(|| unsafe { input.written() }),
        kernel: of_kernel.then(|| {
            add_up(&mut parts, layout.len(), chunks);
            layout.kernel(&parts[..layout.len()])
        }),
    }
}

/// A block of channels written, and of what.
struct Job {
    block: Block,
    group: usize,
}

/// Pixels times weights.
struct Product {
    simd: Simd,
    jobs: Vec<Job>,
    /// Channels that a group reads and writes.
    read: usize,
    written: usize,
    groups: usize,
    weights: Vec<Packed>,
}

impl Product {
    fn new(simd: Simd, geometry: &Geometry, direction: Direction, kernel: &[f32]) -> Self {
        let (read, written) = direction.channels(geometry);
        let groups = geometry.conv.groups;
        // Of single pixels both directions see one tap.
        let walk = geometry.forward();
        let packed = |group| Packed::new(simd, geometry, direction, &walk, Order::TapByTap, kernel, group);
        let of_group = |group| blocks(written, simd.lanes()).map(move |block| Job { block, group });
        let (weights, jobs) = ((0..groups).map(packed).collect(), (0..groups).flat_map(of_group).collect());
        Self { simd, jobs, read, written, groups, weights }
    }

    /// Of `count` pixels, `step` floats apart; meanwhile `soon` comes nearer.
    ///
    /// # Safety
    /// They are there, and room for what is made of them; what `finish` has reaches as far.
    unsafe fn pixels(
        &self,
        input: *const f32,
        step: usize,
        count: usize,
        out: *mut f32,
        finish: Finish,
        soon: [Soon; 2],
    ) {
        self.simd.run(Few { product: self, input, step, count, out, finish, soon });
    }
}

/// A map that will be read or written.
#[derive(Clone, Copy)]
struct Soon {
    /// What of it is wanted when the first pixels have been done.
    from: *const f32,
    /// Floats of a pixel.
    pixel: usize,
}

/// Lines that the processor asks for at once without waiting.
const AT_ONCE: usize = 24;

struct Few<'a> {
    product: &'a Product,
    input: *const f32,
    step: usize,
    count: usize,
    out: *mut f32,
    finish: Finish,
    soon: [Soon; 2],
}

/// Pixels whose channels are all done before the next come.
const NEAR: usize = 24;

impl Kernel for Few<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for first in (0..self.count).step_by(NEAR) {
            let (jobs, count) = (&self.product.jobs, NEAR.min(self.count - first));
            let tile = if L::WIDE { 8 } else { 6 };
            let [parts, fewer] = [tile, 2 * tile].map(|step| jobs.len() * count.div_ceil(step));
            let lines: usize = self.soon.iter().map(|map| (count * map.pixel).div_ceil(LINE)).sum();
            let (parts, step) = if lines > AT_ONCE * fewer { (parts, tile) } else { (fewer, 2 * tile) };
            let mut soon = self
                .soon
                .map(|map| Coming::new(map.from.wrapping_add(first * map.pixel), count * map.pixel, parts));
            for job in jobs {
                // SAFETY: who made this sees to it that its pointers reach as far as the pixels do.
                unsafe {
                    match job.block.vectors {
                        1 => self.job::<L, 1>(job, [first, count, step], &mut soon),
                        _ => self.job::<L, 2>(job, [first, count, step], &mut soon),
                    }
                }
            }
        }
    }
}

impl Few<'_> {
    /// `count` pixels from `first` on, `each` at a time.
    #[inline(always)]
    unsafe fn job<L: Lanes, const V: usize>(
        &self,
        &Job { block, group }: &Job,
        [first, count, each]: [usize; 3],
        soon: &mut [Coming; 2],
    ) {
        let Product { read, written, groups, weights, .. } = self.product;
        // SAFETY: the mask has at most `N` lanes.
        let mask = unsafe { L::mask(block.channels - (V - 1) * L::N) };
        let (channel, out_step) = (group * written + block.start, groups * written);
        let place = first * out_step + channel;
        let weights = weights[group].block(block).as_ptr();
        for start in (0..*read).step_by(LONGEST) {
            let len = LONGEST.min(read - start);
            let (begins, ends) = (start == 0, start + len == *read);
            let mut line = Line {
                input: self.input.wrapping_add(first * self.step + group * read),
                step: self.step,
                out: self.out.wrapping_add(place),
                out_step,
                count: 0,
                runs: &[Run { input: start as isize, weight: start, len }],
                weights,
                begins,
                finish: if ends { self.finish.at(channel, place) } else { Finish::PLAIN },
            };
            for done in (0..count).step_by(each) {
                if begins {
                    soon.iter_mut().for_each(Coming::ask);
                }
                line.count = each.min(count - done);
                // SAFETY: the condition of the caller.
                unsafe { line.sum::<L, V>(mask) };
                line.input = line.input.wrapping_add(each * self.step);
                line.out = line.out.wrapping_add(each * out_step);
                line.finish = line.finish.at(0, each * out_step);
            }
        }
    }
}

/// How the gradient of a kernel lies while it is summed: by group and block of channels, `[channel][channel of the block]`
/// with whole vectors. The channels of the blocks are those made, or those seen where these fill their vectors better.
#[derive(Clone, Copy)]
struct Layout {
    from: usize,
    to: usize,
    groups: usize,
    lanes: usize,
    /// Whether the blocks are of channels seen.
    turned: bool,
}

impl Layout {
    fn new(simd: Simd, geometry: &Geometry) -> Self {
        let (from, to, lanes) = (geometry.group_from(), geometry.group_to(), simd.lanes());
        // A map is read to its end, and no further: its vectors have to be whole.
        let turned = from.is_multiple_of(lanes) && !to.is_multiple_of(lanes);
        Self { from, to, groups: geometry.conv.groups, lanes, turned }
    }

    /// Channels that blocks are of, and those that each meets.
    fn sides(self) -> [usize; 2] {
        if self.turned { [self.from, self.to] } else { [self.to, self.from] }
    }

    /// Floats of a group.
    fn group(self) -> usize {
        let [blocks, rows] = self.sides();
        rows * blocks.next_multiple_of(self.lanes)
    }

    fn len(self) -> usize {
        self.groups * self.group()
    }

    /// The gradient of the kernel, `(from / groups, to)`.
    fn kernel(self, sums: &[f32]) -> Vec<f32> {
        let [wide, rows] = self.sides();
        let row = self.groups * self.to;
        let mut kernel = Fresh::new(self.from * row);
        let kernel_at = kernel.as_mut_ptr();
        for (group, sums) in sums.chunks_exact(self.group()).enumerate() {
            for block in blocks(wide, self.lanes) {
                let (sums, width) = (&sums[rows * block.start..], block.vectors * self.lanes);
                if self.turned {
                    // SAFETY: a group's channels lie side by side in each row of the kernel.
                    unsafe {
                        let to = kernel_at.at(block.start * row + group * self.to);
                        transpose(sums.as_ptr(), width, to, row, [rows, block.channels]);
                    }
                } else {
                    for (channel, sums) in sums.chunks_exact(width).take(rows).enumerate() {
                        // SAFETY: as above.
                        unsafe {
                            let to = kernel_at.at(channel * row + group * self.to + block.start);
                            to.copy_from_nonoverlapping(sums.as_ptr(), block.channels);
                        }
                    }
                }
            }
        }
        // SAFETY: all groups and blocks have been written.
        unsafe { kernel.written() }
    }
}

/// What some pixels of a map and their gradients have in common.
struct Common {
    layout: Layout,
    x: *const f32,
    gradient: *const f32,
    /// Floats from one pixel's gradient to the next.
    step: usize,
    count: usize,
    sums: *mut f32,
}

impl Kernel for Common {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { layout, x, gradient, step, count, sums } = self;
        let [wide, rows] = layout.sides();
        let sides = [(gradient, step), (x, layout.from * layout.groups)];
        let [(vectors, vectors_step), (values, values_step)] =
            if layout.turned { [sides[1], sides[0]] } else { sides };
        for group in 0..layout.groups {
            for block in blocks(wide, L::N) {
                let pixels = Pixels {
                    rows: 1,
                    columns: count,
                    x: values.wrapping_add(group * rows),
                    x_row: 0,
                    x_step: values_step,
                    gradient: vectors.wrapping_add(group * wide + block.start),
                    gradient_row: 0,
                    gradient_step: vectors_step,
                };
                let sums = sums.wrapping_add(group * layout.group() + rows * block.start);
                // SAFETY: who made this sees to it that the pixels are there, whole vectors of them.
                unsafe {
                    let all = L::mask(L::N);
                    match block.vectors {
                        1 => channels::<L, 1, true>(pixels, rows, sums, all),
                        _ => channels::<L, 2, true>(pixels, rows, sums, all),
                    }
                }
            }
        }
    }
}
