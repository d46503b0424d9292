use super::relaxed::{logistic, relaxed_bit};
use candle::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use sokd_core::{Key, Result};
use sokd_ops::{GridPadding, GridSample, affine_grid, grid_sample, linear};

/// A small network that moves pixels as an operation does at any strength: an affine map of the plane that depends on
/// the strength alone.
///
/// # Source
/// TST's released code, `FreezeSTN`; a spatial transformer (Jaderberg et al., 2015, arXiv:1506.02025) without a
/// localiser.
pub struct Affine {
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
}

/// The map that moves nothing, row by row.
pub const IDENTITY: [f32; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];

/// What an encoder draws inside the module, and not while it learns.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    /// Whence.
    pub key: Key,
    /// The deviation of what is added to what the encoder reads.
    pub noise: f64,
    /// The logit of its gate.
    pub gate: f64,
    /// Of the gate.
    pub temperature: f64,
}

impl Chance {
    /// For each example, whether the encoder acts: nearly 0 or 1, `(batch, 1)`.
    pub fn gate(&self, batch: usize, device: &Device) -> Result<Tensor> {
        let mut stream = self.key.fold("gate").stream();
        let noise: Vec<f32> = (0..batch).map(|_| logistic(&mut stream) as f32).collect();
        let noise = Tensor::from_vec(noise, (batch, 1), device)?;
        relaxed_bit(&Tensor::full(self.gate as f32, (1, 1), device)?, &noise, self.temperature)
    }
}

/// Numbers around 0.
pub(super) fn gaussian(key: Key, deviation: f64, shape: (usize, usize), device: &Device) -> Result<Tensor> {
    let mut stream = key.fold("noise").stream();
    let noise: Vec<f32> = (0..shape.0 * shape.1).map(|_| (deviation * stream.normal()) as f32).collect();
    Ok(Tensor::from_vec(noise, shape, device)?)
}

impl Affine {
    /// Its weights are `hidden`, `fc.weight` and `fc.bias`; before it learns or is filled, it moves everything into a
    /// single point.
    pub fn new(vars: VarBuilder<'_>) -> Result<Self> {
        let (zeros, fc) = (Init::Const(0.0), vars.pp("fc"));
        Ok(Self {
            hidden: vars.get_with_hints(6, "hidden", Init::Randn { mean: 0.0, stdev: 1.0 })?,
            weight: fc.get_with_hints((6, 7), "weight", zeros)?,
            bias: fc.get_with_hints(6, "bias", zeros)?,
        })
    }

    /// The affine maps of strengths, in coordinates from −1 to 1.
    ///
    /// # Shapes
    /// `level`: `(batch, 1)` → `(batch, 2, 3)`.
    pub fn map(&self, level: &Tensor, chance: Option<Chance>) -> Result<Tensor> {
        let (batch, device) = (level.dim(0)?, level.device());
        let hidden = self.hidden.reshape((1, 6))?.broadcast_as((batch, 6))?;
        let mut read = Tensor::cat(&[hidden.contiguous()?, level.contiguous()?], 1)?;
        if let Some(chance) = chance {
            // The strength is shaken too, as there.
            read = (read + gaussian(chance.key, chance.noise, (batch, 7), device)?)?;
        }
        let mut map = linear(&read, &self.weight, Some(&self.bias))?;
        if let Some(chance) = chance {
            let identity = Tensor::new(&IDENTITY, device)?.to_dtype(DType::F32)?.broadcast_as((batch, 6))?;
            map = (&identity + (map - &identity)?.broadcast_mul(&chance.gate(batch, device)?)?)?;
        }
        Ok(map.reshape((batch, 2, 3))?)
    }

    /// Images moved at the strength of each.
    ///
    /// # Shapes
    /// `images`: `(batch, height, width, 3)`, normalised; `level`: `(batch, 1)`.
    pub fn forward(&self, images: &Tensor, level: &Tensor, chance: Option<Chance>) -> Result<Tensor> {
        let (_, height, width, _) = images.dims4()?;
        let grid = affine_grid(&self.map(level, chance)?, [height, width], false)?;
        let how = GridSample { nearest: false, padding: GridPadding::Zeros, align_corners: false };
        grid_sample(images, &grid, how)
    }
}
