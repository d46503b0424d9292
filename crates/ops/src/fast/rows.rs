//! Operations on vectors along the last axis, each by itself.

use super::numbers::{WORTH_SHARING, exp, largest, share_pieces, sum};
use crate::gpu::Gpu;
use crate::record::{Backward, compute, record, tensor};
use crate::simd::{Kernel, Lanes, simd};
use candle::{D, Result, Storage, Tensor};
use std::mem::MaybeUninit;

/// Rows a thread takes at once.
const ROWS: usize = 16;

/// On a GPU: rows to rows of the same width, as those of the first that is read.
fn rows<const N: usize>(gpu: &Gpu, kernel: &'static str, reads: [&Tensor; N]) -> Result<Storage> {
    let (count, width) = (reads[0].elem_count(), reads[0].dim(D::Minus1)?);
    gpu.rows(kernel, reads.map(Some), (count, width, count / width), [])
}

/// What becomes of rows of the same width. Implementations are `#[inline(always)]`, as those of a [`Kernel`] are.
trait Row<const N: usize>: Sync {
    /// Of row `row`, which is in the nearest cache meanwhile.
    fn values(&self, row: usize, reads: [&[f32]; N]) -> impl Iterator<Item = f32>;
}

/// Here: rows to rows of the same width, as those of `like`.
fn to_rows<const N: usize>(reads: [&[f32]; N], like: &Tensor, row: &impl Row<N>) -> Vec<f32> {
    let width = like.dims().last().copied().unwrap_or(1);
    by_rows(reads, [width, width], row)
}

/// Of every row of `width` numbers, `to` others.
fn by_rows<const N: usize>(reads: [&[f32]; N], sizes: [usize; 2], row: &impl Row<N>) -> Vec<f32> {
    // Of nothing, nothing.
    let [width, to] = sizes.map(|size| size.max(1));
    let length = reads[0].len() / width * to;
    let mut all = Vec::with_capacity(length);
    let pieces = all.spare_capacity_mut()[..length].chunks_mut(ROWS * to).enumerate();
    share_pieces(pieces, reads[0].len() >= WORTH_SHARING, |(index, out)| {
        simd().run(Stretch { reads, width, first: index * ROWS, row, out, to });
    });
    // SAFETY: all of each piece was written.
    unsafe { all.set_len(length) };
    all
}

/// Some rows, from the `first` on.
struct Stretch<'a, const N: usize, R> {
    reads: [&'a [f32]; N],
    width: usize,
    first: usize,
    row: &'a R,
    out: &'a mut [MaybeUninit<f32>],
    to: usize,
}

impl<const N: usize, R: Row<N>> Kernel for Stretch<'_, N, R> {
    type Output = ();

    /// Vectors are the compiler's, and sums side by side are as many whatever the width: all machines come to the same bits.
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for (row, out) in (self.first..).zip(self.out.chunks_exact_mut(self.to)) {
            let values = self.row.values(row, self.reads.map(|read| &read[row * self.width..][..self.width]));
            let written = out.iter_mut().zip(values).map(|(out, value)| out.write(value)).count();
            assert_eq!(written, self.to, "numbers of a row");
        }
    }
}

/// The largest of a row, and Σ exp(x − largest).
#[inline(always)]
fn powers(x: &[f32]) -> (f32, f64) {
    let most = largest(x);
    (most, sum(x, x, |x, _| f64::from(exp(x - most))))
}

#[inline(always)]
fn product(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |a, b| f64::from(a) * f64::from(b))
}

#[inline(always)]
fn total(x: &[f32]) -> f64 {
    sum(x, x, |x, _| f64::from(x))
}

pub(crate) fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let y = compute([x], |reads| to_rows(reads, x, &LogSoftmax), |gpu| rows(gpu, "log_softmax", [x]))?;
    record([x], y, x.shape(), LogSoftmax)
}

struct LogSoftmax;

impl Row<1> for LogSoftmax {
    #[inline(always)]
    fn values(&self, _: usize, [x]: [&[f32]; 1]) -> impl Iterator<Item = f32> {
        let (most, powers) = powers(x);
        let log_sum = powers.ln() as f32;
        x.iter().map(move |&x| x - most - log_sum)
    }
}

/// And back.
impl Row<2> for LogSoftmax {
    #[inline(always)]
    fn values(&self, _: usize, [y, gradient]: [&[f32]; 2]) -> impl Iterator<Item = f32> {
        let sum = total(gradient) as f32;
        y.iter().zip(gradient).map(move |(&y, &gradient)| gradient - exp(y) * sum)
    }
}

impl Backward<1> for LogSoftmax {
    const NAME: &'static str = "log-softmax";

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], true)
    }

    fn gradients(&self, _: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let there = |gpu: &Gpu| rows(gpu, "log_softmax_back", [y, gradient]);
        let of_x = compute([y, gradient], |reads| to_rows(reads, y, self), there)?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}

pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    let y = compute([x], |reads| to_rows(reads, x, &Softmax), |gpu| rows(gpu, "softmax", [x]))?;
    record([x], y, x.shape(), Softmax)
}

struct Softmax;

impl Row<1> for Softmax {
    #[inline(always)]
    fn values(&self, _: usize, [x]: [&[f32]; 1]) -> impl Iterator<Item = f32> {
        let (most, powers) = powers(x);
        let share = powers.recip() as f32;
        x.iter().map(move |&x| exp(x - most) * share)
    }
}

/// And back.
impl Row<2> for Softmax {
    #[inline(always)]
    fn values(&self, _: usize, [y, gradient]: [&[f32]; 2]) -> impl Iterator<Item = f32> {
        let mean = product(y, gradient) as f32;
        y.iter().zip(gradient).map(move |(&y, &gradient)| y * (gradient - mean))
    }
}

