//! Where a network looks: Grad-CAM.

use candle::{D, Tensor, Var};
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, Mode, Result};
use sokd_ops::relu;

/// One map of attention: values of cells, row by row, none below 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heat {
    /// Rows and columns.
    pub side: [usize; 2],
    /// Row by row.
    pub cells: Vec<f32>,
}

/// Grad-CAM at the last stage's map: its channels, each weighted by the mean gradient of the label's score, summed,
/// and what is below 0 cut off.
///
/// # Shapes
/// `map`: `(batch, height, width, channels)`; `labels`: `(batch,)` → one a batch.
///
/// # Source
/// Selvaraju et al., 2017 (arXiv:1610.02391), equations 1 and 2, before the softmax.
pub fn attention(net: &dyn Backbone, map: &Tensor, labels: &Tensor) -> Result<Vec<Heat>> {
    let map = Var::from_tensor(&map.detach())?;
    let logits = net.head(map.as_tensor(), Mode::Eval)?.logits;
    let score = logits.gather(&labels.unsqueeze(1)?, 1)?.sum_all()?;
    let grads = score.backward()?;
    // A head that does not read the map looks nowhere.
    let gradient = grads.get(&map).cloned().map_or_else(|| map.zeros_like(), Ok)?.detach();
    let map = map.as_detached_tensor();
    let weights = gradient.mean_keepdim(1)?.mean_keepdim(2)?;
    let heat = relu(&map.broadcast_mul(&weights)?.sum(D::Minus1)?)?;
    let (_, height, width) = heat.dims3()?;
    let cells: Vec<f32> = heat.flatten_all()?.to_vec1()?;
    let one = |cells: &[f32]| Heat { side: [height, width], cells: cells.to_vec() };
    Ok(cells.chunks_exact(height * width).map(one).collect())
}

/// How alike two networks' maps of the same images are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closeness {
    /// Pearson's correlation over cells, a mean over images.
    pub mean: f64,
    /// The same with the other network's map of the next image: what maps have in common whatever an image shows.
    pub by_chance: f64,
    /// Images on which neither map was empty or constant; only these count.
    pub images: usize,
}

impl Closeness {
    /// Of two networks' maps of the same images; `None` where no pair can be compared.
    pub fn of(a: &[Heat], b: &[Heat]) -> Option<Self> {
        let shifted = b.iter().cycle().skip(1);
        let both: Vec<(f64, f64)> = a
            .iter()
            .zip(b)
            .zip(shifted)
            .filter_map(|((a, b), other)| Some((a.correlation(b)?, a.correlation(other)?)))
            .collect();
        let images = both.len();
        let mean = |of: fn(&(f64, f64)) -> f64| both.iter().map(of).sum::<f64>() / images as f64;
        (images > 0).then(|| Self { mean: mean(|both| both.0), by_chance: mean(|both| both.1), images })
    }
}

