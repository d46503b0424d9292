//! What losses are made of: pure functions, one value per example, on log-probabilities.

use candle::{D, DType, Device, Tensor};
use sokd_core::{Error, Result};
use sokd_ops as ops;

/// Log-probabilities of a softened prediction: log softmax(logits / temperature), in `f64` where the device has it.
///
/// A KL divergence is a sum of differences of nearly equal numbers: in `f32` it keeps no digit of a student close to
/// its teacher, or of a teacher sure of its label. Logits are few, so the other half of the digits costs nothing.
///
/// # Shapes
/// `logits`: `(batch, classes)` → the same.
///
/// # Errors
/// [`Error::Setting`] when the temperature is not above 0.
pub fn soften(logits: &Tensor, temperature: f64) -> Result<Tensor> {
    logits.dims2()?;
    if temperature.is_nan() || temperature <= 0.0 {
        return Err(Error::setting("temperature", format!("{temperature} is not above 0")));
    }
    Ok(log_softmax(&(precise(logits)? / temperature)?)?)
}

/// KL(p ‖ q) in nats, of distributions given as log-probabilities. Differentiable in both.
///
/// # Shapes
/// `log_p`, `log_q`: `(batch, classes)` → `(batch,)`.
pub fn kl(log_p: &Tensor, log_q: &Tensor) -> Result<Tensor> {
    alike("the two predictions that a divergence compares", log_p, log_q)?;
    Ok((log_p.exp()? * (log_p - log_q)?)?.sum(D::Minus1)?)
}

/// −Σ p log p in nats, of a distribution given as log-probabilities.
///
/// # Shapes
/// `log_p`: `(batch, classes)` → `(batch,)`.
pub fn entropy(log_p: &Tensor) -> Result<Tensor> {
    Ok((log_p.exp()? * log_p)?.sum(D::Minus1)?.neg()?)
}

/// −log q(label), the label sharing `smoothing` of its certainty evenly among all classes, itself included.
///
/// # Shapes
/// `log_q`: `(batch, classes)` log-probabilities; `labels`: `(batch,)`, integers → `(batch,)`.
///
/// # Errors
/// [`Error::Setting`] when `smoothing` is not in [0, 1].
///
/// # Source
/// Szegedy et al., 2016 (arXiv:1512.00567), section 7; PyTorch's `CrossEntropyLoss(label_smoothing)`.
pub fn cross_entropy(log_q: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(Error::setting("smoothing", format!("{smoothing} is not between 0 and 1")));
    }
    let label = log_q.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?;
    if smoothing == 0.0 {
        return Ok(label.neg()?);
    }
    let even = log_q.mean(D::Minus1)?;
    Ok(((label * (smoothing - 1.0))? - (even * smoothing)?)?)
}

/// The mean squared difference.
///
/// # Shapes
/// `a`, `b`: `(batch, ..)` → `(batch,)`.
pub fn mse(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    alike("the two maps that a squared difference compares", a, b)?;
    let mut mean = (a - b)?.sqr()?;
    // Axis by axis: a single sum over a map's 16 thousand values would lose two digits in f32.
    while mean.rank() > 1 {
        mean = mean.mean(D::Minus1)?;
    }
    Ok(mean)
}

/// Vectors scaled to length 1; those shorter than 1e-12 are only divided by it, so that a dead map is no NaN.
///
/// # Shapes
/// `vectors`: `(batch, values)` → the same.
///
/// # Source
/// PyTorch's `functional.normalize`, gradient included.
pub fn unit(vectors: &Tensor) -> Result<Tensor> {
    let squares = vectors.sqr()?.sum_keepdim(D::Minus1)?;
    // Before the root, whose slope at 0 is infinite.
    Ok(vectors.broadcast_div(&squares.maximum(1e-24)?.sqrt()?)?)
}

/// Where a map is active: the mean of its channels' powers at each place, as a vector of length 1.
///
/// # Shapes
/// `map`: `(batch, height, width, channels)` → `(batch, height · width)`.
///
/// # Source
/// Zagoruyko and Komodakis, 2017 (arXiv:1612.03928), section 3.1, F^p_sum, normalised as in equation (2).
pub fn attention_map(map: &Tensor, power: u32) -> Result<Tensor> {
    map.dims4()?;
    let activity = map.powf(f64::from(power))?.mean(D::Minus1)?;
    unit(&activity.flatten_from(1)?)
}

/// log Σ exp over the last axis, which stays, with length 1.
pub(crate) fn log_sum_exp(values: &Tensor) -> Result<Tensor> {
    // The shift by the largest value is no part of the function: its own gradient cancels, and is better not taken.
    let largest = values.max_keepdim(D::Minus1)?.detach();
    let sum = values.broadcast_sub(&largest)?.exp()?.sum_keepdim(D::Minus1)?;
    Ok((sum.log()? + largest)?)
}

/// Log-probabilities of scores.
pub(crate) fn log_softmax(values: &Tensor) -> Result<Tensor> {
    ops::log_softmax(values)
}

/// The same values in `f64`, but on Metal, which has none.
fn precise(values: &Tensor) -> Result<Tensor> {
    match values.device() {
        Device::Metal(_) => Ok(values.clone()),
        Device::Cpu | Device::Cuda(_) => Ok(values.to_dtype(DType::F64)?),
    }
}

/// Refuses two tensors that differ in an axis.
fn alike(what: &'static str, student: &Tensor, teacher: &Tensor) -> Result<()> {
    if student.dims() == teacher.dims() {
        return Ok(());
    }
    Err(Error::Shape { what, expected: format!("{:?}", student.dims()), got: teacher.dims().to_vec() })
}
