use crate::init;
use candle::{D, Tensor};
use candle_nn::VarBuilder;
use sokd_core::Result;

/// Layer normalisation: each row by its own mean and variance, then a scale and a shift a feature.
///
/// Its weights are `weight` and `bias`; epsilon is 1e-5, as in PyTorch. Plain operations: rows of logits are short, and
/// candle's own fast form has no gradient.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Scale 1, shift 0.
    pub fn new(features: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(features, "weight", init::ONE)?,
            bias: vb.get_with_hints(features, "bias", init::ZERO)?,
        })
    }

    /// # Shapes
    /// `x`: `(.., features)` → the same.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
        let even = centred.broadcast_div(&deviation)?;
        Ok(even.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Params;
    use candle::Device;
    use sokd_core::Key;

    /// By hand: (1, 2, 3, 4) has mean 5/2 and variance 5/4.
    #[test]
    fn rows_are_brought_to_mean_0_and_variance_1() -> Result<()> {
        let params = Params::new(Key::new(0));
        let norm = LayerNorm::new(4, params.builder(&Device::Cpu))?;
        let x = Tensor::new(&[[1f32, 2.0, 3.0, 4.0], [7.0; 4]], &Device::Cpu)?;
        let unit = (1.25f32 + 1e-5).sqrt().recip();
        let rows = norm.forward(&x)?.to_vec2::<f32>()?;
        for (got, expected) in rows[0].iter().zip([-1.5, -0.5, 0.5, 1.5]) {
            assert!((got - expected * unit).abs() < 1e-6, "{rows:?}");
        }
        assert_eq!(rows[1], [0.0; 4]);
        for (_, var) in params.group("bias").iter().chain(&params.group("weight")) {
            var.set(&(var.as_detached_tensor() + 2.0)?)?;
        }
        let moved = norm.forward(&x)?.to_vec2::<f32>()?;
        assert!((moved[0][3] - (3.0 * 1.5 * unit + 2.0)).abs() < 1e-5 && moved[1] == [2.0; 4], "{moved:?}");
        Ok(())
    }
}
