use super::{Crd, Positive};
use crate::functional::unit;
use candle::{DType, Tensor};
use candle_nn::{Init, VarBuilder};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use sokd_core::{Error, Key, Pair, Result};
use sokd_ops::put_rows_;

/// What both networks said of every training image when they saw it last, and which class it had.
///
/// All of it lies in buffers beside the weights: saved, loaded, moved by no optimiser.
pub(super) struct Memory {
    /// Embeddings, `(images, width)`.
    pub student: Tensor,
    /// Embeddings, `(images, width)`.
    pub teacher: Tensor,
    /// Classes by row, −1 where an image has not been seen.
    labels: Tensor,
    /// The student's as an anchor, then the teacher's; −1 before the first batch.
    normalisers: Tensor,
}

/// What is not known yet.
const UNKNOWN: Init = Init::Const(-1.0);

impl Memory {
    /// # Errors
    /// [`Error::Setting`] without two images to tell apart.
    pub(super) fn new(images: usize, width: usize, vars: &VarBuilder<'_>) -> Result<Self> {
        // Labels are remembered as floats, exact below 2²⁴; rows are `u32`.
        if images < 2 || u32::try_from(images).is_err() {
            let problem = format!("it tells training images apart, and there are {images}");
            return Err(Error::setting("crd", problem));
        }
        // 1 / √(width / 3): vectors of about length 1.
        let bound = (3.0 / width as f64).sqrt();
        let noise = Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            student: vars.get_with_hints((images, width), "running_student", noise)?,
            teacher: vars.get_with_hints((images, width), "running_teacher", noise)?,
            labels: vars.get_with_hints(images, "running_labels", UNKNOWN)?,
            normalisers: vars.get_with_hints(2, "running_normalisers", UNKNOWN)?,
        })
    }

    /// The rows of a batch.
    ///
    /// # Errors
    /// [`Error::Setting`] when one is beyond the training images, or was of another class: rows of another split say
    /// nothing here, and would be taken for other images.
    pub(super) fn rows(&self, pair: &Pair<'_>) -> Result<Vec<u32>> {
        let (rows, known) = (pair.rows.to_vec1::<u32>()?, self.known()?);
        for (&row, label) in rows.iter().zip(integers(&pair.labels)?) {
            let problem = match known.get(row as usize) {
                Some(&class) if class < 0 || class == label => continue,
                Some(class) => {
                    format!("it remembers row {row} as of class {class}, and is shown class {label}")
                }
                None => format!("it remembers {} images, and is shown row {row}", known.len()),
            };
            return Err(Error::setting("crd", format!("{problem}: it can compare training images only")));
        }
        Ok(rows)
    }

    /// Classes by row, negative where an image has not been seen.
    fn known(&self) -> Result<Vec<i64>> {
        integers(&self.labels)
    }

    /// What the anchors' chances are divided by, once a batch has said so.
    pub(super) fn normalisers(&self) -> Result<[Option<f64>; 2]> {
        let known = self.normalisers.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        Ok([0, 1].map(|of| known.get(of).copied().filter(|&value| value > 0.0)))
    }

    pub(super) fn keep_normalisers(&self, values: [f64; 2]) -> Result<()> {
        let values = Tensor::new(&values, self.normalisers.device())?.to_dtype(self.normalisers.dtype())?;
        Ok(self.normalisers.slice_set(&values, 0, 0)?)
    }

    /// The positive and the negatives of each example, `(batch, 1 + negatives)`: a function of the key and its row,
    /// whatever else is in the batch.
    ///
    /// # Errors
    /// [`Error::Setting`] when all images are known, and of one class.
    pub(super) fn picks(&self, rows: &[u32], labels: &Tensor, spec: &Crd, key: Key) -> Result<Tensor> {
        let (known, labels) = (self.known()?, integers(labels)?);
        // Thousands of draws each, on all threads.
        let each = rows.par_iter().zip(&labels);
        let each = each.map(|(&row, &label)| pick(&known, row, label, spec, key.fold_in(u64::from(row))));
        let picks = each.collect::<Result<Vec<_>>>()?.concat();
        Ok(Tensor::from_vec(picks, (rows.len(), 1 + spec.negatives), self.student.device())?)
    }

    pub(super) fn learn_labels(&self, pair: &Pair<'_>) -> Result<()> {
        put_rows_(&self.labels, &pair.rows, &pair.labels.to_dtype(self.labels.dtype())?)
    }

    /// Moves the memories of the rows toward what the student and the teacher say now.
    pub(super) fn learn(&self, rows: &Tensor, embeddings: [&Tensor; 2], momentum: f64) -> Result<()> {
        for (bank, now) in [&self.student, &self.teacher].into_iter().zip(embeddings) {
            let before = bank.index_select(rows, 0)?;
            put_rows_(bank, rows, &unit(&((before * momentum)? + (now.detach() * (1.0 - momentum))?)?)?)?;
        }
        Ok(())
    }
}

