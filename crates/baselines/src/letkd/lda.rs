//! Linear discriminant analysis.

use super::eigen::eigen;
use candle::{Device, Tensor};
use rayon::prelude::*;
use sokd_core::{Error, Result};

/// The directions along which the means of classes differ most, in units of the spread within classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Lda {
    /// The mean over all points, `(width,)`.
    pub mean: Vec<f64>,
    /// One direction a row, the one that parts the classes best first: `(components, width)`.
    pub directions: Vec<Vec<f64>>,
}

/// Singular values below are no directions: scikit-learn's tolerance.
const LEAST: f64 = 1e-4;

impl Lda {
    /// Of points of `width` numbers and their classes.
    ///
    /// # Errors
    /// [`Error::Setting`] where fewer than two classes have points, or no class has two.
    ///
    /// # Source
    /// scikit-learn's `LinearDiscriminantAnalysis(solver="svd")`, of release 1.2, its `scalings_` and `xbar_`; by eigenvalues of
    /// covariances in place of singular values of the data, which are the same.
    pub fn of(points: &[f32], width: usize, labels: &[u32], classes: usize) -> Result<Self> {
        let mut sizes = vec![0usize; classes];
        let mut means = vec![vec![0.0; width]; classes];
        for (point, &label) in points.chunks_exact(width).zip(labels) {
            sizes[label as usize] += 1;
            means[label as usize].iter_mut().zip(point).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let present: Vec<usize> = (0..classes).filter(|&class| sizes[class] > 0).collect();
        if present.len() < 2 || labels.len() <= present.len() {
            let problem = format!("{} points of {} classes have no directions", labels.len(), present.len());
            return Err(Error::setting("lda", problem));
        }
        for &class in &present {
            means[class].iter_mut().for_each(|sum| *sum /= sizes[class] as f64);
        }
        let number = labels.len() as f64;
        let share = |class: usize| sizes[class] as f64 / number;
        let mean: Vec<f64> =
            (0..width).map(|at| present.iter().map(|&class| share(class) * means[class][at]).sum()).collect();

        // Within classes, in units of each number's own spread: a direction of no spread tells nothing.
        let mut within = scatter(points, width, labels, &means)?;
        let spread: Vec<f64> = (0..width)
            .map(|at| (within[at * width + at] / number).sqrt())
            .map(|spread| if spread == 0.0 { 1.0 } else { spread })
            .collect();
        for (row, spread_row) in within.chunks_exact_mut(width).zip(&spread) {
            for (value, spread) in row.iter_mut().zip(&spread) {
                *value /= spread_row * spread * (number - present.len() as f64);
            }
        }
        let whiten: Vec<Vec<f64>> = eigen(&within, width)
            .into_iter()
            .filter(|(value, _)| *value > LEAST * LEAST)
            .map(|(value, direction)| {
                direction.iter().zip(&spread).map(|(part, spread)| part / spread / value.sqrt()).collect()
            })
            .collect();

        // Between classes, where the spread within is 1 each way.
        let apart: Vec<Vec<f64>> = present
            .iter()
            .map(|&class| {
                let weight = (number * share(class) / (present.len() as f64 - 1.0)).sqrt();
                let gap: Vec<f64> = means[class].iter().zip(&mean).map(|(own, all)| own - all).collect();
                whiten.iter().map(|direction| weight * dot(direction, &gap)).collect()
            })
            .collect();
        let side = whiten.len();
        let between: Vec<f64> = (0..side * side)
            .map(|at| apart.iter().map(|row| row[at / side] * row[at % side]).sum())
            .collect();
        let pairs = eigen(&between, side);
        let least = LEAST * LEAST * pairs.first().map_or(0.0, |(value, _)| *value);
        let directions = pairs.iter().filter(|(value, _)| *value > least).map(|(_, turn)| {
            (0..width).map(|at| whiten.iter().zip(turn).map(|(row, turn)| row[at] * turn).sum()).collect()
        });
        Ok(Self { directions: directions.collect(), mean })
    }

    /// All components of a point.
    pub fn components(&self, point: &[f64]) -> Vec<f64> {
        let gap: Vec<f64> = point.iter().zip(&self.mean).map(|(value, mean)| value - mean).collect();
        self.directions.iter().map(|direction| dot(direction, &gap)).collect()
    }

    /// The first `components` as a linear layer: weight `(components, width)` and bias `(components,)`.
    pub fn layer(&self, components: usize) -> (Vec<f32>, Vec<f32>) {
        let chosen = &self.directions[..components.min(self.directions.len())];
        let weight = chosen.iter().flatten().map(|value| *value as f32).collect();
        (weight, chosen.iter().map(|direction| -dot(direction, &self.mean) as f32).collect())
    }
}

/// Classes told apart by discriminants: that whose mean is nearest, where the spread within classes is 1 each way, and of two as
/// near the one that has more points.
///
/// # Source
/// scikit-learn's `LinearDiscriminantAnalysis(solver="svd")`, its `decision_function` and `predict`.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    lda: Lda,
    /// The mean of each class in components, and the logarithm of its share less half the mean's square; minus infinity
    /// for a class without points.
    classes: Vec<(Vec<f64>, f64)>,
}

