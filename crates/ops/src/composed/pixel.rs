use candle::{D, Result, Tensor};
use std::ops::Range;

/// candle's own sends the gradient through at 0; PyTorch and we do not.
pub(crate) fn relu(x: &Tensor) -> Result<Tensor> {
    let zeros = x.detach().zeros_like()?;
    // Asked this way round, a NaN stays a NaN: divergence must be seen.
    x.detach().le(&zeros)?.where_cond(&zeros, x)
}

/// candle's own has gradient 1 at 0; ours is 0.
pub(crate) fn abs(x: &Tensor) -> Result<Tensor> {
    x * x.detach().sign()?
}

pub(crate) fn channel_shuffle(x: &Tensor, groups: usize) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    x.reshape((batch, height, width, groups, channels / groups))?
        .transpose(3, 4)?
        .contiguous()?
        .reshape((batch, height, width, channels))
}

pub(crate) fn channel_range(x: &Tensor, range: Range<usize>) -> Result<Tensor> {
    x.narrow(3, range.start, range.len())?.contiguous()
}

pub(crate) fn permute_channels(x: &Tensor, order: &[u32]) -> Result<Tensor> {
    x.index_select(&Tensor::new(order, x.device())?, 3)
}

pub(crate) fn log_softmax(x: &Tensor) -> Result<Tensor> {
    // The shift changes no value, so it takes no part in the gradient.
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    shifted.broadcast_sub(&log_sum)
}

pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    log_softmax(x)?.exp()
}

pub(crate) fn soft_cross_entropy(targets: &Tensor, scores: &Tensor) -> Result<Tensor> {
    (targets * log_softmax(scores)?)?.sum(D::Minus1)?.neg()
}

pub(crate) fn unit(x: &Tensor) -> Result<Tensor> {
    let squares = x.sqr()?.sum_keepdim(D::Minus1)?;
    // Before the root, whose slope at 0 is infinite.
    x.broadcast_div(&squares.maximum(1e-24)?.sqrt()?)
}

pub(crate) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

pub(crate) fn squared_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a - b)?.sqr()?.sum(D::Minus1)
}

pub(crate) fn energy(x: &Tensor) -> Result<Tensor> {
    x.sqr()?.mean(D::Minus1)
}

pub(crate) fn normalize(images: &Tensor, mean: [f32; 3], std: [f32; 3]) -> Result<Tensor> {
    let row = |values: [f32; 3]| Tensor::new(&values, images.device())?.to_dtype(images.dtype());
    images.broadcast_sub(&row(mean)?)?.broadcast_div(&row(std)?)
}

pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}
