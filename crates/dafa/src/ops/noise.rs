//! Normal noise.

use super::{FeatureOp, value};
use candle::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Key, Result};

/// Normal noise, its own for every number of the map.
///
/// # Source
/// The operations of the development code of SoKD (arXiv:2409.18785), whose range it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Noise {
    /// The standard deviation, in the map's own units.
    pub range: [f64; 2],
}

impl Default for Noise {
    fn default() -> Self {
        Self { range: [0.0, 0.1] }
    }
}

impl FeatureOp for Noise {
    fn apply(&self, map: &Tensor, level: f64, key: Key) -> Result<Tensor> {
        let value = value(self.range, level);
        if value == 0.0 {
            return Ok(map.clone());
        }
        let (count, images) = (map.elem_count(), map.dim(0)?);
        let mut noise = vec![0f32; count];
        for (image, noise) in noise.chunks_mut((count / images.max(1)).max(1)).enumerate() {
            fill(noise, value, key.fold_in(count as u64), image as u32);
        }
        let noise = Tensor::from_vec(noise, map.shape(), map.device())?.to_dtype(map.dtype())?;
        Ok((map + noise)?)
    }
}

/// Normal numbers of a standard deviation: both halves of Box and Muller's pair, in single precision. A map has a
/// million of them.
fn fill(noise: &mut [f32], deviation: f64, key: Key, image: u32) {
    const SCALE: f32 = 1.0 / (1 << 24) as f32;
    let (mut stream, deviation) = (key.stream_at(0, 0, image), deviation as f32);
    for pair in noise.chunks_mut(2) {
        // In (0, 1] and in [0, 1).
        let (near, turn) = (((stream.bits() >> 8) + 1) as f32 * SCALE, (stream.bits() >> 8) as f32 * SCALE);
        let radius = deviation * (-2.0 * near.ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * turn).sin_cos();
        pair[0] = radius * cos;
        if let Some(second) = pair.get_mut(1) {
            *second = radius * sin;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_moments_it_should() {
        let mut noise = vec![0.0; 200_000];
        fill(&mut noise, 0.5, Key::new(1), 0);
        let moment = |power| {
            let sum: f64 = noise.iter().map(|&one| f64::from(one / 0.5).powi(power)).sum();
            sum / noise.len() as f64
        };
        for (power, expected) in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)] {
            assert!((moment(power) - expected).abs() < 0.05, "moment {power}: {}", moment(power));
        }
    }
}
