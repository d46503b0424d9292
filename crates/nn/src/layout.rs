//! How parameters lie in memory, against how PyTorch writes them.

use candle::Tensor;
use sokd_core::{Error, Result};
use std::collections::BTreeMap;

/// A parameter as PyTorch writes it. Every parameter of four axes is a convolution's kernel: `(height, width,
/// from / groups, to)` in memory becomes `(to, from / groups, height, width)`; all others stay as they are.
/// Always a copy: weights move on, what was written stays.
pub fn to_torch(weight: &Tensor) -> Result<Tensor> {
    Ok(match weight.rank() {
        4 => weight.permute((3, 2, 0, 1))?.force_contiguous()?,
        _ => weight.force_contiguous()?,
    })
}

/// A parameter that PyTorch wrote, as it lies in memory here: the inverse of [`to_torch`], a copy too.
pub fn from_torch(weight: &Tensor) -> Result<Tensor> {
    Ok(match weight.rank() {
        4 => weight.permute((2, 3, 1, 0))?.force_contiguous()?,
        _ => weight.force_contiguous()?,
    })
}

/// The axes of a parameter as PyTorch counts them.
pub(crate) fn torch_dims(dims: &[usize]) -> Vec<usize> {
    match *dims {
        [height, width, from, to] => vec![to, from, height, width],
        _ => dims.to_vec(),
    }
}

/// Whether `tensors` are what is expected: the same names, PyTorch's counters `num_batches_tracked` aside, and shapes.
///
/// # Errors
/// [`Error::Unfit`] with every missing, unexpected and misshapen name.
pub(crate) fn fit(
    what: &str,
    expected: &BTreeMap<String, Vec<usize>>,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let missing: Vec<_> = expected.keys().filter(|name| !tensors.contains_key(*name)).cloned().collect();
    let known = |name: &str| expected.contains_key(name) || name.ends_with("num_batches_tracked");
    let unexpected: Vec<_> = tensors.keys().filter(|name| !known(name)).cloned().collect();
    let misshapen = |(name, expected): (&String, &Vec<usize>)| {
        let got = tensors.get(name)?.dims();
        (expected != got).then(|| format!("{name} (expected {expected:?}, got {got:?})"))
    };
    let misshapen: Vec<_> = expected.iter().filter_map(misshapen).collect();
    if missing.is_empty() && unexpected.is_empty() && misshapen.is_empty() {
        return Ok(());
    }
    Err(Error::Unfit { what: what.to_owned(), missing, unexpected, misshapen })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Device;

    #[test]
    fn a_kernel_goes_out_and_comes_back() -> Result<()> {
        let kernel = Tensor::arange(0f32, 120.0, &Device::Cpu)?.reshape((2, 3, 4, 5))?;
        let written = to_torch(&kernel)?;
        assert_eq!(written.dims(), torch_dims(kernel.dims()));
        let at = |t: &Tensor, i: [usize; 4]| -> Result<f32> {
            Ok(t.get(i[0])?.get(i[1])?.get(i[2])?.get(i[3])?.to_scalar()?)
        };
        assert_eq!(at(&written, [4, 3, 1, 2])?, at(&kernel, [1, 2, 3, 4])?);
        let back = from_torch(&written)?;
        assert_eq!(back.flatten_all()?.to_vec1::<f32>()?, kernel.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }
}