impl Backward<1> for Softmax {
    const NAME: &'static str = "softmax";

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], true)
    }

    fn gradients(&self, _: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let there = |gpu: &Gpu| rows(gpu, "softmax_back", [y, gradient]);
        let of_x = compute([y, gradient], |reads| to_rows(reads, y, self), there)?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}

/// A number of two rows, where probabilities, their logarithms and their products would each be a map.
pub(crate) fn soft_cross_entropy(targets: &Tensor, scores: &Tensor) -> Result<Tensor> {
    let classes = scores.dim(D::Minus1)?;
    let here = |reads: [&[f32]; 2]| by_rows(reads, [classes, 1], &SoftCrossEntropy);
    let there = |gpu: &Gpu| {
        let count = scores.elem_count() / classes;
        gpu.rows("soft_cross_entropy", [Some(targets), Some(scores)], (count, classes, count), [])
    };
    let y = compute([targets, scores], here, there)?;
    record([targets, scores], y, &scores.dims()[..scores.rank() - 1], SoftCrossEntropy)
}

struct SoftCrossEntropy;

impl Row<2> for SoftCrossEntropy {
    #[inline(always)]
    fn values(&self, _: usize, [targets, scores]: [&[f32]; 2]) -> impl Iterator<Item = f32> {
        let (most, powers) = powers(scores);
        let log_sum = powers.ln();
        let term = |target, score: f32| f64::from(target) * (log_sum - f64::from(score - most));
        std::iter::once(sum(targets, scores, term) as f32)
    }
}

/// Back to the targets, each row by its `gradient`.
struct OfTargets<'a> {
    gradient: &'a [f32],
}

impl Row<1> for OfTargets<'_> {
    #[inline(always)]
    fn values(&self, row: usize, [scores]: [&[f32]; 1]) -> impl Iterator<Item = f32> {
        let ((most, powers), gradient) = (powers(scores), self.gradient[row]);
        let log_sum = powers.ln() as f32;
        scores.iter().map(move |&score| gradient * (log_sum - (score - most)))
    }
}

/// And back to the scores.
struct OfScores<'a> {
    gradient: &'a [f32],
}

impl Row<2> for OfScores<'_> {
    #[inline(always)]
    fn values(&self, row: usize, [targets, scores]: [&[f32]; 2]) -> impl Iterator<Item = f32> {
        let ((most, powers), gradient) = (powers(scores), self.gradient[row]);
        let share = (total(targets) / powers) as f32;
        let pairs = targets.iter().zip(scores);
        pairs.map(move |(&target, &score)| gradient * (share * exp(score - most) - target))
    }
}

impl Backward<2> for SoftCrossEntropy {
    const NAME: &'static str = "soft-cross-entropy";

    fn reads(&self) -> ([bool; 2], bool) {
        ([true, true], false)
    }

    fn gradients(
        &self,
        [targets, scores]: [&Tensor; 2],
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let of_targets = || {
            let here = |[read, gradient]: [&[f32]; 2]| to_rows([read], scores, &OfTargets { gradient });
            let there = |gpu: &Gpu| rows(gpu, "soft_cross_entropy_of_targets", [scores, gradient]);
            Ok(tensor(compute([scores, gradient], here, there)?, scores.shape()))
        };
        let of_scores = || {
            let reads = [targets, scores, gradient];
            let here = |[a, b, gradient]: [&[f32]; 3]| to_rows([a, b], scores, &OfScores { gradient });
            let there = |gpu: &Gpu| rows(gpu, "soft_cross_entropy_of_scores", reads);
            Ok(tensor(compute(reads, here, there)?, scores.shape()))
        };
        let wanted = |of: &Tensor, work: &dyn Fn() -> Result<Tensor>| of.track_op().then(work).transpose();
        Ok([wanted(targets, &of_targets)?, wanted(scores, &of_scores)?])
    }
}

/// Vectors shorter than this are only divided by it.
const SHORT: f32 = 1e-12;

#[inline(always)]
fn length(x: &[f32]) -> f32 {
    (product(x, x).sqrt() as f32).max(SHORT)
}

pub(crate) fn unit(x: &Tensor) -> Result<Tensor> {
    let y = compute([x], |reads| to_rows(reads, x, &Unit), |gpu| rows(gpu, "unit", [x]))?;
    record([x], y, x.shape(), Unit)
}

struct Unit;

impl Row<1> for Unit {
    #[inline(always)]
    fn values(&self, _: usize, [x]: [&[f32]; 1]) -> impl Iterator<Item = f32> {
        let scale = length(x).recip();
        x.iter().map(move |&x| x * scale)
    }
}

/// And back.
impl Row<3> for Unit {
    #[inline(always)]
    fn values(&self, _: usize, [x, y, gradient]: [&[f32]; 3]) -> impl Iterator<Item = f32> {
        let length = length(x);
        // A vector that is only divided grows as it likes.
        let along = if length > SHORT { product(y, gradient) as f32 } else { 0.0 };
        let scale = length.recip();
        y.iter().zip(gradient).map(move |(&y, &gradient)| (gradient - y * along) * scale)
    }
}

impl Backward<1> for Unit {
    const NAME: &'static str = "unit";

    fn reads(&self) -> ([bool; 1], bool) {
        ([true], true)
    }

    fn gradients(&self, [x]: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let there = |gpu: &Gpu| rows(gpu, "unit_back", [x, y, gradient]);
        let of_x = compute([x, y, gradient], |reads| to_rows(reads, y, self), there)?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}
