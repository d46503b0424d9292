use crate::backend::either;
use crate::{composed, fast};
use candle::Tensor;
use sokd_core::{Error, Result};

/// The mean of the squared differences of each example.
///
/// # Shapes
/// `a`, `b`: `(batch, ..)`, alike → `(batch,)`.
///
/// # Errors
/// [`Error::Shape`] when they differ in any axis, or have none.
pub fn square_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() || a.rank() == 0 {
        let expected = format!("{:?}, as the other has it, with a batch in front", a.dims());
        return Err(Error::Shape {
            what: "what a squared difference compares",
            expected,
            got: b.dims().to_vec(),
        });
    }
    either([a, b], |[a, b]| fast::square_distance(a, b), |[a, b]| composed::square_distance(a, b))
}

/// The mean of the squares over the last axis.
///
/// # Shapes
/// `(.., channels)` → `(..)`.
pub fn energy(x: &Tensor) -> Result<Tensor> {
    either([x], |[x]| fast::energy(x), |[x]| composed::energy(x))
}
