use crate::wave;
use candle::{DType, Tensor, Var};
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

/// Asserts, in double precision, that the gradient of a value in each leaf is its slope along a direction, and says how
/// many of them it depends on.
///
/// `step`: how far to either side the value is asked; `close`: the relative difference that is allowed, and the least
/// slope that it is relative to.
///
/// # Panics
/// When a gradient says something else.
pub fn slopes(
    what: &str,
    leaves: impl IntoIterator<Item = Var>,
    (step, close): (f64, [f64; 2]),
    value: impl Fn() -> Result<Tensor>,
) -> Result<usize> {
    let grads = value()?.backward()?;
    let mut read = 0;
    for (index, var) in leaves.into_iter().enumerate() {
        let Some(grad) = grads.get(&var) else { continue };
        read += 1;
        let way = wave(&format!("direction {index}"), var.dims(), 1.0)?.to_dtype(DType::F64)?;
        let slope: f64 = (grad * &way)?.sum_all()?.to_scalar()?;
        let start = var.as_detached_tensor().force_contiguous()?;
        let moved = |step: f64| -> Result<f64> {
            var.set(&(&start + (&way * step)?)?)?;
            Ok(value()?.to_scalar()?)
        };
        let difference = (moved(step)? - moved(-step)?) / (2.0 * step);
        var.set(&start)?;
        let [relative, least] = close;
        assert!(
            (slope - difference).abs() <= relative * difference.abs().max(least),
            "{what}, leaf {index}: the gradient says {slope}, differences say {difference}"
        );
    }
    Ok(read)
}

/// Σ cos(i) xᵢ of maps, in PyTorch's order: one number, to which every value counts something else.
///
/// # Shapes
/// `(batch, height, width, channels)` → `()`.
pub fn weighed(maps: &Tensor) -> Result<Tensor> {
    let maps = maps.permute((0, 3, 1, 2))?.contiguous()?;
    let cosines = Tensor::arange(0.0_f32, maps.elem_count() as f32, maps.device())?.cos()?;
    Ok((&maps * cosines.reshape(maps.shape())?)?.sum_all()?)
}
