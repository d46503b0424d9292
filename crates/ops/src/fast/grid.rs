use super::numbers::{Channels, filled, row, summed, visit_channels};
use crate::gpu::{Arg, Gpu};
use crate::record::{Backward, compute, record, tensor};
use crate::simd::{Kernel, Lanes, simd};
use crate::{GridPadding, GridSample};
use candle::{Result, Tensor};
use std::mem::MaybeUninit;

pub(crate) fn grid_sample(x: &Tensor, grid: &Tensor, how: GridSample) -> Result<Tensor> {
    let (_, height, width, channels) = x.dims4()?;
    let (batch, to_height, to_width, _) = grid.dims4()?;
    let sampler = Sampler { how, map: [height, width], channels, pixels: to_height * to_width };
    let to = sampler.pixels * channels;
    let here = |[x, grid]: [&[f32]; 2]| {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            simd().run(Forward {
                sampler,
                x: sampler.map_of(x, index),
                grid: sampler.grid_of(grid, index),
                out,
            });
        };
        // SAFETY: an image is `to` numbers, and `Forward` writes each pixel.
        unsafe { filled(batch * to, to, work) }
    };
    let there = |gpu: &Gpu| gpu.each("grid_sample", [x, grid], batch * to, sampler.args());
    let y = compute([x, grid], here, there)?;
    record([x, grid], y, (batch, to_height, to_width, channels), sampler)
}

impl Backward<2> for Sampler {
    const NAME: &'static str = "grid-sample";

    fn reads(&self) -> ([bool; 2], bool) {
        ([true, true], false)
    }

    fn gradients(
        &self,
        [x, grid]: [&Tensor; 2],
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let of_x = x.track_op().then(|| {
            let here = |[grid, gradient]: [&[f32]; 2]| self.back_map(grid, gradient);
            let there = |gpu: &Gpu| {
                let mut of_x = gpu.room(x.elem_count())?;
                let planes = x.elem_count() / (self.map[0] * self.map[1]);
                gpu.walk("grid_sample_map", [grid, gradient], &mut of_x, planes, self.args())?;
                Ok(of_x)
            };
            compute([grid, gradient], here, there).map(|back| tensor(back, x.shape()))
        });
        let of_grid = grid.track_op().then(|| {
            let here = |[x, grid, gradient]: [&[f32]; 3]| self.back_grid(x, grid, gradient);
            let there = |gpu: &Gpu| {
                let (mut of_grid, samples) = (gpu.room(grid.elem_count())?, grid.elem_count() / 2);
                gpu.walk("grid_sample_grid", [x, grid, gradient], &mut of_grid, samples, self.args())?;
                Ok(of_grid)
            };
            compute([x, grid, gradient], here, there).map(|back| tensor(back, grid.shape()))
        });
        Ok([of_x.transpose()?, of_grid.transpose()?])
    }
}

#[derive(Clone, Copy)]
struct Sampler {
    how: GridSample,
    /// Height and width.
    map: [usize; 2],
    channels: usize,
    /// Of one image of the result.
    pixels: usize,
}

/// A coordinate in pixels, and how it changes with the grid's.
#[derive(Clone, Copy)]
struct Place {
    at: f32,
    slope: f32,
}

/// A pixel that a sample reads.
#[derive(Clone, Copy)]
struct Corner {
    /// Where its channels begin; nowhere, if outside the map.
    start: Option<usize>,
    weight: f32,
    /// How the weight changes with the grid's x and y.
    slopes: [f32; 2],
}