fn integers(labels: &Tensor) -> Result<Vec<i64>> {
    Ok(labels.to_dtype(DType::I64)?.to_vec1()?)
}

/// One example's positive and negatives.
fn pick(known: &[i64], row: u32, label: i64, spec: &Crd, key: Key) -> Result<Vec<u32>> {
    let (mut picks, mut stream) = (Vec::with_capacity(1 + spec.negatives), key.stream());
    let alike = |other: u32| other == row || known[other as usize] == label;
    let images = known.len() as u32;
    let own: Vec<u32> = (0..images).filter(|&other| alike(other)).collect();
    let others = known.len() - own.len();
    if others == 0 {
        return Err(Error::setting("crd", "all images of training are of one class: there is no negative"));
    }
    picks.push(match spec.mode {
        Positive::Exact => row,
        Positive::Relax => own[stream.below(own.len() as u32) as usize],
    });
    // As numpy's `choice` in the released code: with repetition only where there are too few.
    let mut taken = (spec.negatives <= others).then(|| vec![false; known.len()]);
    let mut left = spec.negatives;
    while left > 0 {
        let other = stream.below(images);
        let again = taken.as_mut().is_some_and(|taken| std::mem::replace(&mut taken[other as usize], true));
        if !again && !alike(other) {
            picks.push(other);
            left -= 1;
        }
    }
    Ok(picks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten images of classes 0 to 4 in turn, of which the last two have not been seen.
    const KNOWN: [i64; 10] = [0, 1, 2, 3, 4, 0, 1, 2, -1, -1];

    fn picks(spec: &Crd, row: u32, label: i64, step: u64) -> Result<Vec<u32>> {
        pick(&KNOWN, row, label, spec, Key::new(1).fold_in(step))
    }

    #[test]
    fn negatives_are_other_classes_each_once_and_all_alike_often() -> Result<()> {
        let spec = Crd { negatives: 4, ..Crd::default() };
        let mut counts = [0u32; 10];
        for step in 0..4000 {
            let picks = picks(&spec, 5, 0, step)?;
            assert_eq!((picks.len(), picks[0]), (5, 5));
            let mut negatives = picks[1..].to_vec();
            negatives.sort_unstable();
            negatives.dedup();
            assert_eq!(negatives.len(), 4, "{picks:?}");
            for row in negatives {
                counts[row as usize] += 1;
            }
        }
        assert_eq!((counts[0], counts[5]), (0, 0), "rows 0 and 5 are of class 0");
        // Four of the eight others a time.
        assert!(
            counts.iter().filter(|&&count| count > 0).all(|count| count.abs_diff(2000) < 150),
            "{counts:?}"
        );
        Ok(())
    }

    #[test]
    fn few_images_are_drawn_again() -> Result<()> {
        let spec = Crd { negatives: 100, ..Crd::default() };
        let picks = picks(&spec, 9, 2, 0)?;
        assert_eq!(picks.len(), 101);
        assert!(picks[1..].iter().all(|&row| ![2, 7, 9].contains(&row)), "{picks:?}");
        Ok(())
    }

    #[test]
    fn a_relaxed_positive_is_of_the_class() -> Result<()> {
        let spec = Crd { negatives: 1, mode: Positive::Relax, ..Crd::default() };
        let mut drawn: Vec<_> =
            (0..100).map(|step| Ok(picks(&spec, 6, 1, step)?[0])).collect::<Result<_>>()?;
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, [1, 6]);
        Ok(())
    }

    #[test]
    fn one_class_has_no_negatives() {
        let error = pick(&[3; 4], 0, 3, &Crd::default(), Key::new(0));
        assert!(matches!(error, Err(Error::Setting { .. })));
    }
}
