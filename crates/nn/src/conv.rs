use candle::Tensor;
use candle_nn::{Init, VarBuilder};
use sokd_core::{Error, Result, scope};
use sokd_ops::{Conv, conv2d};
use std::cell::Cell;

thread_local! {
    static WINOGRAD: Cell<bool> = const { Cell::new(false) };
}

/// Builds a network whose convolutions may go by Winograd ([`Conv::winograd`]), or must not, whatever is said around.
///
/// What is built keeps the choice, whoever runs it and whenever. It is a scope, because the convolutions of a network are
/// made far inside of it, by functions that have their shape to say and nothing else.
pub fn with_winograd<R>(winograd: bool, build: impl FnOnce() -> R) -> R {
    scope(&WINOGRAD, winograd, build)
}

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
        let conv = Conv { winograd: conv.winograd || WINOGRAD.get(), ..conv };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Params, init};
    use candle::Device;
    use sokd_core::Key;

    #[test]
    fn a_layer_keeps_the_choice_under_which_it_was_built() -> Result<()> {
        let layer = |name: &str| {
            let vars = Params::new(Key::new(1)).builder(&Device::Cpu).pp(name);
            Conv2d::new(3, 4, 3, Conv::same(3, 1), init::normal(1.0), None, vars)
        };
        let chosen = |layer: Result<Conv2d>| Ok::<_, Error>(layer?.parts().2.winograd);
        assert!(!chosen(layer("before"))?);
        let (outer, inner) =
            with_winograd(true, || (layer("outer"), with_winograd(false, || layer("inner"))));
        assert!(chosen(outer)? && !chosen(inner)?);
        assert!(!chosen(layer("after"))?);
        Ok(())
    }
}
