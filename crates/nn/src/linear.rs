use candle::Tensor;
use candle_nn::{Init, VarBuilder};
use sokd_core::Result;

/// A fully connected layer.
///
/// Its weights are `weight`, `(to, from)` as PyTorch's, and, if it has one, `bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `weight` and `bias` say how each is drawn; without a second, there is no bias.
    pub fn new(from: usize, to: usize, weight: Init, bias: Option<Init>, vb: VarBuilder<'_>) -> Result<Self> {
        let bias = bias.map(|init| vb.get_with_hints(to, "bias", init)).transpose()?;
        Ok(Self { weight: vb.get_with_hints((to, from), "weight", weight)?, bias })
    }

    /// # Shapes
    /// `x`: `(batch, from)` → `(batch, to)`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        sokd_ops::linear(x, &self.weight, self.bias.as_ref())
    }
}
