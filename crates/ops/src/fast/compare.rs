//! Sums over squares: one pass over the maps, where candle's operations make five.

use super::numbers::{filled, share};
use crate::record::{Backward, read, record1, record2, tensor};
use candle::{D, Result, Tensor};
use std::mem::MaybeUninit;

/// Places a thread takes at once.
const PLACES: usize = 256;

/// Σ f(a, b), in single precision over short stretches and in double beyond them, with as many sums side by side as
/// vectors have lanes.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    const LANES: usize = 16;
    const STRETCH: usize = 256;
    let mut total = 0.0;
    for (a, b) in a.chunks(STRETCH).zip(b.chunks(STRETCH)) {
        let mut lanes = [0.0; LANES];
        let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
        for (&a, &b) in a.remainder().iter().zip(b.remainder()) {
            total += f64::from(f(a, b));
        }
        for (a, b) in a.zip(b) {
            for (sum, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                *sum += f(a, b);
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

pub(crate) fn square_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let batch = a.dim(0)?;
    let each = a.elem_count() / batch;
    let y = read([a, b], |[a, b]| {
        let mut means = vec![0.0; batch];
        let work = |index: usize, out: &mut [f32]| {
            let range = index * each..(index + 1) * each;
            let (a, b) = (&a[range.clone()], &b[range]);
            out[0] = (sum(a, b, |a, b| (a - b) * (a - b)) / each as f64) as f32;
        };
        share(&mut means, 1, work);
        means
    })?;
    record2([a, b], y, batch, SquareDistance { each })
}

struct SquareDistance {
    each: usize,
}

impl Backward<2> for SquareDistance {
    const NAME: &'static str = "square-distance";

    fn gradients(&self, [a, b]: [&Tensor; 2], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let (each, shape) = (self.each, a.shape());
        let toward = |sign: f32| {
            read([a, b, gradient], |[a, b, gradient]| {
                let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
                    let range = index * each..(index + 1) * each;
                    let scale = sign * 2.0 * gradient[index] / each as f32;
                    for (out, (&a, &b)) in out.iter_mut().zip(a[range.clone()].iter().zip(&b[range])) {
                        out.write(scale * (a - b));
                    }
                };
                // SAFETY: a chunk is an example, and so are the ranges.
                tensor(unsafe { filled(a.len(), each, work) }, shape)
            })
        };
        Ok([a.track_op().then(|| toward(1.0)).transpose()?, b.track_op().then(|| toward(-1.0)).transpose()?])
    }
}

pub(crate) fn energy(x: &Tensor) -> Result<Tensor> {
    let channels = x.dim(D::Minus1)?;
    let y = read([x], |[x]| {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let places = x[index * PLACES * channels..].chunks_exact(channels);
            for (out, x) in out.iter_mut().zip(places) {
                out.write((sum(x, x, |a, b| a * b) / channels as f64) as f32);
            }
        };
        // SAFETY: there are as many places as means.
        unsafe { filled(x.len() / channels, PLACES, work) }
    })?;
    record1(x, y, &x.dims()[..x.rank() - 1], Energy { channels })
}

struct Energy {
    channels: usize,
}

impl Backward<1> for Energy {
    const NAME: &'static str = "energy";

    fn gradients(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let channels = self.channels;
        let of_x = read([x, gradient], |[x, gradient]| {
            let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
                let places = x[index * PLACES * channels..].chunks_exact(channels);
                let gradients = &gradient[index * PLACES..];
                for ((out, x), gradient) in out.chunks_exact_mut(channels).zip(places).zip(gradients) {
                    let scale = 2.0 * gradient / channels as f32;
                    for (out, &x) in out.iter_mut().zip(x) {
                        out.write(scale * x);
                    }
                }
            };
            // SAFETY: chunks are whole places.
            unsafe { filled(x.len(), PLACES * channels, work) }
        })?;
        Ok([Some(tensor(of_x, x.shape()))])
    }
}
