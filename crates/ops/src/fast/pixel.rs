use super::numbers::{filled, map, zip};
use crate::gpu::{Arg, Gpu, over};
use crate::record::{Backward, Remake, Unseen, compute, record, tensor};
use candle::{D, Result, Storage, Tensor};
use sokd_core::Lazy;
use std::mem::MaybeUninit;

pub(crate) fn relu(x: &Tensor) -> Result<Tensor> {
    let there = |gpu: &Gpu| gpu.each(over(x, "relu").by_fours(), [x], x.elem_count(), []);
    let y = compute([x], |[x]| map(x, |x| if x <= 0.0 { 0.0 } else { x }), there)?;
    record([x], y, x.shape(), Relu)
}

/// What `operation` gave behind a ReLU, which was computed with it, and what it gave.
pub(crate) fn rectified(operation: Unseen, y: Vec<f32>) -> Result<(Tensor, Lazy)> {
    let y = record([&operation.standing], y, operation.standing.shape(), Relu)?;
    Ok((y, Lazy::new(move || Ok(operation.tensor()?))))
}

struct Relu;

impl Backward<1> for Relu {
    const NAME: &'static str = "relu";

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], true)
    }

    fn gradients(&self, _: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let gate = |y: f32, gradient: f32| if y <= 0.0 { 0.0 } else { gradient };
        let there = |gpu: &Gpu| gpu.each(over(y, "gate").by_fours(), [y, gradient], y.elem_count(), []);
        let of_x = compute([y, gradient], |[y, gradient]| zip(y, gradient, gate), there)?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}

pub(crate) fn abs(x: &Tensor) -> Result<Tensor> {
    let there = |gpu: &Gpu| gpu.each("magnitude", [x], x.elem_count(), []);
    record([x], compute([x], |[x]| map(x, f32::abs), there)?, x.shape(), Abs)
}

struct Abs;

impl Backward<1> for Abs {
    const NAME: &'static str = "abs";

    fn reads(&self) -> ([bool; 1], bool) {
        ([true], false)
    }

    fn gradients(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let turn = |x: f32, gradient: f32| if x == 0.0 { 0.0 } else { gradient * x.signum() };
        let there = |gpu: &Gpu| gpu.each("turn", [x, gradient], x.elem_count(), []);
        let of_x = compute([x, gradient], |[x, gradient]| zip(x, gradient, turn), there)?;
        Ok([Some(tensor(of_x, x.shape()))])
    }
}

pub(crate) fn channel_shuffle(x: &Tensor, groups: usize) -> Result<Tensor> {
    let back = x.dim(D::Minus1)? / groups;
    record([x], shuffled(x, groups)?, x.shape(), Shuffle { groups, back })
}

fn shuffled(x: &Tensor, groups: usize) -> Result<Storage> {
    let (_, height, width, channels) = x.dims4()?;
    let here = |[x]: [&[f32]; 1]| {
        let image = height * width * channels;
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let pixels = x[index * image..].chunks_exact(channels);
            for (out, x) in out.chunks_exact_mut(channels).zip(pixels) {
                deal(x, out, groups);
            }
        };
        // SAFETY: an image is whole pixels, and `deal` writes all of each.
        unsafe { filled(x.len(), image, work) }
    };
    let sizes = [Arg::Int(channels), Arg::Int(groups)];
    compute([x], here, |gpu| gpu.each(over(x, "shuffle_channels"), [x], x.elem_count(), sizes))
}

/// `x` as `(groups, x / groups)`, transposed. Two and three hands are what networks have, there and back: of numbers that it
/// knows the compiler makes whole vectors.
#[inline(always)]
fn deal(x: &[f32], out: &mut [MaybeUninit<f32>], groups: usize) {
    let each = x.len() / groups;
    match [groups, each] {
        [2, _] => deal_out::<2>(x, out),
        [3, _] => deal_out::<3>(x, out),
        [_, 2] => gather::<2>(x, out),
        [_, 3] => gather::<3>(x, out),
        _ => {
            for (group, x) in x.chunks_exact(each).enumerate() {
                for (out, &x) in out[group..].iter_mut().step_by(groups).zip(x) {
                    out.write(x);
                }
            }
        }
    }
}

