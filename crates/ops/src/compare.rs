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
    if a.dims() != b.dims() {
        let expected = format!("{:?}, as what it is compared with", a.dims());
        return Err(Error::Shape { what: "a map", expected, got: b.dims().to_vec() });
    }
    named("squared-distance", || {
        either([a, b], |[a, b]| fast::squared_distance(a, b), |[a, b]| composed::squared_distance(a, b))
    })
}

/// The mean of the squares over the last axis.
///
/// # Shapes
/// `(.., channels)` → `(..)`.
pub fn energy(x: &Tensor) -> Result<Tensor> {
    named("energy", || either([x], |[x]| fast::energy(x), |[x]| composed::energy(x)))
}
