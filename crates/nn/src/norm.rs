use crate::{Conv2d, init};
use candle::Tensor;
use candle_nn::VarBuilder;
use sokd_core::{Lazy, Mode, Result};
use sokd_ops::{Conv, Moved, Norm, axpby_, batch_norm, conv_norm, conv_norm_relu, relu};

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
        if self.asks_for_a_bias(mode) {
            return self.norm.forward(&self.conv.forward(x)?, residual, relu, mode);
        }
        self.without_bias(mode, |kernel, conv, norm| conv_norm(x, kernel, conv, norm, residual, relu, mode))
    }

    /// The running statistics stay as they are at rest, so a bias in front of them has a gradient to be asked for.
    fn asks_for_a_bias(&self, mode: Mode) -> bool {
        mode == Mode::Eval && self.conv.parts().1.is_some_and(Tensor::track_op)
    }

    /// `relu(norm(conv(x)) + residual?)`, and what it was before the ReLU, which is made for who asks alone.
    ///
    /// # Shapes
    /// Those of [`Self::forward`].
    pub fn rectified(&self, x: &Tensor, residual: Option<&Tensor>, mode: Mode) -> Result<(Tensor, Lazy)> {
        if self.asks_for_a_bias(mode) {
            let preact = self.forward(x, residual, false, mode)?;
            return Ok((relu(&preact)?, preact.into()));
        }
        self.without_bias(mode, |kernel, conv, norm| conv_norm_relu(x, kernel, conv, norm, residual, mode))
    }

    /// What `work` makes of the kernel and a norm that a bias of the convolution has gone into.
    fn without_bias<R>(
        &self,
        mode: Mode,
        work: impl FnOnce(&Tensor, Conv, &Norm<'_>) -> Result<R>,
    ) -> Result<R> {
        let norm = self.norm.norm();
        match self.conv.parts() {
            (kernel, None, conv) => work(kernel, conv, &norm),
            // A bias moves every value of a channel and their mean alike: without it, about a mean without it, the
            // result is the same.
            (kernel, Some(bias), conv) => {
                let mean = (norm.mean - bias.detach())?;
                // A batch's own mean takes the bias away, so its gradient is 0; but weight decay moves only what has
                // one. Zeros and not `0.0`: behind that candle looks for no gradient.
                let shift = (norm.bias + (bias * bias.zeros_like()?)?)?;
                let without = Norm { mean: &mean, bias: &shift, ..norm };
                let y = work(kernel, conv, &without)?;
                if mode == Mode::Train {
                    axpby_(&[Moved::new(norm.mean, &(mean + bias.detach())?)], 1.0, 0.0)?;
                }
                Ok(y)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OptimSpec, Params, Sgd};
    use candle::{Device, Tensor, Var};
    use sokd_core::Key;
    use std::collections::BTreeMap;

    const CPU: Device = Device::Cpu;

    fn noise(name: &str, shape: &[usize]) -> Result<Tensor> {
        let mut stream = Key::new(3).fold(name).stream();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
        Ok(Tensor::from_vec(values, shape, &CPU)?)
    }

    /// The largest difference, as a part of the largest value or of 1.
    fn gap(a: &Tensor, b: &Tensor) -> Result<f32> {
        let largest = |t: &Tensor| t.sqr()?.flatten_all()?.max(0)?.to_scalar::<f32>();
        Ok((largest(&(a - b)?)? / largest(b)?.max(1.0)).sqrt())
    }

    /// VGG's layer, every weight and buffer of it away from where it begins.
    fn layer(tracked: bool) -> Result<(Params, ConvNorm)> {
        let params = Params::new(Key::new(1));
        let vars = if tracked { params.builder(&CPU) } else { params.frozen(&CPU) };
        let draw = init::kaiming_normal_fan_out(3, 5);
        let conv = Conv2d::new(3, 5, 3, Conv::same(3, 1), draw, Some(init::ZERO), vars.pp("0"))?;
        let layer = ConvNorm::new(conv, BatchNorm::new(5, vars.pp("1"))?);
        let drawn = params.tensors("")?.into_iter().map(|(name, weight)| {
            let values = noise(&name, weight.dims())?;
            Ok((name.clone(), if name.ends_with("running_var") { values.exp()? } else { values }))
        });
        params.load("", &drawn.collect::<Result<_>>()?)?;
        Ok((params, layer))
    }

    /// All that comes of a pass: the result, every gradient, what the weights and buffers are after it.
    fn pass(fused: bool, tracked: bool, mode: Mode) -> Result<BTreeMap<String, Tensor>> {
        let (params, layer) = layer(tracked)?;
        let shape = [2, 4, 6, 5];
        let (x, residual) = (Var::from_tensor(&noise("x", &[2, 4, 6, 3])?)?, noise("residual", &shape)?);
        let y = if fused {
            layer.forward(&x, Some(&residual), true, mode)?
        } else {
            layer.norm.forward(&layer.conv.forward(&x)?, Some(&residual), true, mode)?
        };
        let gradients = (&y * noise("gradient", &shape)?)?.sum_all()?.backward()?;
        let mut came = BTreeMap::from([("y".to_owned(), y)]);
        let vars = params.under("").into_iter().chain([("x".to_owned(), x)]);
        for (name, var) in vars {
            if let Some(gradient) = gradients.get(&var) {
                came.insert(format!("gradient of {name}"), gradient.clone());
            }
            came.insert(name, var.as_detached_tensor());
        }
        Ok(came)
    }

    #[test]
    fn a_bias_in_front_of_a_norm_changes_what_it_should() -> Result<()> {
        for (mode, tracked) in
            [Mode::Train, Mode::Probe, Mode::Eval].map(|mode| [(mode, true), (mode, false)]).concat()
        {
            let (fused, apart) = (pass(true, tracked, mode)?, pass(false, tracked, mode)?);
            assert_eq!(fused.keys().collect::<Vec<_>>(), apart.keys().collect::<Vec<_>>(), "{mode:?}");
            assert_eq!(fused.contains_key("gradient of 0.bias"), tracked, "{mode:?}");
            for (name, fused) in &fused {
                let apart = gap(fused, &apart[name])?;
                assert!(apart <= 1e-5, "{mode:?}: {name} is {apart} off");
            }
            let moved = gap(&fused["1.running_mean"], &noise("1.running_mean", &[5])?)?;
            assert_eq!(moved > 1e-3, mode == Mode::Train, "{mode:?}: the running mean moved by {moved}");
            if mode != Mode::Eval && tracked {
                assert_eq!(fused["gradient of 0.bias"].to_vec1::<f32>()?, [0.0; 5], "{mode:?}");
            }
        }
        Ok(())
    }

    /// With a gradient of nothing, weight decay alone moves a bias, as in PyTorch.
    #[test]
    fn weight_decay_reaches_a_bias_in_front_of_a_norm() -> Result<()> {
        let (params, layer) = layer(true)?;
        let rule = Sgd { momentum: 0.0, weight_decay: 0.5, ..Sgd::default() };
        let mut optimizer = OptimSpec::Sgd(rule).build(params.under("").into_iter().collect())?;
        let y = layer.forward(&noise("x", &[2, 4, 6, 3])?, None, true, Mode::Train)?;
        optimizer.step(&y.sum_all()?.backward()?, 0.1)?;
        let left = gap(&params.tensors("")?["0.bias"], &(noise("0.bias", &[5])? * 0.95)?)?;
        assert!(left < 1e-6, "{left}");
        Ok(())
    }
}
