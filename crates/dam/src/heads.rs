use crate::{Dam, Output};
use candle::Tensor;
use candle_nn::VarBuilder;
use sokd_core::{Mode, Result};
use sokd_nn::{BatchNorm, Conv2d, init};
use sokd_ops::{self as ops, Conv};

/// What the detector sees in a map.
///
/// # Shapes
/// `(batch, height, width, ..)`: `logits` and `heatmap` as many as heatmaps, `size` and `offset` 2, horizontal first,
/// in cells.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The heatmaps before their sigmoid.
    pub logits: Tensor,
    /// How distinctive each cell is, in (0, 1).
    pub heatmap: Tensor,
    /// Width and height of the box, were the cell a peak.
    pub size: Tensor,
    /// How far the box's centre is from the cell's.
    pub offset: Tensor,
}

impl Sight {
    /// The same, cut off from the graph.
    #[must_use]
    pub fn detach(&self) -> Self {
        let Self { logits, heatmap, size, offset } = self;
        Self {
            logits: logits.detach(),
            heatmap: heatmap.detach(),
            size: size.detach(),
            offset: offset.detach(),
        }
    }

    /// What boxes are read from: heatmap, size, offset, on no graph.
    pub(crate) fn shown(&self) -> [Tensor; 3] {
        [&self.heatmap, &self.size, &self.offset].map(Tensor::detach)
    }
}

/// The detector's three branches, which both networks' maps pass.
///
/// # Source
/// SoKD, section on DAM: a heatmap, a size and an offset branch, shared. The convolutions are the development code's:
/// 3 × 3, ReLU, 1 × 1, drawn as PyTorch draws by default.
pub struct Heads {
    heatmap: Branch,
    size: Branch,
    offset: Branch,
    output: Output,
}

impl Heads {
    pub(crate) fn new(dam: &Dam, from: usize, heatmaps: usize, vars: &VarBuilder<'_>) -> Result<Self> {
        let branch =
            |name: &str, to| Branch::new(from, dam.width.unwrap_or(from), to, dam.batch_norm, &vars.pp(name));
        Ok(Self {
            heatmap: branch("heatmap", heatmaps)?,
            size: branch("size", 2)?,
            offset: branch("offset", 2)?,
            output: dam.output,
        })
    }

    /// # Shapes
    /// `map`: `(batch, height, width, channels)`.
    pub fn forward(&self, map: &Tensor, mode: Mode) -> Result<Sight> {
        let rectify =
            |branch: Tensor| if self.output == Output::Relu { ops::relu(&branch) } else { Ok(branch) };
        let size = rectify(self.size.forward(map, mode)?)?;
        let logits = rectify(self.heatmap.forward(map, mode)?)?;
        Ok(Sight {
            heatmap: ops::sigmoid(&logits)?,
            logits,
            size: if self.output == Output::SoftplusSizes { softplus(&size)? } else { size },
            offset: rectify(self.offset.forward(map, mode)?)?,
        })
    }
}

/// A 3 × 3 convolution, ReLU, a 1 × 1 convolution.
struct Branch {
    wide: Conv2d,
    norm: Option<BatchNorm>,
    point: Conv2d,
}

impl Branch {
    fn new(from: usize, width: usize, to: usize, normed: bool, vars: &VarBuilder<'_>) -> Result<Self> {
        let (wide, point) = (init::kaiming_uniform(9 * from), init::kaiming_uniform(width));
        // A norm behind a bias would take it away again.
        let bias = (!normed).then_some(wide);
        Ok(Self {
            wide: Conv2d::new(from, width, 3, Conv::same(3, 1), wide, bias, vars.pp("conv1"))?,
            norm: normed.then(|| BatchNorm::new(width, vars.pp("bn1"))).transpose()?,
            point: Conv2d::new(width, to, 1, Conv::default(), point, Some(point), vars.pp("conv2"))?,
        })
    }

    fn forward(&self, map: &Tensor, mode: Mode) -> Result<Tensor> {
        let hidden = self.wide.forward(map)?;
        let hidden = match &self.norm {
            None => ops::relu(&hidden)?,
            Some(norm) => norm.forward(&hidden, None, true, mode)?,
        };
        self.point.forward(&hidden)
    }
}

/// log(1 + eˣ), as what is left to the other of two scores x and 0.
fn softplus(x: &Tensor) -> Result<Tensor> {
    let last = x.rank();
    let scores = Tensor::stack(&[x, &x.zeros_like()?], last)?;
    Ok(ops::log_softmax(&scores)?.narrow(last, 1, 1)?.squeeze(last)?.neg()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::{Device, Var};

    #[test]
    fn a_softplus_and_its_slope_are_exact_at_any_scale() -> Result<()> {
        let x = Var::new(&[[-90f32, -1.0, 0.0, 2.0, 90.0]], &Device::Cpu)?;
        let y = softplus(x.as_tensor())?;
        let near = |got: &Tensor, expected: [f32; 5]| -> Result<()> {
            for (got, expected) in got.flatten_all()?.to_vec1::<f32>()?.into_iter().zip(expected) {
                assert!((got - expected).abs() <= 1e-6 * expected.max(1e-3), "{got} instead of {expected}");
            }
            Ok(())
        };
        near(&y, [0.0, 0.313_261_7, std::f32::consts::LN_2, 2.126_928, 90.0])?;
        let grads = y.sum_all()?.backward()?;
        let slope = grads.get(&x).expect("x is a variable");
        near(slope, [0.0, 0.268_941_4, 0.5, 0.880_797, 1.0])
    }
}