impl Classifier {
    /// Of points of `width` numbers and their classes.
    ///
    /// # Errors
    /// As [`Lda::of`].
    pub fn of(points: &[f32], width: usize, labels: &[u32], classes: usize) -> Result<Self> {
        let lda = Lda::of(points, width, labels, classes)?;
        let mut sums = vec![(0usize, vec![0.0; width]); classes];
        for (point, &label) in points.chunks_exact(width).zip(labels) {
            let (size, sum) = &mut sums[label as usize];
            *size += 1;
            sum.iter_mut().zip(point).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let class = |(size, sum): (usize, Vec<f64>)| {
            let mean: Vec<f64> = sum.into_iter().map(|sum| sum / size.max(1) as f64).collect();
            let mean = lda.components(&mean);
            let share = (size as f64 / labels.len() as f64).ln();
            let bias = share - dot(&mean, &mean) / 2.0;
            (mean, bias)
        };
        let classes = sums.into_iter().map(class).collect();
        Ok(Self { lda, classes })
    }

    /// How each class stands to a point: the logarithm of its probability, but for what all classes have in common.
    pub fn scores(&self, point: &[f32]) -> Vec<f64> {
        let point: Vec<f64> = point.iter().copied().map(f64::from).collect();
        let at = self.lda.components(&point);
        self.classes.iter().map(|(mean, bias)| dot(mean, &at) + bias).collect()
    }

    /// The class that is most probable: the first of equals.
    pub fn guess(&self, point: &[f32]) -> u32 {
        let scores = self.scores(point);
        let best = (0..scores.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        best.unwrap_or(0) as u32
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Σ (x − mean of its class) (x − mean of its class)ᵀ, in double precision.
fn scatter(points: &[f32], width: usize, labels: &[u32], means: &[Vec<f64>]) -> Result<Vec<f64>> {
    /// Points of a product, and stretches that threads take: sums do not depend on how many there are.
    const POINTS: usize = 4096;
    const STRETCHES: usize = 8;
    let product = |points: &[f32], labels: &[u32]| -> candle::Result<Tensor> {
        let gap = points
            .chunks_exact(width)
            .zip(labels)
            .flat_map(|(point, &label)| point.iter().zip(&means[label as usize]))
            .map(|(value, mean)| f64::from(*value) - mean);
        let gaps = Tensor::from_iter(gap, &Device::Cpu)?.reshape((labels.len(), width))?;
        gaps.t()?.matmul(&gaps)
    };
    let stretch = labels.len().div_ceil(STRETCHES);
    let parts: Vec<candle::Result<Tensor>> = points
        .par_chunks(stretch * width)
        .zip(labels.par_chunks(stretch))
        .map(|(points, labels)| {
            let zero = Tensor::zeros((width, width), candle::DType::F64, &Device::Cpu)?;
            points
                .chunks(POINTS * width)
                .zip(labels.chunks(POINTS))
                .try_fold(zero, |sum, (points, labels)| sum + product(points, labels)?)
        })
        .collect();
    let mut sum = vec![0.0; width * width];
    for part in parts {
        let part = part?.flatten_all()?.to_vec1::<f64>()?;
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    Ok(sum)
}
