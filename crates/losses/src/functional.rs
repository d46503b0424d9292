//! What losses are made of: pure functions, one value per example, on log-probabilities.

use candle::{D, Tensor};
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
    log_softmax(&(precise(logits)? / above_zero(temperature)?)?)
}

/// KL(p ‖ q) in nats, of distributions given as log-probabilities. Differentiable in both.
///
/// # Shapes
/// `log_p`, `log_q`: `(batch, classes)` → `(batch,)`.
pub fn kl(log_p: &Tensor, log_q: &Tensor) -> Result<Tensor> {
    alike("the two predictions that a divergence compares", log_p, log_q)?;
    ops::divergence(log_p, log_q)
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
    ops::surprise(log_q, labels, share(smoothing)?)
}

/// The same of logits, in their own type: what they come to is found in double precision.
///
/// # Shapes
/// `logits`: `(batch, classes)`; `labels`: `(batch,)`, integers → `(batch,)`.
///
/// # Errors
/// As [`cross_entropy`].
pub fn label_cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    ops::cross_entropy(logits, labels, share(smoothing)?)
}

/// T² · KL(teacher ‖ student) between predictions softened by a temperature T, in the student's type.
///
/// # Shapes
/// `teacher`, `student`: logits, `(batch, classes)` → `(batch,)`.
///
/// # Errors
/// [`Error::Setting`] when the temperature is not above 0; [`Error::Shape`] when the shapes differ.
pub fn softened_kl(teacher: &Tensor, student: &Tensor, temperature: f64) -> Result<Tensor> {
    alike("the two predictions that a divergence compares", teacher, student)?;
    ops::softened_divergence(teacher, student, above_zero(temperature)?)
}

fn share(smoothing: f64) -> Result<f64> {
    if (0.0..=1.0).contains(&smoothing) {
        return Ok(smoothing);
    }
    Err(Error::setting("smoothing", format!("{smoothing} is not between 0 and 1")))
}

fn above_zero(temperature: f64) -> Result<f64> {
    if temperature > 0.0 {
        return Ok(temperature);
    }
    Err(Error::setting("temperature", format!("{temperature} is not above 0")))
}

/// The mean squared difference.
///
/// # Shapes
/// `a`, `b`: `(batch, ..)` → `(batch,)`.
pub fn mse(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut mean = (ops::squared_distance(a, b)? / a.dim(D::Minus1)? as f64)?;
    // Axis by axis: a single sum over a map's places would lose two digits in f32.
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
    ops::unit(vectors)
}

/// Where a map is active: the mean of its channels' powers at each place, as a vector of length 1.
///
/// # Shapes
/// `map`: `(batch, height, width, channels)` → `(batch, height · width)`.
///
/// # Source
/// Zagoruyko and Komodakis, 2017 (arXiv:1612.03928), section 3.1, `F^p_sum`, normalised as in equation (2).
pub fn attention_map(map: &Tensor, power: u32) -> Result<Tensor> {
    map.dims4()?;
    let activity = match power {
        2 => ops::energy(map)?,
        _ => map.powf(f64::from(power))?.mean(D::Minus1)?,
    };
    unit(&activity.flatten_from(1)?)
}

/// The mean squared difference at several sizes: of the maps as they are, and of their means over 4 × 4, 2 × 2 and 1 × 1
/// windows, each with half the weight of the size before; weights add up to 1. A size is left out where a side of the
/// maps is no larger.
///
/// # Shapes
/// `a`, `b`: `(batch, height, width, channels)` → `(batch,)`.
///
/// # Source
/// Chen et al., 2021 (arXiv:2104.09044), the hierarchical context loss (HCL), with the weights of its code. Ours: the
/// shorter side of oblong maps decides.
pub fn hierarchical_mse(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (_, height, width, _) = a.dims4()?;
    let (mut sum, mut weight, mut weights) = (mse(a, b)?, 1.0, 1.0);
    for side in [4, 2, 1].into_iter().filter(|&side| side < height.min(width)) {
        let pooled = |map: &Tensor| ops::adaptive_avg_pool2d(map, [side; 2]);
        weight /= 2.0;
        weights += weight;
        sum = (sum + (mse(&pooled(a)?, &pooled(b)?)? * weight)?)?;
    }
    Ok((sum / weights)?)
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

pub(crate) use ops::precise;

/// Refuses two tensors that differ in an axis.
fn alike(what: &'static str, student: &Tensor, teacher: &Tensor) -> Result<()> {
    if student.dims() == teacher.dims() {
        return Ok(());
    }
    Err(Error::Shape { what, expected: format!("{:?}", student.dims()), got: teacher.dims().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::{DType, Device};

    fn row(logits: [f64; 3]) -> Result<Tensor> {
        Ok(Tensor::new(&[logits], &Device::Cpu)?)
    }

    fn close(value: &Tensor, expected: &[f64]) -> Result<()> {
        let value = value.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        assert_eq!(value.len(), expected.len());
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-7;
        assert!(value.iter().zip(expected).all(near), "{value:?} instead of {expected:?}");
        Ok(())
    }

    /// By hand: p = (1/2, 1/4, 1/4), q even.
    #[test]
    fn the_divergence_is_cross_entropy_less_entropy() -> Result<()> {
        let ln2 = std::f64::consts::LN_2;
        let p = soften(&row([2.0 * ln2, ln2, ln2])?, 1.0)?;
        let even = soften(&row([7.0; 3])?, 1.0)?;
        close(&entropy(&p)?, &[1.5 * ln2])?;
        close(&kl(&p, &even)?, &[3f64.ln() - 1.5 * ln2])?;
        close(&kl(&p, &p)?, &[0.0])
    }

    /// By hand, from the definition: 0.9 of the label's surprise and 0.1 of everyone's.
    #[test]
    fn smoothing_shares_the_label_among_all() -> Result<()> {
        let ln2 = std::f64::consts::LN_2;
        let q = soften(&row([2.0 * ln2, ln2, ln2])?, 1.0)?;
        let labels = Tensor::new(&[0u32], &Device::Cpu)?;
        close(&cross_entropy(&q, &labels, 0.0)?, &[ln2])?;
        close(&cross_entropy(&q, &labels, 0.1)?, &[(0.9 + 0.1 * 5.0 / 3.0) * ln2])
    }

    #[test]
    fn a_dead_map_has_no_direction_and_a_faint_one_keeps_its_own() -> Result<()> {
        let vectors = Tensor::new(&[[0f32; 3], [3e-9, 0.0, 4e-9], [3.0, 0.0, -4.0]], &Device::Cpu)?;
        let unit = unit(&vectors)?;
        close(&unit.flatten_all()?, &[0.0, 0.0, 0.0, 0.6, 0.0, 0.8, 0.6, 0.0, -0.8])
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() -> Result<()> {
        let logits = row([1.0, 2.0, 3.0])?;
        for temperature in [0.0, -1.0, f64::NAN] {
            assert!(matches!(soften(&logits, temperature), Err(Error::Setting { .. })), "{temperature}");
        }
        let labels = Tensor::new(&[0u32], &Device::Cpu)?;
        assert!(matches!(cross_entropy(&logits, &labels, 1.1), Err(Error::Setting { .. })));
        let two = logits.narrow(1, 0, 2)?;
        assert!(matches!(kl(&logits, &two), Err(Error::Shape { .. })));
        Ok(())
    }
}
