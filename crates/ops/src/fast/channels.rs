use super::numbers::{PAGES, WORTH_SHARING, filled, share_pieces};
use crate::gpu::{Arg, Gpu, over};
use crate::record::{Backward, compute, read, record, tensor};
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
    let there = |gpu: &Gpu| gpu.each(over(a, "concat_channels"), [a, b], batch * pixels * both, sizes);
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

/// The channels of two maps in turn, on this machine.
pub(crate) fn channel_interleave(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = a.dims4()?;
    let pixels = height * width;
    let y = read([a, b], |[a, b]| {
        let work = |image: usize, out: &mut [MaybeUninit<f32>]| {
            let range = image * pixels * channels..(image + 1) * pixels * channels;
            // Pixels end where pairs do: an image is one row of them.
            let pairs = a[range.clone()].iter().zip(&b[range]);
            for ([left, right], (&a, &b)) in out.as_chunks_mut().0.iter_mut().zip(pairs) {
                left.write(a);
                right.write(b);
            }
        };
        // SAFETY: an image is whole pixels of both maps, and a pair is written for each of their numbers.
        unsafe { filled(2 * a.len(), 2 * pixels * channels, work) }
    })?;
    record([a, b], y, (batch, height, width, 2 * channels), Interleave)
}

struct Interleave;

impl Backward<2> for Interleave {
    const NAME: &'static str = "channel-interleave";

    fn reads(&self) -> ([bool; 2], bool) {
        ([false, false], false)
    }

    fn gradients(&self, [a, b]: [&Tensor; 2], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let apart = |[gradient]: [&[f32]; 1]| {
            let len = gradient.len() / 2;
            let (mut left, mut right) = (Vec::with_capacity(len), Vec::with_capacity(len));
            let hands =
                [&mut left, &mut right].map(|hand: &mut Vec<f32>| &mut hand.spare_capacity_mut()[..len]);
            let [left_at, right_at] = hands.map(|hand| hand.chunks_mut(PAGES));
            let pieces = gradient.chunks(2 * PAGES).zip(left_at.zip(right_at));
            share_pieces(pieces, len >= WORTH_SHARING, |(gradient, (left, right))| {
                let pairs = gradient.as_chunks::<2>().0;
                for (&[a, b], (left, right)) in pairs.iter().zip(left.iter_mut().zip(right)) {
                    left.write(a);
                    right.write(b);
                }
            });
            for hand in [&mut left, &mut right] {
                // SAFETY: the pieces hold a pair for each of its numbers.
                unsafe { hand.set_len(len) };
            }
            [left, right]
        };
        let [of_a, of_b] = read([gradient], apart)?;
        let of = |side: &Tensor, floats| side.track_op().then(|| tensor(floats, side.shape()));
        Ok([of(a, of_a), of(b, of_b)])
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
    let there = |gpu: &Gpu| gpu.each(over(x, "choose_channels"), [x], batch * pixels * count, sizes);
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
        let there =
            |gpu: &Gpu| gpu.each(over(gradient, "return_channels"), [gradient], x.elem_count(), sizes);
        let of_x = compute([gradient], here, there)?;
        Ok([Some(tensor(of_x, x.shape()))])
    }
}
