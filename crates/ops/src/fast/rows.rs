use super::numbers::{exp, filled, largest, sum};
use crate::gpu::Gpu;
use crate::record::{Backward, compute, record, tensor};
use candle::{D, Result, Storage, Tensor};
use std::mem::MaybeUninit;

/// Rows a thread takes at once.
const ROWS: usize = 16;

/// On a GPU: rows to rows of the same width.
fn rows<const N: usize>(gpu: &Gpu, kernel: &'static str, reads: [&Tensor; N]) -> Result<Storage> {
    let (count, width) = (reads[0].elem_count(), reads[0].dim(D::Minus1)?);
    gpu.rows(kernel, reads.map(Some), (count, width, count / width), [])
}

/// And here: `work` is given the number of a row and the rows themselves, while they are in the nearest cache.
fn by_rows<'a, const N: usize, Row: Iterator<Item = f32>>(
    reads: [&'a [f32]; N],
    width: usize,
    work: impl Fn(usize, [&'a [f32]; N]) -> Row + Sync,
) -> Vec<f32> {
    let some = |index: usize, out: &mut [MaybeUninit<f32>]| {
        for (row, out) in (index * ROWS..).zip(out.chunks_exact_mut(width)) {
            let values = work(row, reads.map(|read| &read[row * width..][..width]));
            let written = out.iter_mut().zip(values).map(|(out, value)| out.write(value)).count();
            assert_eq!(written, width, "numbers of a row");
        }
    };
    // SAFETY: chunks are whole rows, and all of each was written.
    unsafe { filled(reads[0].len(), ROWS * width, some) }
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
    let classes = x.dim(D::Minus1)?;
    let here = |[x]: [&[f32]; 1]| {
        by_rows([x], classes, |_, [x]| {
            let (most, powers) = powers(x);
            let log_sum = powers.ln() as f32;
            x.iter().map(move |&x| x - most - log_sum)
        })
    };
    let y = compute([x], here, |gpu| rows(gpu, "log_softmax", [x]))?;
    record([x], y, x.shape(), LogSoftmax { classes })
}

struct LogSoftmax {
    classes: usize,
}

impl Backward<1> for LogSoftmax {
    const NAME: &'static str = "log-softmax";

    fn reads(&self, _: bool) -> ([bool; 1], bool) {
        ([false], true)
    }

    fn gradients(&self, _: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let here = |reads: [&[f32]; 2]| {
            by_rows(reads, self.classes, |_, [y, gradient]| {
                let sum = total(gradient) as f32;
                y.iter().zip(gradient).map(move |(&y, &gradient)| gradient - exp(y) * sum)
            })
        };
        let of_x = compute([y, gradient], here, |gpu| rows(gpu, "log_softmax_back", [y, gradient]))?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}

pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    let classes = x.dim(D::Minus1)?;
    let here = |[x]: [&[f32]; 1]| {
        by_rows([x], classes, |_, [x]| {
            let (most, powers) = powers(x);
            let share = powers.recip() as f32;
            x.iter().map(move |&x| exp(x - most) * share)
        })
    };
    let y = compute([x], here, |gpu| rows(gpu, "softmax", [x]))?;
    record([x], y, x.shape(), Softmax { classes })
}

struct Softmax {
    classes: usize,
}

impl Backward<1> for Softmax {
    const NAME: &'static str = "softmax";

    fn reads(&self, _: bool) -> ([bool; 1], bool) {
        ([false], true)
    }

    fn gradients(&self, _: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let here = |reads: [&[f32]; 2]| {
            by_rows(reads, self.classes, |_, [y, gradient]| {
                let mean = product(y, gradient) as f32;
                y.iter().zip(gradient).map(move |(&y, &gradient)| y * (gradient - mean))
            })
        };
        let of_x = compute([y, gradient], here, |gpu| rows(gpu, "softmax_back", [y, gradient]))?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}

/// A number of two rows, where probabilities, their logarithms and their products would each be a map.
pub(crate) fn soft_cross_entropy(targets: &Tensor, scores: &Tensor) -> Result<Tensor> {
    let classes = scores.dim(D::Minus1)?;
    let here = |[targets, scores]: [&[f32]; 2]| {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let from = index * ROWS * classes;
            let rows = targets[from..].chunks_exact(classes).zip(scores[from..].chunks_exact(classes));
            for (out, (targets, scores)) in out.iter_mut().zip(rows) {
                let (most, powers) = powers(scores);
                let log_sum = powers.ln();
                let term = |target, score: f32| f64::from(target) * (log_sum - f64::from(score - most));
                out.write(sum(targets, scores, term) as f32);
            }
        };
        // SAFETY: a number a row.
        unsafe { filled(scores.len() / classes, ROWS, work) }
    };
    let there = |gpu: &Gpu| {
        let rows = scores.elem_count() / classes;
        gpu.rows("soft_cross_entropy", [Some(targets), Some(scores)], (rows, classes, rows), [])
    };
    let y = compute([targets, scores], here, there)?;
    record([targets, scores], y, &scores.dims()[..scores.rank() - 1], SoftCrossEntropy { classes })
}

struct SoftCrossEntropy {
    classes: usize,
}

impl Backward<2> for SoftCrossEntropy {
    const NAME: &'static str = "soft-cross-entropy";

    fn reads(&self, _: bool) -> ([bool; 2], bool) {
        ([true, true], false)
    }

    fn gradients(
        &self,
        [targets, scores]: [&Tensor; 2],
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let of_targets = || {
            let here = |[scores, gradient]: [&[f32]; 2]| {
                by_rows([scores], self.classes, |row, [scores]| {
                    let ((most, powers), gradient) = (powers(scores), gradient[row]);
                    let log_sum = powers.ln() as f32;
                    scores.iter().map(move |&score| gradient * (log_sum - (score - most)))
                })
            };
            let there = |gpu: &Gpu| rows(gpu, "soft_cross_entropy_of_targets", [scores, gradient]);
            compute([scores, gradient], here, there).map(|numbers| tensor(numbers, scores.shape()))
        };
        let of_scores = || {
            let here = |[targets, scores, gradient]: [&[f32]; 3]| {
                by_rows([targets, scores], self.classes, |row, [targets, scores]| {
                    let ((most, powers), gradient) = (powers(scores), gradient[row]);
                    let share = (total(targets) / powers) as f32;
                    let pairs = targets.iter().zip(scores);
                    pairs.map(move |(&target, &score)| gradient * (share * exp(score - most) - target))
                })
            };
            let reads = [targets, scores, gradient];
            let there = |gpu: &Gpu| {
                let (count, classes) = (scores.elem_count(), self.classes);
                let sizes = (count, classes, count / classes);
                gpu.rows("soft_cross_entropy_of_scores", reads.map(Some), sizes, [])
            };
            compute(reads, here, there).map(|numbers| tensor(numbers, scores.shape()))
        };
        let wanted = |of: &Tensor, work: &dyn Fn() -> Result<Tensor>| of.track_op().then(work).transpose();
        Ok([wanted(targets, &of_targets)?, wanted(scores, &of_scores)?])
    }
}

/// Vectors shorter than this are only divided by it.
const SHORT: f32 = 1e-12;

fn length(x: &[f32]) -> f32 {
    (product(x, x).sqrt() as f32).max(SHORT)
}

pub(crate) fn unit(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let here = |[x]: [&[f32]; 1]| {
        by_rows([x], width, |_, [x]| {
            let scale = length(x).recip();
            x.iter().map(move |&x| x * scale)
        })
    };
    let y = compute([x], here, |gpu| rows(gpu, "unit", [x]))?;
    record([x], y, x.shape(), Unit { width })
}

struct Unit {
    width: usize,
}

impl Backward<1> for Unit {
    const NAME: &'static str = "unit";

    fn reads(&self, _: bool) -> ([bool; 1], bool) {
        ([true], true)
    }

    fn gradients(&self, [x]: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let here = |reads: [&[f32]; 3]| {
            by_rows(reads, self.width, |_, [x, y, gradient]| {
                let length = length(x);
                // A vector that is only divided grows as it likes.
                let along = if length > SHORT { product(y, gradient) as f32 } else { 0.0 };
                let scale = length.recip();
                y.iter().zip(gradient).map(move |(&y, &gradient)| (gradient - y * along) * scale)
            })
        };
        let of_x = compute([x, y, gradient], here, |gpu| rows(gpu, "unit_back", [x, y, gradient]))?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}
