use candle::{DType, Tensor};
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, Batches, Error, Mode, Result};

/// How well a network does on a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Images recognised at the first guess.
    pub correct: usize,
    /// Images seen.
    pub total: usize,
    /// Recognised at the first guess, in per cent.
    pub top1: f64,
    /// The true class is among the five best guesses, in per cent.
    pub top5: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Expected calibration error, in [0, 1]: how far confidence and accuracy lie apart, in 15 bins of equal width (Guo
    /// et al., 2017, arXiv:1706.04599, section 2).
    pub ece: f64,
    /// Images on which it and the teacher guess alike, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Of each class's images, the part recognised at the first guess, in per cent, by label; 0 where there are none.
    pub recall: Vec<f64>,
}

/// Shows a split to a network at rest. On weights that no graph tracks ([`sokd_nn::Params::frozen`]) it keeps no map
/// longer than it needs.
///
/// `teacher`: what [`predictions`] said on the same batches.
pub fn evaluate(net: &dyn Backbone, batches: &dyn Batches, teacher: Option<&[u32]>) -> Result<Evaluation> {
    let mut marks = Marks::new(net.info().classes);
    for batch in batches.epoch(0, 0) {
        let batch = batch?;
        marks.add(&net.forward(&batch.images, Mode::Eval)?.logits, &batch.labels, teacher)?;
    }
    marks.evaluation(teacher.is_some())
}

/// The best guess on each image, in the order of the batches: a teacher is asked once, not once an epoch.
pub fn predictions(net: &dyn Backbone, batches: &dyn Batches) -> Result<Vec<u32>> {
    let mut guesses = Vec::with_capacity(batches.examples());
    for batch in batches.epoch(0, 0) {
        let logits = net.forward(&batch?.images, Mode::Eval)?.logits;
        guesses.extend(rows(&logits)?.iter().map(|row| best(row) as u32));
    }
    Ok(guesses)
}

/// An evaluation that is not finished yet. Sums are taken on the host in double precision: at 10,000 images and 100
/// classes that is a million exponentials, far less than the network's own work.
pub(crate) struct Marks {
    total: usize,
    correct: usize,
    among_five: usize,
    agreed: usize,
    loss: f64,
    bins: [Bin; BINS],
    classes: Vec<[usize; 2]>,
}

const BINS: usize = 15;

#[derive(Clone, Copy, Default)]
struct Bin {
    confidence: f64,
    correct: f64,
}

impl Marks {
    pub(crate) fn new(classes: usize) -> Self {
        Self {
            total: 0,
            correct: 0,
            among_five: 0,
            agreed: 0,
            loss: 0.0,
            bins: [Bin::default(); BINS],
            classes: vec![[0; 2]; classes],
        }
    }

    /// `logits`: `(batch, classes)`; `labels`: `(batch,)`, `u32`; `teacher`: guesses on the whole split.
    pub(crate) fn add(&mut self, logits: &Tensor, labels: &Tensor, teacher: Option<&[u32]>) -> Result<()> {
        let labels = labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        for (row, label) in rows(logits)?.iter().zip(labels) {
            let Some(&[seen, right]) = self.classes.get(label as usize) else {
                let problem =
                    format!("an image of class {label}, from 0, meets {} classes", self.classes.len());
                return Err(Error::setting("student", problem));
            };
            let (guess, rank) = (best(row), rank(row, label as usize));
            let likelihoods = log_softmax(row);
            let confidence = likelihoods[guess].exp();
            let correct = rank == 0;
            self.classes[label as usize] = [seen + 1, right + usize::from(correct)];
            self.correct += usize::from(correct);
            self.among_five += usize::from(rank < 5);
            self.loss -= likelihoods[label as usize];
            // Bins are open below and closed above.
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            self.bins[bin].confidence += confidence;
            self.bins[bin].correct += f64::from(u8::from(correct));
            if let Some(teacher) = teacher {
                self.agreed += usize::from(teacher.get(self.total) == Some(&(guess as u32)));
            }
            self.total += 1;
        }
        Ok(())
    }

    pub(crate) fn evaluation(self, taught: bool) -> Result<Evaluation> {
        if self.total == 0 {
            return Err(Error::setting("evaluate", "there is no image to judge by"));
        }
        let share = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
        let gaps: f64 = self.bins.iter().map(|bin| (bin.confidence - bin.correct).abs()).sum();
        Ok(Evaluation {
            correct: self.correct,
            total: self.total,
            top1: share(self.correct, self.total),
            top5: share(self.among_five, self.total),
            loss: self.loss / self.total as f64,
            ece: gaps / self.total as f64,
            agreement: taught.then(|| share(self.agreed, self.total)),
            recall: self.classes.iter().map(|&[seen, right]| share(right, seen)).collect(),
        })
    }
}