/// Among `N`.
#[inline(always)]
fn deal_out<const N: usize>(x: &[f32], out: &mut [MaybeUninit<f32>]) {
    let each = x.len() / N;
    let hands: [&[f32]; N] = std::array::from_fn(|hand| &x[hand * each..][..each]);
    for (place, out) in out.as_chunks_mut::<N>().0.iter_mut().take(each).enumerate() {
        for hand in 0..N {
            out[hand].write(hands[hand][place]);
        }
    }
}

/// Back from `N`.
#[inline(always)]
fn gather<const N: usize>(x: &[f32], out: &mut [MaybeUninit<f32>]) {
    for (hand, out) in out.chunks_exact_mut(x.len() / N).enumerate() {
        for (out, x) in out.iter_mut().zip(x.as_chunks::<N>().0) {
            out.write(x[hand]);
        }
    }
}

/// Dealing out among as many as a group had channels brings every channel home.
struct Shuffle {
    groups: usize,
    back: usize,
}

impl Backward<1> for Shuffle {
    const NAME: &'static str = "channel-shuffle";

    /// Of a map that is not kept either.
    fn again([x]: [bool; 1]) -> Option<Remake<Self, 1>> {
        x.then_some(Remake { reads: [true], make: |shuffle, [x]| shuffled(x, shuffle.groups) })
    }

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], false)
    }

    fn gradients(&self, _: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(channel_shuffle(gradient, self.back)?)])
    }
}

/// `back` undoes `order`; both name every channel once.
pub(crate) fn permute_channels(x: &Tensor, order: &[u32], back: &[u32]) -> Result<Tensor> {
    let (_, height, width, channels) = x.dims4()?;
    let here = |[x]: [&[f32]; 1]| {
        let image = height * width * channels;
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let pixels = x[index * image..].chunks_exact(channels);
            for (out, x) in out.chunks_exact_mut(channels).zip(pixels) {
                for (out, &from) in out.iter_mut().zip(order) {
                    out.write(x[from as usize]);
                }
            }
        };
        // SAFETY: an image is whole pixels, and `order` is as long as one.
        unsafe { filled(x.len(), image, work) }
    };
    let there = |gpu: &Gpu| {
        let order = Tensor::new(order, x.device())?;
        gpu.each(over(x, "permute_channels"), [x, &order], x.elem_count(), [Arg::Int(channels)])
    };
    let y = compute([x], here, there)?;
    record([x], y, x.shape(), Permute { order: back.to_vec(), back: order.to_vec() })
}

struct Permute {
    order: Vec<u32>,
    back: Vec<u32>,
}

impl Backward<1> for Permute {
    const NAME: &'static str = "permute-channels";

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], false)
    }

    fn gradients(&self, _: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(permute_channels(gradient, &self.order, &self.back)?)])
    }
}

pub(crate) fn normalize(images: &Tensor, mean: [f32; 3], std: [f32; 3]) -> Result<Tensor> {
    /// Whole pixels.
    const CHUNK: usize = 3 << 12;
    let here = |[x]: [&[f32]; 1]| {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            for (out, x) in out.chunks_exact_mut(3).zip(x[index * CHUNK..].chunks_exact(3)) {
                for colour in 0..3 {
                    out[colour].write((x[colour] - mean[colour]) / std[colour]);
                }
            }
        };
        // SAFETY: images are whole pixels of three colours.
        unsafe { filled(x.len(), CHUNK, work) }
    };
    let [[red, green, blue], deviations] = [mean, std].map(|colours| colours.map(f64::from).map(Arg::Float));
    let [red_std, green_std, blue_std] = deviations;
    let colours = [red, green, blue, red_std, green_std, blue_std];
    let y = compute([images], here, |gpu| gpu.each("normalize", [images], images.elem_count(), colours))?;
    record([images], y, images.shape(), Normalize { std })
}

struct Normalize {
    std: [f32; 3],
}

impl Backward<1> for Normalize {
    const NAME: &'static str = "normalize";

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], false)
    }

    fn gradients(&self, _: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        Ok([Some(normalize(gradient, [0.0; 3], self.std)?)])
    }
}
