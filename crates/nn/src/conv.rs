use candle::Tensor;
use candle_nn::{Init, VarBuilder};
use sokd_core::{Error, Result};
use sokd_ops::{Conv, conv2d};

/// A convolution with a square kernel.
///
/// Its weights are `weight` and, if it has one, `bias`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    kernel: Tensor,
    bias: Option<Tensor>,
    conv: Conv,
}

impl Conv2d {
    /// `weight` and `bias` say how each is drawn; without a second, there is no bias.
    ///
    /// # Errors
    /// [`Error::Setting`] when `conv.groups` does not divide both `from` and `to`.
    pub fn new(
        from: usize,
        to: usize,
        kernel: usize,
        conv: Conv,
        weight: Init,
        bias: Option<Init>,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        if conv.groups == 0 || !from.is_multiple_of(conv.groups) || !to.is_multiple_of(conv.groups) {
            let problem = format!("{} groups cannot share {from} channels in and {to} out", conv.groups);
            return Err(Error::setting(vb.prefix(), problem));
        }
        let shape = (kernel, kernel, from / conv.groups, to);
        let bias = bias.map(|init| vb.get_with_hints(to, "bias", init)).transpose()?;
        Ok(Self { kernel: vb.get_with_hints(shape, "weight", weight)?, bias, conv })
    }

    /// # Shapes
    /// `x`: `(batch, height, width, from)` → `(batch, height, width, to)`, the map's size as the stride and padding
    /// leave it.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.kernel, self.bias.as_ref(), self.conv)
    }

    pub(crate) fn parts(&self) -> (&Tensor, Option<&Tensor>, Conv) {
        (&self.kernel, self.bias.as_ref(), self.conv)
    }
}
