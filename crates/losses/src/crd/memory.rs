use super::{Crd, Positive};
use crate::functional::unit;
use candle::{DType, Tensor};
use candle_nn::{Init, VarBuilder};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use sokd_core::{Error, Key, Pair, Result};
use sokd_ops::{Roll, Unfit, put_, put_rows_};

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
    /// The same where a GPU has them.
    roll: Roll,
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
        let labels = vars.get_with_hints(images, "running_labels", UNKNOWN)?;
        Ok(Self {
            student: vars.get_with_hints((images, width), "running_student", noise)?,
            teacher: vars.get_with_hints((images, width), "running_teacher", noise)?,
            roll: Roll::new(&labels)?,
            labels,
            normalisers: vars.get_with_hints(2, "running_normalisers", UNKNOWN)?,
        })
    }

    /// Has [picks](Self::picks) drawn by a key from now on.
    ///
    /// # Errors
    /// [`Error::Setting`] where a GPU found earlier steps to be at [fault](Self::rows): it is asked `now` and then, since that waits.
    pub(super) fn lay(&self, key: Key, now: bool) -> Result<()> {
        let unfit = if now { self.roll.unfit()? } else { None };
        match unfit {
            None => self.roll.lay(key),
            Some(Unfit::Stranger) => Err(stranger("it was shown an image that is not the one of its row")),
            Some(Unfit::AllAlike) => Err(all_alike()),
        }
    }

    /// The rows of a batch, whose classes are known from now on where it `teaches`.
    ///
    /// # Errors
    /// [`Error::Setting`] when one is beyond the training images, or was of another class: rows of another split say
    /// nothing here, and would be taken for other images.
    pub(super) fn rows(&self, pair: &Pair<'_>, teaches: bool) -> Result<Tensor> {
        if let Some(rows) = self.roll.recognise_(&pair.rows, &pair.labels, teaches)? {
            return Ok(rows);
        }
        let (rows, known) = (pair.rows.to_vec1::<u32>()?, self.known()?);
        for (&row, label) in rows.iter().zip(integers(&pair.labels)?) {
            let problem = match known.get(row as usize) {
                Some(&class) if class < 0 || class == label => continue,
                Some(class) => {
                    format!("it remembers row {row} as of class {class}, and is shown class {label}")
                }
                None => format!("it remembers {} images, and is shown row {row}", known.len()),
            };
            return Err(stranger(&problem));
        }
        if teaches {
            put_rows_(&self.labels, &pair.rows, &pair.labels.to_dtype(self.labels.dtype())?)?;
        }
        Ok(pair.rows.clone())
    }

    /// Classes by row, negative where an image has not been seen.
    fn known(&self) -> Result<Vec<i64>> {
        integers(&self.labels)
    }

    /// What the anchors' chances are divided by, `(1,)` each: not above 0 before a batch has said so.
    pub(super) fn normalisers(&self) -> Result<[Tensor; 2]> {
        Ok([self.normalisers.narrow(0, 0, 1)?, self.normalisers.narrow(0, 1, 1)?])
    }

    pub(super) fn keep_normalisers(&self, values: &[Tensor; 2]) -> Result<()> {
        put_(&self.normalisers, &Tensor::cat(values, 0)?.to_dtype(self.normalisers.dtype())?)
    }

    /// The positive and the negatives of each example, `(batch, 1 + negatives)`: a function of the key and its row,
    /// whatever else is in the batch.
    ///
    /// # Errors
    /// [`Error::Setting`] when all images are known, and of one class.
    pub(super) fn picks(&self, rows: &Tensor, labels: &Tensor, spec: &Crd) -> Result<Tensor> {
        let relaxed = matches!(spec.mode, Positive::Relax);
        if let Some(picks) = self.roll.others(rows, labels, spec.negatives, relaxed)? {
            return Ok(picks);
        }
        let (known, key) = (self.known()?, self.roll.key()?);
        let (rows, labels) = (rows.to_vec1::<u32>()?, integers(labels)?);
        // Thousands of draws each, on all threads.
        let each = rows.par_iter().zip(&labels);
        let each = each.map(|(&row, &label)| pick(&known, row, label, spec, key.fold_in(u64::from(row))));
        let picks = each.collect::<Result<Vec<_>>>()?.concat();
        Ok(Tensor::from_vec(picks, (rows.len(), 1 + spec.negatives), self.student.device())?)
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

fn stranger(problem: &str) -> Error {
    Error::setting("crd", format!("{problem}: it can compare training images only"))
}

fn all_alike() -> Error {
    Error::setting("crd", "all images of training are of one class: there is no negative")
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
        return Err(all_alike());
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
    use candle::Device;
    use sokd_ops::{Backend, with_backend};

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

    /// A GPU's kernels, in the mirror, draw the same: of few images and of thousands, in one round and in several.
    #[test]
    fn a_gpu_picks_what_this_machine_does() -> Result<()> {
        let many: Vec<i64> = (0..3000).map(|row| (row * row + row / 7) % 11 - 1).collect();
        for (known, rows, counts) in [
            (&KNOWN[..], &[5u32, 0, 3, 9][..], &[1, 4, 7, 100][..]),
            (&many, &[0, 17, 2999, 1500, 1], &[1, 500, 2300, 2999, 9000]),
        ] {
            let classes = Tensor::new(known, &Device::Cpu)?.to_dtype(DType::F32)?;
            let label = |&row: &u32| u32::try_from(known[row as usize].max(0)).expect("a class");
            let labels: Vec<u32> = rows.iter().map(label).collect();
            let key = Key::new(3).fold_in(known.len() as u64);
            for (&negatives, mode) in
                counts.iter().flat_map(|count| [Positive::Exact, Positive::Relax].map(|mode| (count, mode)))
            {
                let spec = Crd { negatives, mode, ..Crd::default() };
                let each = rows.iter().zip(&labels);
                let each = each.map(|(&row, &label)| {
                    pick(known, row, i64::from(label), &spec, key.fold_in(u64::from(row)))
                });
                let due = each.collect::<Result<Vec<_>>>()?;
                let picks = with_backend(Backend::Mirror, || {
                    let roll = Roll::new(&classes)?;
                    roll.lay(key)?;
                    let given = [rows, &labels].map(|numbers| Tensor::new(numbers, &Device::Cpu));
                    let [rows, labels] = given;
                    roll.others(&rows?, &labels?, negatives, matches!(mode, Positive::Relax))
                })?;
                assert!(picks.expect("the mirror draws").to_vec2::<u32>()? == due, "{spec:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn one_class_has_no_negatives() {
        let error = pick(&[3; 4], 0, 3, &Crd::default(), Key::new(0));
        assert!(matches!(error, Err(Error::Setting { .. })));
        with_backend(Backend::Mirror, || {
            let roll = Roll::new(&Tensor::new(&[3f32; 4], &Device::Cpu)?)?;
            let of = |numbers: [u32; 2]| Tensor::new(&numbers, &Device::Cpu);
            let picks = roll.others(&of([0, 2])?, &of([3, 3])?, 3, false)?.expect("the mirror draws");
            assert_eq!(picks.to_vec2::<u32>()?, [[0; 4], [2; 4]]);
            assert_eq!(roll.unfit()?, Some(Unfit::AllAlike));
            Ok::<(), Error>(())
        })
        .expect("it says so when it is asked");
    }
}
