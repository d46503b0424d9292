//! What the tests say of each arm, beside the row that the others are compared with.

use super::images::{Brought, DRAWS, McNemar, bootstrap};
use super::{Arm, Gain, Report, Score, paired};
use sokd_core::Key;

/// What the tests say of one arm after the last epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The table's row.
    pub row: String,
    /// The table's column.
    pub column: String,
    /// Over the named row, seed by seed.
    pub gain: Gain,
    /// Student's t over the paired differences.
    pub t: Option<P>,
    /// Wilcoxon's signed ranks over them.
    pub wilcoxon: Option<P>,
    /// McNemar's test over the test images: a seed, and what its two networks have not in common.
    pub images: Vec<(u64, McNemar, P)>,
    /// The 95 % interval of the gain over test images drawn again.
    pub interval: Option<[f64; 2]>,
}

/// How likely it is, were there nothing behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct P {
    /// As the test has it.
    pub raw: f64,
    /// Corrected for all arms of the column, by Holm.
    pub holm: f64,
}

impl Report {
    /// Asks the tests about every arm. What they said is [`Report::compared`].
    pub fn compare(&mut self) {
        let (mut compared, mut brought) = (Vec::new(), Vec::new());
        for column in &self.columns {
            let arms = self.arms(column);
            for (arm, gain) in arms.iter().filter_map(|arm| Some((arm, arm.gain(Score::Last)?))) {
                compared.push(Compared {
                    row: arm.row.clone(),
                    column: column.clone(),
                    t: paired::t(&gain.differences).map(P::of),
                    wilcoxon: paired::wilcoxon(&gain.differences).map(P::of),
                    images: arm.apart(),
                    interval: None,
                    gain,
                });
                brought.push(arm.brought());
            }
        }
        for column in compared.chunk_by_mut(|one, other| one.column == other.column) {
            correct(column.iter_mut().filter_map(|arm| arm.t.as_mut()).collect());
            correct(column.iter_mut().filter_map(|arm| arm.wilcoxon.as_mut()).collect());
            correct(column.iter_mut().flat_map(|arm| arm.images.iter_mut().map(|(.., p)| p)).collect());
        }
        draw(&mut compared, &brought);
        self.compared = compared;
    }

    /// The arms of a column that were compared.
    pub(super) fn compared_in<'a>(&'a self, column: &'a str) -> impl Iterator<Item = &'a Compared> {
        self.compared.iter().filter(move |arm| arm.column == column)
    }
}

impl P {
    fn of(raw: f64) -> Self {
        Self { raw, holm: raw }
    }
}

/// What was asked together is corrected together.
fn correct(asked: Vec<&mut P>) {
    let raw: Vec<f64> = asked.iter().map(|p| p.raw).collect();
    for (p, holm) in asked.into_iter().zip(paired::holm(&raw)) {
        p.holm = holm;
    }
}

/// Draws once for all arms that were asked about the same images: drawing is what a bootstrap costs.
fn draw(compared: &mut [Compared], brought: &[Option<Brought>]) {
    let mut digests: Vec<&str> = brought.iter().flatten().map(|arm| arm.of.as_str()).collect();
    digests.sort_unstable();
    digests.dedup();
    for digest in digests {
        let (places, arms): (Vec<usize>, Vec<&Brought>) = (0..)
            .zip(brought)
            .filter_map(|(place, arm)| Some((place, arm.as_ref()?)))
            .filter(|(_, arm)| arm.of == digest)
            .unzip();
        let intervals = bootstrap(&arms, DRAWS, Key::new(0).fold("bootstrap").fold(digest));
        for (place, interval) in places.into_iter().zip(intervals) {
            compared[place].interval = Some(interval);
        }
    }
}

impl Arm<'_> {
    /// The named row's answers and this arm's, seed by seed, where both were kept and are about the same images.
    fn answers(&self) -> impl Iterator<Item = (u64, &str, &[bool], &[bool])> {
        self.pairs().into_iter().filter_map(|(base, run)| {
            let (first, second) = (base.answers.as_ref()?, run.answers.as_ref()?);
            let same = first.of == second.of && first.right.len() == second.right.len();
            same.then_some((run.summary.seed, second.of.as_str(), &first.right[..], &second.right[..]))
        })
    }

    fn apart(&self) -> Vec<(u64, McNemar, P)> {
        let one = |(seed, _, first, second): (u64, &str, &[bool], &[bool])| {
            let apart = McNemar::of(first, second);
            (seed, apart, P::of(apart.p()))
        };
        self.answers().map(one).collect()
    }

    /// Over all seeds about the images of the first of them.
    fn brought(&self) -> Option<Brought> {
        let (_, of, first, _) = self.answers().next()?;
        let mut brought = Brought { of: of.to_owned(), each: vec![0; first.len()], seeds: 0 };
        for (.., first, second) in self.answers().filter(|answers| answers.1 == of) {
            brought.seeds += 1;
            for (each, (&first, &second)) in brought.each.iter_mut().zip(first.iter().zip(second)) {
                *each += i16::from(second) - i16::from(first);
            }
        }
        Some(brought)
    }
}