fn rows(logits: &Tensor) -> Result<Vec<Vec<f32>>> {
    let (_, _) = logits.dims2()?;
    Ok(logits.to_dtype(DType::F32)?.to_vec2()?)
}

/// The first of the largest, as PyTorch's `argmax` on a CPU.
fn best(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}

/// How many classes come before `label`: those with a larger score, and of equal ones those with a smaller index.
/// What is not a number comes before everything, so that a broken network is never right.
fn rank(row: &[f32], label: usize) -> usize {
    let score = row[label];
    let before = |&(class, &other): &(usize, &f32)| match other.partial_cmp(&score) {
        None => true,
        Some(order) => order.is_gt() || (order.is_eq() && class < label),
    };
    if score.is_nan() { row.len() } else { row.iter().enumerate().filter(before).count() }
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().fold(f64::NEG_INFINITY, |largest, &score| largest.max(f64::from(score)));
    let log_sum = row.iter().map(|&score| (f64::from(score) - largest).exp()).sum::<f64>().ln() + largest;
    row.iter().map(|&score| f64::from(score) - log_sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Device;

    fn judged(logits: &[[f32; 6]], labels: &[u32], teacher: Option<&[u32]>) -> Result<Evaluation> {
        let mut marks = Marks::new(6);
        // In two batches: what is summed does not depend on them.
        for (rows, labels) in logits.chunks(2).zip(labels.chunks(2)) {
            let logits = Tensor::from_slice(rows.as_flattened(), (rows.len(), 6), &Device::Cpu)?;
            marks.add(&logits, &Tensor::new(labels, &Device::Cpu)?, teacher)?;
        }
        marks.evaluation(teacher.is_some())
    }

    #[test]
    fn four_images_by_hand() -> Result<()> {
        let ln3 = 3f32.ln();
        let logits = [
            [ln3, 0.0, 0.0, 0.0, 0.0, 0.0],  // right, at 3/8
            [0.0, ln3, 0.0, 0.0, 0.0, 0.0],  // label 2: the second of five equals behind, so third
            [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],  // label 5: sixth
            [0.0, 0.0, 0.0, 0.0, 0.0, 40.0], // right, for certain
        ];
        let got = judged(&logits, &[0, 2, 5, 5], Some(&[0, 1, 2, 5]))?;
        assert_eq!((got.correct, got.total, got.top1, got.top5), (2, 4, 50.0, 75.0));
        assert_eq!(got.agreement, Some(75.0));
        assert_eq!(got.recall, [100.0, 0.0, 0.0, 0.0, 0.0, 50.0]);

        let sum: f64 = (0..6).map(|k| f64::from(k).exp()).sum();
        let loss = (8f64 / 3.0).ln() + 8f64.ln() + sum.ln() + 0.0;
        assert!((got.loss - loss / 4.0).abs() < 1e-6, "{}", got.loss);

        // 3/8 falls into the sixth bin twice, once right; the others stand alone.
        let gaps = (1.0 - 2.0 * 0.375f64).abs() + 5f64.exp() / sum + (1.0 - 1.0);
        assert!((got.ece - gaps / 4.0).abs() < 1e-6, "{}", got.ece);
        Ok(())
    }

    #[test]
    fn of_equals_the_first_is_the_guess() -> Result<()> {
        let logits = [[1.0; 6], [1.0; 6]];
        assert_eq!(judged(&logits, &[0, 5], None)?.correct, 1);
        assert_eq!(judged(&logits, &[4, 5], None)?.top5, 50.0);
        Ok(())
    }

    #[test]
    fn a_broken_network_is_never_right() -> Result<()> {
        let nan = f32::NAN;
        let got = judged(&[[nan; 6], [nan, 1.0, 0.0, 0.0, 0.0, 0.0]], &[0, 1], None)?;
        assert_eq!((got.correct, got.top5), (0, 50.0));
        assert!(got.loss.is_nan());
        Ok(())
    }

    #[test]
    fn a_label_that_the_student_lacks_is_an_error() {
        let error = judged(&[[0.0; 6]], &[6], None).expect_err("six classes, from 0").to_string();
        assert!(error.contains("class 6, from 0, meets 6 classes"), "{error}");
        assert!(judged(&[], &[], None).is_err());
    }
}
