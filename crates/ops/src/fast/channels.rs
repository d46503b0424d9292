use super::numbers::filled;
use crate::gpu::{Arg, Gpu};
use crate::record::{Backward, compute, record, tensor};
use candle::{Result, Tensor};
use std::mem::MaybeUninit;
use std::ops::Range;

pub(crate) fn channel_concat(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (batch, height, width, left) = a.dims4()?;
    let (_, _, _, right) = b.dims4()?;
    let (pixels, both) = (height * width, left + right);
    let here = |[a, b]: [&[f32]; 2]| {
        let work = |image: usize, out: &mut [MaybeUninit<f32>]| {
            let a = a[image * pixels * left..].chunks_exact(left);
            let b = b[image * pixels * right..].chunks_exact(right);
            for ((out, a), b) in out.chunks_exact_mut(both).zip(a).zip(b) {
                let (to_left, to_right) = out.split_at_mut(left);
                to_left.write_copy_of_slice(a);
                to_right.write_copy_of_slice(b);
            }
        };
        // SAFETY: an image is whole pixels of `both` channels, and both parts of each are written.
        unsafe { filled(batch * pixels * both, pixels * both, work) }
    };
    let sizes = [Arg::Int(left), Arg::Int(right)];
    let there = |gpu: &Gpu| gpu.each("concat_channels", [a, b], batch * pixels * both, sizes);
    record([a, b], compute([a, b], here, there)?, (batch, height, width, both), Concat { left })
}

struct Concat {
    left: usize,
}

impl Backward<2> for Concat {
    const NAME: &'static str = "channel-concat";

    fn reads(&self) -> ([bool; 2], bool) {
        ([false, false], false)
    }

    fn gradients(&self, [a, b]: [&Tensor; 2], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let of = |side: &Tensor, range: Range<usize>| {
            side.track_op().then(|| channel_range(gradient, range)).transpose()
        };
        Ok([of(a, 0..self.left)?, of(b, self.left..gradient.dim(3)?)?])
    }
}

pub(crate) fn channel_range(x: &Tensor, range: Range<usize>) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let (pixels, count) = (height * width, range.len());
    let here = |[x]: [&[f32]; 1]| {
        let work = |image: usize, out: &mut [MaybeUninit<f32>]| {
            let x = x[image * pixels * channels..].chunks_exact(channels);
            for (out, x) in out.chunks_exact_mut(count).zip(x) {
                out.write_copy_of_slice(&x[range.clone()]);
            }
        };
        // SAFETY: an image is whole pixels of `count` channels, and all of each are written.
        unsafe { filled(batch * pixels * count, pixels * count, work) }
    };
    let sizes = [Arg::Int(channels), Arg::Int(count), Arg::Int(range.start)];
    let there = |gpu: &Gpu| gpu.each("choose_channels", [x], batch * pixels * count, sizes);
    let y = compute([x], here, there)?;
    record([x], y, (batch, height, width, count), Choose { range })
}

/// The channels around those chosen have no part in the result.
struct Choose {
    range: Range<usize>,
}

impl Backward<1> for Choose {
    const NAME: &'static str = "channel-range";

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], false)
    }

    fn gradients(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let (_, height, width, channels) = x.dims4()?;
        let (pixels, Range { start, end }) = (height * width, self.range.clone());
        let here = |[gradient]: [&[f32]; 1]| {
            let work = |image: usize, out: &mut [MaybeUninit<f32>]| {
                let gradient = gradient[image * pixels * (end - start)..].chunks_exact(end - start);
                for (out, gradient) in out.chunks_exact_mut(channels).zip(gradient) {
                    out[..start].fill(MaybeUninit::new(0.0));
                    out[start..end].write_copy_of_slice(gradient);
                    out[end..].fill(MaybeUninit::new(0.0));
                }
            };
            // SAFETY: an image is whole pixels of `channels`, and all of each are written.
            unsafe { filled(x.elem_count(), pixels * channels, work) }
        };
        let sizes = [Arg::Int(channels), Arg::Int(end - start), Arg::Int(start)];
        let there = |gpu: &Gpu| gpu.each("return_channels", [gradient], x.elem_count(), sizes);
        let of_x = compute([gradient], here, there)?;
        Ok([Some(tensor(of_x, x.shape()))])
    }
}