impl Sampler {
    /// What a kernel of a GPU is told.
    fn args<'a>(&self) -> [Arg<'a>; 7] {
        let padding = match self.how.padding {
            GridPadding::Zeros => 0,
            GridPadding::Border => 1,
            GridPadding::Reflection => 2,
        };
        let [height, width] = self.map;
        let how = [usize::from(self.how.nearest), padding, usize::from(self.how.align_corners)];
        let [nearest, padding, align_corners] = how;
        [height, width, self.pixels, self.channels, nearest, padding, align_corners].map(Arg::Int)
    }

    fn map_of<'a>(&self, x: &'a [f32], image: usize) -> &'a [f32] {
        let length = self.map[0] * self.map[1] * self.channels;
        &x[image * length..][..length]
    }

    fn grid_of<'a>(&self, grid: &'a [f32], image: usize) -> &'a [f32] {
        &grid[image * self.pixels * 2..][..self.pixels * 2]
    }

    fn gradient_of<'a>(&self, gradient: &'a [f32], image: usize) -> &'a [f32] {
        &gradient[image * self.pixels * self.channels..][..self.pixels * self.channels]
    }

    /// From [-1, 1] to pixels, padding applied; in PyTorch's order of operations, so that whole pixels come out whole.
    #[inline(always)]
    fn place(&self, at: f32, axis: usize) -> Place {
        let length = self.map[axis] as f32;
        let place = if self.how.align_corners {
            Place { at: (at + 1.0) * 0.5 * (length - 1.0), slope: (length - 1.0) / 2.0 }
        } else {
            Place { at: ((at + 1.0) * length - 1.0) / 2.0, slope: length / 2.0 }
        };
        match self.how.padding {
            GridPadding::Zeros => place,
            GridPadding::Border => place.clip(length),
            GridPadding::Reflection if self.how.align_corners => {
                place.reflect(0.0, length - 1.0).clip(length)
            }
            GridPadding::Reflection => place.reflect(-0.5, length).clip(length),
        }
    }

    /// The pixels that a sample at `x`, `y` reads.
    #[inline(always)]
    fn corners(&self, x: f32, y: f32) -> [Corner; 4] {
        let (x, y) = (self.place(x, 1), self.place(y, 0));
        let start = |row: f32, column: f32| {
            let inside = |at: f32, length: usize| at >= 0.0 && at < length as f32;
            let within = inside(row, self.map[0]) && inside(column, self.map[1]);
            within.then(|| (row as usize * self.map[1] + column as usize) * self.channels)
        };
        if self.how.nearest {
            let nothing = Corner { start: None, weight: 0.0, slopes: [0.0; 2] };
            let start = start(y.at.round_ties_even(), x.at.round_ties_even());
            return [Corner { start, weight: 1.0, slopes: [0.0; 2] }, nothing, nothing, nothing];
        }
        let (left, top) = (x.at.floor(), y.at.floor());
        let (right, bottom) = (left + 1.0, top + 1.0);
        let corner = |row: f32, column: f32, wide: f32, high: f32, signs: [f32; 2]| Corner {
            start: start(row, column),
            weight: wide * high,
            slopes: [signs[0] * high * x.slope, signs[1] * wide * y.slope],
        };
        let (to_left, to_top) = (x.at - left, y.at - top);
        let (to_right, to_bottom) = (right - x.at, bottom - y.at);
        [
            corner(top, left, to_right, to_bottom, [-1.0, -1.0]),
            corner(top, right, to_left, to_bottom, [1.0, -1.0]),
            corner(bottom, left, to_right, to_top, [-1.0, 1.0]),
            corner(bottom, right, to_left, to_top, [1.0, 1.0]),
        ]
    }

    /// The map's gradient: each image is one thread's, so that sums keep their order.
    fn back_map(&self, grid: &[f32], gradient: &[f32]) -> Vec<f32> {
        let length = self.map[0] * self.map[1] * self.channels;
        let images = grid.len() / (self.pixels * 2).max(1);
        summed(images * length, length, |index, back| {
            let (grid, gradient) = (self.grid_of(grid, index), self.gradient_of(gradient, index));
            simd().run(BackMap { sampler: *self, grid, gradient, back });
        })
    }

    fn back_grid(&self, x: &[f32], grid: &[f32], gradient: &[f32]) -> Vec<f32> {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let (x, grid, gradient) =
                (self.map_of(x, index), self.grid_of(grid, index), self.gradient_of(gradient, index));
            simd().run(BackGrid { sampler: *self, x, grid, gradient, out });
        };
        // SAFETY: an image of the grid is two numbers a pixel, and `BackGrid` writes both.
        unsafe { filled(grid.len(), self.pixels * 2, work) }
    }
}

