use crate::Wave;
use candle::{DType, Tensor};
use sokd_core::Result;
use sokd_nn::Params;

/// Fills the weights under a prefix by the rules of `fill` in `golden/zoo.py`: kernels keep the variance of what they read,
/// normalisations are near, but not at, 1 and 0.
pub fn fill(params: &Params, prefix: &str) -> Result<()> {
    fill_with(params, prefix, |name, shape, scale, shift| {
        Wave { shape: shape.to_vec(), scale, shift, dead: Vec::new() }.draw(name)
    })
}

/// The same with noise of any other kind, drawn by name, shape, half its range and the middle of it.
pub fn fill_with(
    params: &Params,
    prefix: &str,
    noise: impl Fn(&str, &[usize], f64, f64) -> Result<Tensor>,
) -> Result<()> {
    let draw = |(name, weight): (String, Tensor)| {
        let (scale, shift) = match *weight.dims() {
            [_, from, height, width] => ((6.0 / (from * height * width) as f64).sqrt(), 0.0),
            [_, from] => ((3.0 / from as f64).sqrt(), 0.0),
            _ if name.ends_with("running_var") || name.ends_with("weight") => (0.125, 1.0),
            _ => (0.125, 0.0),
        };
        let noise = noise(&name, weight.dims(), scale, shift)?;
        Ok((name, noise))
    };
    params.load(prefix, &params.tensors(prefix)?.into_iter().map(draw).collect::<Result<_>>()?)
}

/// Three square images in [0, 1], as `golden/zoo.py` draws them under the name `images`.
pub fn images(name: &str, side: usize, dtype: DType) -> Result<Tensor> {
    let wave = Wave { shape: vec![3, side, side, 3], scale: 0.5, shift: 0.5, dead: Vec::new() };
    Ok(wave.draw(name)?.to_dtype(dtype)?)
}
