use crate::backend::either;
use crate::spent::named;
use crate::{composed, fast};
use candle::Tensor;
use sokd_core::{Error, Result};

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    named("sigmoid", || either([x], |[x]| fast::sigmoid(x), |[x]| composed::sigmoid(x)))
}

/// `Σ (a - b)²` over the last axis.
///
/// # Shapes
/// `(.., channels)` twice → `(..)`.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn squared_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    alike("a map", a, b)?;
    named("squared-distance", || {
        either([a, b], |[a, b]| fast::squared_distance(a, b), |[a, b]| composed::squared_distance(a, b))
    })
}

/// `−Σ targets · ln softmax(scores)` over the last axis, whose targets add up to what they may.
///
/// # Shapes
/// `(.., classes)` twice → `(..)`.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn soft_cross_entropy(targets: &Tensor, scores: &Tensor) -> Result<Tensor> {
    alike("the scores that targets are held against", targets, scores)?;
    let fast = |[targets, scores]: [&Tensor; 2]| fast::soft_cross_entropy(targets, scores);
    let composed = |[targets, scores]: [&Tensor; 2]| composed::soft_cross_entropy(targets, scores);
    named("soft-cross-entropy", || either([targets, scores], fast, composed))
}

/// The mean of the squares over the last axis.
///
/// # Shapes
/// `(.., channels)` → `(..)`.
pub fn energy(x: &Tensor) -> Result<Tensor> {
    named("energy", || either([x], |[x]| fast::energy(x), |[x]| composed::energy(x)))
}

fn alike(what: &'static str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dims() == b.dims() {
        return Ok(());
    }
    let expected = format!("{:?}, as what it is compared with", a.dims());
    Err(Error::Shape { what, expected, got: b.dims().to_vec() })
}