impl Place {
    /// No slope where it clips, nor on the bound itself.
    #[inline(always)]
    fn clip(self, length: f32) -> Self {
        if self.at <= 0.0 {
            Self { at: 0.0, slope: 0.0 }
        } else if self.at >= length - 1.0 {
            Self { at: length - 1.0, slope: 0.0 }
        } else {
            self
        }
    }

    /// Back and forth between `low` and `low + span`.
    #[inline(always)]
    fn reflect(self, low: f32, span: f32) -> Self {
        if span <= 0.0 {
            return Self { at: 0.0, slope: 0.0 };
        }
        let from_low = self.at - low;
        let slope = if from_low < 0.0 { -self.slope } else { self.slope };
        let (rest, flips) = (from_low.abs() % span, (from_low.abs() / span).floor());
        if flips % 2.0 == 0.0 {
            Self { at: rest + low, slope }
        } else {
            Self { at: span - rest + low, slope: -slope }
        }
    }
}

struct Forward<'a> {
    sampler: Sampler,
    x: &'a [f32],
    grid: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let channels = self.sampler.channels;
        for (out, at) in self.out.chunks_exact_mut(channels).zip(self.grid.chunks_exact(2)) {
            visit_channels(
                channels,
                &mut Mix { x: self.x, out, corners: self.sampler.corners(at[0], at[1]) },
            );
        }
    }
}

struct Mix<'a> {
    x: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
    corners: [Corner; 4],
}

impl Channels for Mix<'_> {
    #[inline(always)]
    fn visit<const N: usize>(&mut self, first: usize) {
        let mut sum = [0.0; N];
        for corner in &self.corners {
            if let Some(start) = corner.start {
                for (sum, x) in sum.iter_mut().zip(row::<N>(self.x, start + first)) {
                    *sum += corner.weight * x;
                }
            }
        }
        self.out[first..first + N].write_copy_of_slice(&sum);
    }
}

struct BackMap<'a> {
    sampler: Sampler,
    grid: &'a [f32],
    gradient: &'a [f32],
    back: &'a mut [f32],
}

impl Kernel for BackMap<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let channels = self.sampler.channels;
        for (gradient, at) in self.gradient.chunks_exact(channels).zip(self.grid.chunks_exact(2)) {
            let corners = self.sampler.corners(at[0], at[1]);
            visit_channels(channels, &mut Spread { gradient, back: self.back, corners });
        }
    }
}

struct Spread<'a> {
    gradient: &'a [f32],
    back: &'a mut [f32],
    corners: [Corner; 4],
}

impl Channels for Spread<'_> {
    #[inline(always)]
    fn visit<const N: usize>(&mut self, first: usize) {
        let gradient = row::<N>(self.gradient, first);
        for corner in &self.corners {
            if let Some(start) = corner.start {
                let back = &mut self.back[start + first..][..N];
                for (back, gradient) in back.iter_mut().zip(gradient) {
                    *back += corner.weight * gradient;
                }
            }
        }
    }
}

struct BackGrid<'a> {
    sampler: Sampler,
    x: &'a [f32],
    grid: &'a [f32],
    gradient: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
}

impl Kernel for BackGrid<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let channels = self.sampler.channels;
        let pixels = self.grid.chunks_exact(2).zip(self.gradient.chunks_exact(channels));
        for (out, (at, gradient)) in self.out.chunks_exact_mut(2).zip(pixels) {
            let mut back = [0.0; 2];
            for corner in self.sampler.corners(at[0], at[1]) {
                if let Some(start) = corner.start {
                    let product = dot(&self.x[start..start + channels], gradient);
                    back[0] += product * corner.slopes[0];
                    back[1] += product * corner.slopes[1];
                }
            }
            out.write_copy_of_slice(&back);
        }
    }
}

/// In sixteen sums, whatever the machine's registers: the same order, and the same bits, everywhere.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    if a.len() == 0 {
        return rest;
    }
    let mut sums = [0.0; 16];
    for (a, b) in a.zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}
