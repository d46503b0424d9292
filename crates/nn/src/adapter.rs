//! What brings a student's map to the shape of a teacher's.

use crate::{BatchNorm, Conv2d, ConvNorm, init};
use candle::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{BuildCx, DatasetInfo, Error, Feature, Mode, Pair, Result, Step};
use sokd_ops::Conv;

/// A stage at which the student's map is brought to the shape of the teacher's.
///
/// # Source
/// `ConvReg` of RepDistiller and mdistiller: a convolution that ends in the teacher's channels and size, batch norm,
/// ReLU. Their hint layer 2 counts the stem, so it is our stage 1. SoKD's development code puts two more convolutions
/// behind it: `depth = 3`. Ours: no bias, which the batch norm behind it would take away again, and the transposed
/// convolution of a student whose map is the smaller is an ordinary one over the same map with zeros between its
/// pixels: the same function, its kernel mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hint {
    /// Which stage hints, counted from 0.
    pub stage: usize,
    /// Which reading of it, of both networks.
    pub feature: Feature,
    /// Convolutions between the student's map and the comparison.
    pub depth: usize,
    /// Whether the last of them ends in a ReLU.
    pub relu: bool,
}

impl Default for Hint {
    fn default() -> Self {
        Self { stage: 1, feature: Feature::Map, depth: 1, relu: true }
    }
}

/// A [`Hint`] with its weights.
///
/// Equal hints have equal names and so the same weights: a plug-in and its host that ask for the same hint share one
/// adapter, and the first of them to need it runs it for both.
pub struct Adapter {
    hint: Hint,
    name: String,
    spreads: bool,
    layers: Vec<ConvNorm>,
}

impl Hint {
    /// Its adapter, under `adapter.hint.*`; `who` asks.
    ///
    /// # Errors
    /// [`Error::Setting`] without a convolution, or when the teacher's map is larger than the student's by another
    /// factor than 2; [`Error::NoStage`] beyond the last stage.
    pub fn build(&self, cx: &BuildCx<'_>, who: &'static str) -> Result<Adapter> {
        let (student, teacher) = (cx.student(who)?.stage(self.stage)?, cx.teacher(who)?.stage(self.stage)?);
        if self.depth == 0 {
            return Err(Error::setting(format!("{who}.depth"), "an adapter has at least one convolution"));
        }
        let name = self.name();
        let vars = cx.vars.pp("adapter.hint").pp(&name);
        let (from, to) = (student.channels, teacher.channels);
        let (kernel, conv) = window(student.stride, teacher.stride, cx.data)?;
        let spreads = student.stride > teacher.stride;
        // As PyTorch draws them: the fan of a transposed convolution is counted on its other side.
        let draw = init::kaiming_uniform(kernel * kernel * if spreads { to } else { from });
        let first = Conv2d::new(from, to, kernel, conv, draw, None, vars.pp("conv"))?;
        let mut layers = vec![ConvNorm::new(first, BatchNorm::new(to, vars.pp("bn"))?)];
        for deeper in 1..self.depth {
            let vars = vars.pp(format!("deeper.{}", deeper - 1));
            let conv = Conv2d::new(
                to,
                to,
                3,
                Conv::same(3, 1),
                init::kaiming_uniform(9 * to),
                None,
                vars.pp("conv"),
            )?;
            layers.push(ConvNorm::new(conv, BatchNorm::new(to, vars.pp("bn"))?));
        }
        Ok(Adapter { hint: *self, name, spreads, layers })
    }

    /// The stage, and whatever is not the default: `1`, `1-deep3`.
    fn name(&self) -> String {
        let Self { stage, feature, depth, relu } = *self;
        let preact = if feature == Feature::Preact { "-preact" } else { "" };
        let deep = if depth == 1 { String::new() } else { format!("-deep{depth}") };
        format!("{stage}{preact}{deep}{}", if relu { "" } else { "-linear" })
    }
}

