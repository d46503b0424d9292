use super::numbers::{Channels, filled, row, summed, visit_channels};
use crate::Pool;
use crate::gpu::{Gpu, Window, over};
use crate::record::{Backward, Numbers, read, record, tensor};
use crate::simd::{Kernel, Lanes, simd};
use candle::{Result, Tensor};
use std::mem::MaybeUninit;
use std::ops::Range;

pub(crate) fn max_pool2d(x: &Tensor, pool: Pool) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let size = [pool.positions(height, 0), pool.positions(width, 1)];
    let windows = Windows { pool, map: [height, width], size, channels };
    let [from, to] = windows.lengths();
    let here = |[x]: [&[f32]; 1]| {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            simd().run(Forward { windows, x: &x[index * from..][..from], out });
        };
        // SAFETY: an image is `to` numbers, and `Forward` writes each pixel.
        unsafe { filled(batch * to, to, work) }
    };
    let shape = (batch, size[0], size[1], channels);
    let Some(gpu) = Gpu::of(&[x]) else {
        return record([x], read([x], here)?, shape, MaxPool { windows, winners: None });
    };
    let (y, winners) = gpu.max_pool(x, windows.window(), (batch * to, channels), x.track_op())?;
    let winners = winners.map(|winners| tensor(winners, shape));
    record([x], y, shape, MaxPool { windows, winners })
}

/// The way back.
struct MaxPool {
    windows: Windows,
    /// At which place of each window the largest was, where a GPU has remembered it.
    winners: Option<Tensor>,
}

impl Backward<1> for MaxPool {
    const NAME: &'static str = "max-pool";

    fn reads(&self) -> ([bool; 1], bool) {
        let looks = self.winners.is_none();
        ([looks], looks)
    }

    fn gradients(&self, [x]: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let windows = self.windows;
        let of_x = if let (Some(winners), Some(gpu)) = (&self.winners, Gpu::of(&[gradient])) {
            let (kernel, window) = (over(gradient, "max_pool_back").by_fours(), windows.window());
            gpu.windows(kernel, [winners, gradient], window, x.elem_count(), windows.channels)?
        } else {
            let [from, to] = windows.lengths();
            let here = |[x, y, gradient]: [&[f32]; 3]| {
                summed(x.len(), from, |index, back| {
                    let (y, gradient) = (&y[index * to..][..to], &gradient[index * to..][..to]);
                    simd().run(ToWinners { windows, x: &x[index * from..][..from], y, gradient, back });
                })
            };
            read([x, y, gradient], here)?.storage()
        };
        Ok([Some(tensor(of_x, x.shape()))])
    }
}

/// Where the windows lie in an image.
#[derive(Clone, Copy)]
struct Windows {
    pool: Pool,
    map: [usize; 2],
    size: [usize; 2],
    channels: usize,
}

impl Windows {
    /// Numbers of an image, and of what its windows give.
    fn lengths(&self) -> [usize; 2] {
        [self.map, self.size].map(|[height, width]| height * width * self.channels)
    }

    fn window(&self) -> Window {
        Window::of_pool(self.pool, self.map, self.size)
    }

    /// What of the map lies under a window.
    #[inline(always)]
    fn under(&self, position: usize, axis: usize) -> Range<usize> {
        let start = position * self.pool.stride[axis];
        let padding = self.pool.padding[axis];
        let end = (start + self.pool.kernel[axis]).saturating_sub(padding);
        start.saturating_sub(padding)..end.min(self.map[axis])
    }

    /// Calls `work` with the number of each output pixel and the rows and columns under its window.
    #[inline(always)]
    fn each(&self, mut work: impl FnMut(usize, Range<usize>, Range<usize>)) {
        for row in 0..self.size[0] {
            for column in 0..self.size[1] {
                work(row * self.size[1] + column, self.under(row, 0), self.under(column, 1));
            }
        }
    }
}

struct Forward<'a> {
    windows: Windows,
    x: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { windows, x, out } = self;
        let channels = windows.channels;
        windows.each(|pixel, rows, columns| {
            let out = &mut out[pixel * channels..][..channels];
            visit_channels(channels, &mut Largest { x, out, windows, rows, columns });
        });
    }
}

struct Largest<'a> {
    x: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
    windows: Windows,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Channels for Largest<'_> {
    #[inline(always)]
    fn visit<const N: usize>(&mut self, first: usize) {
        let mut largest = [f32::NEG_INFINITY; N];
        for line in self.rows.clone() {
            for column in self.columns.clone() {
                let x =
                    row::<N>(self.x, (line * self.windows.map[1] + column) * self.windows.channels + first);
                for (largest, &x) in largest.iter_mut().zip(x) {
                    // Not a number wins, and stays: divergence must be seen.
                    *largest = if x > *largest || x.is_nan() { x } else { *largest };
                }
            }
        }
        self.out[first..first + N].write_copy_of_slice(&largest);
    }
}

struct ToWinners<'a> {
    windows: Windows,
    x: &'a [f32],
    y: &'a [f32],
    gradient: &'a [f32],
    back: &'a mut [f32],
}

impl Kernel for ToWinners<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { windows, x, y, gradient, back } = self;
        let channels = windows.channels;
        windows.each(|pixel, rows, columns| {
            let (y, gradient) =
                (&y[pixel * channels..][..channels], &gradient[pixel * channels..][..channels]);
            visit_channels(channels, &mut Winner { x, y, gradient, back, windows, rows, columns });
        });
    }
}

struct Winner<'a> {
    x: &'a [f32],
    y: &'a [f32],
    gradient: &'a [f32],
    back: &'a mut [f32],
    windows: Windows,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Channels for Winner<'_> {
    /// The winner is found again rather than remembered: reading the map a second time costs less than writing and
    /// reading an index per output, and the lanes stay full.
    #[inline(always)]
    fn visit<const N: usize>(&mut self, first: usize) {
        let (y, gradient) = (row::<N>(self.y, first), row::<N>(self.gradient, first));
        let mut open = [u32::MAX; N];
        for line in self.rows.clone() {
            for column in self.columns.clone() {
                let start = (line * self.windows.map[1] + column) * self.windows.channels + first;
                let (x, back) = (row::<N>(self.x, start), &mut self.back[start..start + N]);
                for lane in 0..N {
                    // Bit for bit, so that 0 and -0 are told apart, as they are when the window looks for its first
                    // largest.
                    let same = if x[lane].to_bits() == y[lane].to_bits() { u32::MAX } else { 0 };
                    let hit = same & open[lane];
                    back[lane] += f32::from_bits(gradient[lane].to_bits() & hit);
                    open[lane] &= !hit;
                }
            }
        }
    }
}
