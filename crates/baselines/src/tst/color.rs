use super::affine::{Chance, gaussian};
use candle::{D, DType, Tensor};
use candle_nn::{Init, VarBuilder};
use sokd_core::{Key, Result};
use sokd_nn::init;
use sokd_ops::{Conv, conv2d, linear, sigmoid};

/// A small network that changes colours as an operation does at any strength: a scale and a shift that depend on the
/// strength, then a convolution that does not.
///
/// Inside the module a gate switches scale and shift off, but never the convolution: an encoder that does not act is not
/// the identity.
///
/// # Source
/// TST's released code, `ColorAugmentation`.
pub struct Color {
    feature: Tensor,
    scale: Tensor,
    /// Two maps that are only ever added: each takes a step of the optimiser's.
    maps: [Tensor; 2],
    kernel: Tensor,
}

impl Color {
    /// Its weights are `feature`, `scale`, `n.weight`, `c.weight` and `conv.weight`.
    pub fn new(vars: VarBuilder<'_>) -> Result<Self> {
        let map = |name: &str| vars.pp(name).get_with_hints((2, 11), "weight", init::kaiming_uniform(11));
        Ok(Self {
            feature: vars.get_with_hints(10, "feature", Init::Randn { mean: 0.0, stdev: 1.0 })?,
            scale: vars.get_with_hints(1, "scale", Init::Const(1.0))?,
            maps: [map("n")?, map("c")?],
            kernel: vars.pp("conv").get_with_hints((5, 5, 3, 3), "weight", init::kaiming_uniform(75))?,
        })
    }

    /// Scale and shift of strengths. `noise` is drawn once for all of them: in training too.
    ///
    /// # Shapes
    /// `level`: `(batch, 1)` → `(batch, 1)` twice.
    pub fn line(&self, level: &Tensor, noise: (Key, f64), chance: Option<Chance>) -> Result<[Tensor; 2]> {
        let (batch, device) = (level.dim(0)?, level.device());
        let feature = (self.feature.reshape((1, 10))? + gaussian(noise.0, noise.1, (1, 10), device)?)?;
        let read = [feature.broadcast_as((batch, 10))?.contiguous()?, level.contiguous()?];
        let read = Tensor::cat(&read, 1)?;
        let [n, c] = &self.maps;
        let both = sigmoid(&(linear(&read, n, None)? + linear(&read, c, None)?)?)?;
        let centred = (both - 0.5)?;
        let scale = (centred.narrow(1, 0, 1)?.broadcast_mul(&self.scale)? + 1.0)?;
        let shift = centred.narrow(1, 1, 1)?;
        let Some(chance) = chance else { return Ok([scale, shift]) };
        let gate = chance.gate(batch, device)?;
        Ok([(((scale - 1.0)? * &gate)? + 1.0)?, (shift * gate)?])
    }

    /// Images recoloured at the strength of each.
    ///
    /// # Shapes
    /// `images`: `(batch, height, width, 3)`, normalised; `level`: `(batch, 1)`.
    pub fn forward(
        &self,
        images: &Tensor,
        level: &Tensor,
        noise: (Key, f64),
        chance: Option<Chance>,
    ) -> Result<Tensor> {
        let [scale, shift] = self.line(level, noise, chance)?;
        let each = |one: Tensor| one.reshape(((), 1, 1, 1));
        let moved = images.broadcast_mul(&each(scale)?)?.broadcast_add(&each(shift)?)?;
        conv2d(&moved.broadcast_mul(&within(images)?)?.contiguous()?, &self.kernel, None, Conv::same(5, 1))
    }
}

/// 0 in rows and columns in which all is black, margins that is, and 1 elsewhere: `(batch, height, width, 1)`.
fn within(images: &Tensor) -> Result<Tensor> {
    let lit = images.detach().sum(D::Minus1)?.ne(0.0)?.to_dtype(DType::F32)?;
    let (rows, columns) = (lit.max_keepdim(2)?, lit.max_keepdim(1)?);
    Ok(rows.broadcast_mul(&columns)?.unsqueeze(3)?)
}