impl Adapter {
    /// The student's map in the teacher's shape, and a pair in which whoever comes later finds it.
    ///
    /// # Shapes
    /// `(batch, height, width, channels)`, as the teacher's map.
    pub fn share<'a>(&self, mut pair: Pair<'a>, at: &Step) -> Result<(Tensor, Pair<'a>)> {
        let mut map = self.adapted(&pair)?;
        if !at.learns {
            map = map.detach();
        }
        pair.adapted.insert(self.name.clone(), map.clone());
        Ok((map, pair))
    }

    /// The student's map in the teacher's shape, `(batch, height, width, channels)`.
    pub fn adapted(&self, pair: &Pair<'_>) -> Result<Tensor> {
        match pair.adapted.get(&self.name) {
            Some(map) => Ok(map.clone()),
            None => {
                self.forward(&pair.student.feature(self.hint.stage, self.hint.feature)?, pair.student.mode)
            }
        }
    }

    /// The teacher's map as it stands in the pair.
    pub fn teachers(&self, pair: &Pair<'_>, who: &'static str) -> Result<Tensor> {
        pair.teacher(who)?.feature(self.hint.stage, self.hint.feature)
    }

    fn forward(&self, map: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut map = if self.spreads { spread(map)? } else { map.clone() };
        for (at, layer) in self.layers.iter().enumerate() {
            let relu = self.hint.relu || at + 1 < self.layers.len();
            map = layer.forward(&map, None, relu, mode)?;
        }
        Ok(map)
    }
}

/// The side of the kernel, and how it moves, that turn a map of one stride into a map of the other.
fn window(student: usize, teacher: usize, data: Option<&DatasetInfo>) -> Result<(usize, Conv)> {
    Ok(if student == teacher {
        (1, Conv::default())
    } else if student * 2 == teacher {
        (3, Conv::same(3, 2))
    } else if student < teacher {
        let [height, _] = data.ok_or(Error::NoData("an adapter"))?.size;
        (1 + height.div_ceil(student) - height.div_ceil(teacher), Conv::default())
    } else if student == teacher * 2 {
        (4, Conv { padding: [1; 2], ..Conv::default() })
    } else {
        let problem = format!(
            "a pixel of the student's map stands for {student} pixels of the image and one of the teacher's for \
             {teacher}; an adapter doubles a map, not more: choose another stage"
        );
        return Err(Error::setting("stage", problem));
    })
}

/// Zeros before, between and after the pixels: `(batch, height, width, channels)` → `(batch, 2 height + 1,
/// 2 width + 1, channels)`.
fn spread(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    let row = map.reshape((batch, height * width, 1, channels))?.pad_with_zeros(2, 1, 0)?;
    let plane = row.reshape((batch, height, 1, 2 * width * channels))?.pad_with_zeros(2, 1, 0)?;
    let plane = plane.reshape((batch, 2 * height, 2 * width, channels))?;
    Ok(plane.pad_with_zeros(1, 0, 1)?.pad_with_zeros(2, 0, 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Device;

    #[test]
    fn zeros_stand_around_every_pixel() -> Result<()> {
        let map = Tensor::new(&[[[[1f32, 10.0], [2.0, 20.0]]]], &Device::Cpu)?;
        let first = spread(&map)?.squeeze(0)?.narrow(2, 0, 1)?.squeeze(2)?;
        let expected = [[0.0; 5], [0.0, 1.0, 0.0, 2.0, 0.0], [0.0; 5]];
        assert_eq!(first.to_vec2::<f32>()?, expected);
        Ok(())
    }

    #[test]
    fn a_window_fits_or_says_why_not() -> Result<()> {
        assert_eq!(window(4, 4, None)?.0, 1);
        assert_eq!(window(2, 4, None)?.0, 3);
        assert_eq!(window(4, 2, None)?.0, 4);
        assert!(matches!(window(1, 4, None), Err(Error::NoData(_))));
        let problem = window(8, 2, None).expect_err("no adapter quadruples a map").to_string();
        assert!(problem.contains("choose another stage"), "{problem}");
        Ok(())
    }
}
