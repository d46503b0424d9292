use candle::{DType, Tensor};
use sokd_core::Result;

/// The largest difference between two tensors.
///
/// # Panics
/// When their shapes differ.
pub fn gap(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
    let differences = (a - b)?.flatten_all()?.to_vec1::<f64>()?;
    // Not `max`, which would pass over what is not a number.
    Ok(differences.into_iter().map(f64::abs).fold(0.0, |most, one| if one <= most { most } else { one }))
}

/// Whether two tensors are equal, bit for bit.
pub fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    let bits = |t: &Tensor| -> Result<Vec<u32>> {
        Ok(t.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    Ok(a.dims() == b.dims() && bits(a)? == bits(b)?)
}

/// Asserts that a tensor holds what was recorded, to a share of the largest recorded value.
///
/// # Panics
/// When it does not.
pub fn near(what: &str, got: &Tensor, recorded: &[f64], relative: f64) -> Result<()> {
    let got = got.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    assert_eq!(got.len(), recorded.len(), "{what}");
    let largest = recorded.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    for (place, (got, recorded)) in got.iter().zip(recorded).enumerate() {
        assert!(
            (got - recorded).abs() <= relative * largest,
            "{what}, value {place}: {got} instead of {recorded}, where the largest is {largest}"
        );
    }
    Ok(())
}
