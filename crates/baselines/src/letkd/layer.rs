use candle::Tensor;
use candle_nn::VarBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{BuildCx, Error, Graft, Mode, Result, Scion};
use sokd_losses::functional::unit;
use sokd_nn::{BatchNorm, init};
use sokd_ops::{Conv, add, conv2d};

/// letKD's layer: at every place of a map it matches templates, and adds what their matches stand for.
///
/// What it says are the scores of the match, before their normalisation: the cosines of place and template, times a
/// scale. A loss of letKD holds them against the teacher's.
///
/// # Formula
/// ```text
/// scores = s₁ cos(x, templates)                       x: the map's vector at a place
/// out    = x + α s₂ cos(ReLU(BN(scores)), values)
/// ```
///
/// # Source
/// Gorgun et al., 2023 (arXiv:2309.02843), supplement, section 2.2 and equation 4.1, with the scales, the normalisation and
/// the initialisation of the authors' code. Ours: without α the second half is not computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct KdLayer {
    /// How many templates: a number, or so many a class, `{ per-class = 8 }`.
    pub templates: Templates,
    /// What the values count for beside the map: the paper's α. At 0 the map goes on as it is.
    pub alpha: f64,
    /// Whether α is learned, from the value above: no, as in the paper.
    pub learned_alpha: bool,
    /// What cosines of the match are multiplied with: 3 at first.
    pub match_scale: f64,
    /// What cosines of the values are multiplied with: 1 at first.
    pub value_scale: f64,
    /// Whether the two scales are learned, as in the authors' code.
    pub learned_scales: bool,
}

impl Default for KdLayer {
    fn default() -> Self {
        Self {
            templates: Templates::Count(4096),
            alpha: 1.0,
            learned_alpha: false,
            match_scale: 3.0,
            value_scale: 1.0,
            learned_scales: true,
        }
    }
}

/// How many templates a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Templates {
    /// So many.
    Count(usize),
    /// So many for each class.
    PerClass(PerClass),
}

/// So many for each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PerClass {
    /// How many.
    pub per_class: usize,
}

impl Templates {
    fn count(self, cx: &BuildCx<'_>) -> Result<usize> {
        let count = match self {
            Self::Count(count) => count,
            Self::PerClass(PerClass { per_class }) => per_class * cx.data("kd-layer")?.classes.len(),
        };
        if count == 0 {
            return Err(Error::setting("kd-layer.templates", "at least one is matched"));
        }
        Ok(count)
    }
}

impl Scion for KdLayer {
    fn grow(&self, [_, _, channels]: [usize; 3], cx: &BuildCx<'_>) -> Result<Box<dyn Graft>> {
        let (templates, vars) = (self.templates.count(cx)?, &cx.vars);
        let spread = |from: usize| init::normal((2.0 / from as f64).sqrt());
        let number = |name: &str, value: f64, learned: bool| -> Result<Number> {
            if !learned {
                return Ok(Number::Fixed(value));
            }
            Ok(Number::Learned(vars.get_with_hints(1, name, candle_nn::Init::Const(value))?))
        };
        let value = |vars: &VarBuilder<'_>| -> Result<Value> {
            Ok(Value {
                norm: BatchNorm::new(templates, vars.pp("norm"))?,
                weight: vars.get_with_hints((channels, templates), "value.weight", spread(templates))?,
                scale: number("value.scale", self.value_scale, self.learned_scales)?,
                alpha: number("alpha", self.alpha, self.learned_alpha)?,
            })
        };
        Ok(Box::new(Layer {
            templates: vars.get_with_hints((templates, channels), "match.weight", spread(channels))?,
            scale: number("match.scale", self.match_scale, self.learned_scales)?,
            value: value(vars)?,
        }))
    }
}

/// A number in front of something.
enum Number {
    Fixed(f64),
    /// `(1,)`
    Learned(Tensor),
}

impl Number {
    fn times(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Fixed(value) => (x * *value)?,
            Self::Learned(value) => x.broadcast_mul(value)?,
        })
    }
}

/// [`KdLayer`] with its weights.
struct Layer {
    /// `(templates, channels)`
    templates: Tensor,
    scale: Number,
    value: Value,
}

/// What stands behind the match.
struct Value {
    norm: BatchNorm,
    /// `(channels, templates)`
    weight: Tensor,
    scale: Number,
    alpha: Number,
}

impl Graft for Layer {
    fn forward(&self, map: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)> {
        map.dims4()?;
        // Scales and α go to the weights, which are fewer than the values.
        let scores = mixed(&unit(map)?, &self.scale.times(&unit(&self.templates)?)?, None)?;
        let Value { norm, weight, scale, alpha } = &self.value;
        if matches!(alpha, Number::Fixed(0.0)) {
            return Ok((map.clone(), scores));
        }
        let active = norm.forward(&scores, None, true, mode)?;
        let values = mixed(&unit(&active)?, &alpha.times(&scale.times(&unit(weight)?)?)?, None)?;
        Ok((add(map, &values)?, scores))
    }
}

/// A linear layer at every place of a map: as a convolution, whose kernels are the faster ones where so much is asked.
///
/// # Shapes
/// `map`: `(batch, height, width, from)`; `weight`: `(to, from)`; `bias`: `(to,)` → `(batch, height, width, to)`.
pub(super) fn mixed(map: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    conv2d(map, &weight.t()?.contiguous()?.unsqueeze(0)?.unsqueeze(0)?, bias, Conv::default())
}