impl Heat {
    /// Pearson's correlation with another map, over the cells of the finer; `None` where either is constant.
    pub fn correlation(&self, other: &Self) -> Option<f64> {
        let side = [0, 1].map(|axis| self.side[axis].max(other.side[axis]));
        let (a, b) = (self.resized(side).cells, other.resized(side).cells);
        let mean = |cells: &[f32]| cells.iter().copied().map(f64::from).sum::<f64>() / cells.len() as f64;
        let (of_a, of_b) = (mean(&a), mean(&b));
        let sum = |term: &dyn Fn(f64, f64) -> f64| {
            let pairs = a.iter().zip(&b);
            pairs.map(|(a, b)| term(f64::from(*a) - of_a, f64::from(*b) - of_b)).sum::<f64>()
        };
        let spread = (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
        (spread > 1e-12).then(|| sum(&|a, b| a * b) / spread)
    }

    /// The same map on another grid, bilinearly, cell centres on cell centres.
    #[must_use]
    pub fn resized(&self, side: [usize; 2]) -> Self {
        if side == self.side {
            return self.clone();
        }
        let places = |axis: usize| -> Vec<(usize, usize, f32)> {
            let (from, to) = (self.side[axis], side[axis]);
            let place = |at: usize| {
                let centre =
                    ((at as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
                let low = centre as usize;
                (low, (low + 1).min(from - 1), centre - low as f32)
            };
            (0..to).map(place).collect()
        };
        let (rows, columns) = (places(0), places(1));
        let width = self.side[1];
        let mut cells = Vec::with_capacity(side[0] * side[1]);
        for &(top, bottom, down) in &rows {
            for &(left, right, along) in &columns {
                let line = |row: usize| {
                    let (a, b) = (self.cells[row * width + left], self.cells[row * width + right]);
                    a + (b - a) * along
                };
                cells.push(line(top) + (line(bottom) - line(top)) * down);
            }
        }
        Self { side, cells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::{DType, Device};
    use sokd_core::{BackboneInfo, Head, PixelNorm, Stage, StageInfo};

    /// Mean over the map, then a fixed linear classifier: its gradient is known by hand.
    struct Linear(BackboneInfo);

    impl Backbone for Linear {
        fn info(&self) -> &BackboneInfo {
            &self.0
        }
        fn stem(&self, images: &Tensor, _: Mode) -> Result<Tensor> {
            Ok(images.clone())
        }
        fn stage(&self, _: usize, input: &Tensor, _: Mode) -> Result<Stage> {
            Ok(Stage::new(input.clone(), None))
        }
        fn head(&self, map: &Tensor, _: Mode) -> Result<Head> {
            let pooled = map.mean(1)?.mean(1)?;
            let weight = Tensor::new(&[[1f32, -2.0], [0.5, 4.0]], map.device())?;
            Ok(Head { logits: pooled.matmul(&weight.t()?)?, pooled, said: None })
        }
    }

    /// By hand: weights of class 0 are (1, −2) / 2, of class 1 (0.5, 4) / 2, for a map of 1 × 2 cells.
    #[test]
    fn attention_is_the_weighted_sum_that_a_hand_finds() -> Result<()> {
        let stage = StageInfo { channels: 2, stride: 1 };
        let pixels = PixelNorm { mean: [0.0; 3], std: [1.0; 3] };
        let net = Linear(BackboneInfo { stem: stage, stages: vec![stage], features: 2, classes: 2, pixels });
        let map = Tensor::new(&[[[[6f32, 1.0], [1.0, 6.0]]], [[[2.0, 0.0], [0.0, 1.0]]]], &Device::Cpu)?;
        let labels = Tensor::new(&[0u32, 1], &Device::Cpu)?;
        let heat = attention(&net, &map.to_dtype(DType::F32)?, &labels)?;
        assert_eq!(heat[0].cells, [2.0, 0.0], "what is below 0 is cut off");
        assert_eq!(heat[1].cells, [0.5, 2.0]);
        assert_eq!(heat[0].side, [1, 2]);
        Ok(())
    }

    fn heat(side: [usize; 2], cells: &[f32]) -> Heat {
        Heat { side, cells: cells.to_vec() }
    }

    #[test]
    fn a_map_is_as_close_to_itself_as_can_be() {
        let maps = [
            heat([2, 2], &[0.0, 1.0, 2.0, 3.0]),
            heat([2, 2], &[3.0, 2.0, 1.0, 0.0]),
            heat([2, 2], &[0.0; 4]),
        ];
        let close = Closeness::of(&maps[..2], &maps[..2]).expect("two maps");
        assert_eq!((close.mean, close.by_chance, close.images), (1.0, -1.0, 2));
        assert_eq!(maps[0].correlation(&maps[2]), None, "an empty map has no pattern to compare");
        assert_eq!(Closeness::of(&maps[2..], &maps[..1]), None);
    }

    #[test]
    fn a_finer_grid_keeps_corners_and_goes_straight_between() {
        let fine = heat([1, 2], &[0.0, 4.0]).resized([2, 4]);
        assert_eq!(fine.cells, [0.0, 1.0, 3.0, 4.0, 0.0, 1.0, 3.0, 4.0]);
    }
}
