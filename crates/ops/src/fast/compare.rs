use super::numbers::{exp, filled, map, sum, zip};
use crate::gpu::{Arg, Gpu};
use crate::record::{Backward, compute, record, tensor};
use candle::{D, Result, Storage, Tensor};
use std::mem::MaybeUninit;

pub(crate) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    let there = |gpu: &Gpu| gpu.each("sigmoid", [x], x.elem_count(), []);
    let y = compute([x], |[x]| map(x, |x| (1.0 + exp(-x)).recip()), there)?;
    record([x], y, x.shape(), Sigmoid)
}

struct Sigmoid;

impl Backward<1> for Sigmoid {
    const NAME: &'static str = "sigmoid";

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], true)
    }

    fn gradients(&self, _: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let slope = |y: f32, gradient: f32| gradient * y * (1.0 - y);
        let there = |gpu: &Gpu| gpu.each("sigmoid_back", [y, gradient], y.elem_count(), []);
        let of_x = compute([y, gradient], |[y, gradient]| zip(y, gradient, slope), there)?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}

/// Rows a thread takes at once.
const ROWS: usize = 64;

pub(crate) fn squared_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let channels = a.dim(D::Minus1)?;
    let here = |[a, b]: [&[f32]; 2]| {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let from = index * ROWS * channels;
            let rows = a[from..].chunks_exact(channels).zip(b[from..].chunks_exact(channels));
            for (out, (a, b)) in out.iter_mut().zip(rows) {
                out.write(sum(a, b, |a, b| (a - b) * (a - b)));
            }
        };
        // SAFETY: a number a row.
        unsafe { filled(a.len() / channels, ROWS, work) }
    };
    let y = compute([a, b], here, |gpu| squares(gpu, a, Some(b), 1.0))?;
    let axes = a.rank() - 1;
    record([a, b], y, &a.dims()[..axes], SquaredDistance { channels })
}

/// On a GPU: of each row, `scale` · Σ (a - b)².
fn squares(gpu: &Gpu, a: &Tensor, b: Option<&Tensor>, scale: f64) -> Result<Storage> {
    let width = a.dim(D::Minus1)?;
    let rows = a.elem_count() / width;
    gpu.rows("squares", [Some(a), b], (rows, width, rows), [Arg::Float(scale)])
}

/// And back: `slope` · gradient · (a - b).
fn squares_back(gpu: &Gpu, a: &Tensor, b: Option<&Tensor>, gradient: &Tensor, slope: f64) -> Result<Storage> {
    let sizes = [Arg::Int(a.dim(D::Minus1)?), Arg::Float(slope)];
    gpu.each_of("squares_back", [Some(a), b, Some(gradient)], a.elem_count(), sizes)
}

struct SquaredDistance {
    channels: usize,
}

impl Backward<2> for SquaredDistance {
    const NAME: &'static str = "squared-distance";

    fn reads(&self) -> ([bool; 2], bool) {
        ([true, true], false)
    }

    fn gradients(&self, [a, b]: [&Tensor; 2], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let channels = self.channels;
        let toward = |slope: f32| {
            let here = |[a, b, gradient]: [&[f32]; 3]| {
                let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
                    let (row, from) = (index * ROWS, index * ROWS * channels);
                    let rows = a[from..].chunks_exact(channels).zip(b[from..].chunks_exact(channels));
                    let rows = rows.zip(&gradient[row..]);
                    for (out, ((a, b), gradient)) in out.chunks_exact_mut(channels).zip(rows) {
                        let slope = slope * gradient;
                        for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
                            out.write(slope * (a - b));
                        }
                    }
                };
                // SAFETY: chunks are whole rows.
                unsafe { filled(a.len(), ROWS * channels, work) }
            };
            let there = |gpu: &Gpu| squares_back(gpu, a, Some(b), gradient, f64::from(slope));
            compute([a, b, gradient], here, there).map(|numbers| tensor(numbers, a.shape()))
        };
        Ok([a.track_op().then(|| toward(2.0)).transpose()?, b.track_op().then(|| toward(-2.0)).transpose()?])
    }
}

pub(crate) fn energy(x: &Tensor) -> Result<Tensor> {
    let channels = x.dim(D::Minus1)?;
    let here = |[x]: [&[f32]; 1]| {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let rows = x[index * ROWS * channels..].chunks_exact(channels);
            for (out, x) in out.iter_mut().zip(rows) {
                out.write(sum(x, x, |x, same| x * same) / channels as f32);
            }
        };
        // SAFETY: a number a row.
        unsafe { filled(x.len() / channels, ROWS, work) }
    };
    let y = compute([x], here, |gpu| squares(gpu, x, None, 1.0 / channels as f64))?;
    record([x], y, &x.dims()[..x.rank() - 1], Energy { channels })
}

struct Energy {
    channels: usize,
}

impl Backward<1> for Energy {
    const NAME: &'static str = "energy";

    fn reads(&self) -> ([bool; 1], bool) {
        ([true], false)
    }

    fn gradients(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let channels = self.channels;
        let here = |[x, gradient]: [&[f32]; 2]| {
            let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
                let rows = x[index * ROWS * channels..].chunks_exact(channels).zip(&gradient[index * ROWS..]);
                for (out, (x, gradient)) in out.chunks_exact_mut(channels).zip(rows) {
                    let slope = 2.0 * gradient / channels as f32;
                    for (out, &x) in out.iter_mut().zip(x) {
                        out.write(slope * x);
                    }
                }
            };
            // SAFETY: chunks are whole rows.
            unsafe { filled(x.len(), ROWS * channels, work) }
        };
        let there = |gpu: &Gpu| squares_back(gpu, x, None, gradient, 2.0 / channels as f64);
        Ok([Some(tensor(compute([x, gradient], here, there)?, x.shape()))])
    }
}
