use crate::{Conv2d, init};
use candle::Tensor;
use candle_nn::VarBuilder;
use sokd_core::{Mode, Result};
use sokd_ops::{Norm, batch_norm, conv_norm};

/// Batch normalisation over all pixels of a batch, one mean and variance a channel.
///
/// Its weights are `weight` and `bias`, its buffers `running_mean` and `running_var`; epsilon is 1e-5 and the newest
/// batch counts 0.1 in the running statistics, as in every network of the zoo.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
}

impl BatchNorm {
    /// Scale 1, shift 0; running mean 0, running variance 1.
    pub fn new(channels: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", init::ONE)?,
            bias: vb.get_with_hints(channels, "bias", init::ZERO)?,
            mean: vb.get_with_hints(channels, "running_mean", init::ZERO)?,
            var: vb.get_with_hints(channels, "running_var", init::ONE)?,
        })
    }

    /// `relu?(norm(x) + residual?)`, in one pass.
    ///
    /// # Shapes
    /// `x`, `residual`: `(batch, height, width, channels)` → same.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, relu: bool, mode: Mode) -> Result<Tensor> {
        batch_norm(x, &self.norm(), residual, relu, mode)
    }

    fn norm(&self) -> Norm<'_> {
        let Self { weight, bias, mean, var } = self;
        Norm { weight, bias, mean, var, eps: 1e-5, momentum: 0.1 }
    }
}

/// A convolution and the normalisation behind it, which share passes over the map.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    /// Normalises what `conv` gives.
    pub fn new(conv: Conv2d, norm: BatchNorm) -> Self {
        Self { conv, norm }
    }

    /// `relu?(norm(conv(x)) + residual?)`.
    ///
    /// # Shapes
    /// `x`: `(batch, height, width, from)`; `residual`: as the result, `(batch, height, width, to)`.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, relu: bool, mode: Mode) -> Result<Tensor> {
        match self.conv.parts() {
            (kernel, None, conv) => conv_norm(x, kernel, conv, &self.norm.norm(), residual, relu, mode),
            // Only VGG's convolutions keep a bias in front of a normalisation.
            _ => self.norm.forward(&self.conv.forward(x)?, residual, relu, mode),
        }
    }
}
