//! Which arm of a column is best, as far as its seeds tell.

use super::{Arm, Gain, Report, Score};

/// How an arm stands to the best of its column, by the last epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The highest mean, told apart from another arm at least.
    Best,
    /// Not told apart from the best.
    Alike,
    /// Neither.
    Behind,
}

/// What the marks mean, in the forms that print them as `best` and †.
pub fn caption(best: &str) -> String {
    format!(
        "{best}: the highest mean after the last epoch, marked only where the seeds tell it apart from another arm; †: not \
         told apart from it, for the 95 % interval of the differences, paired by seed, has zero in it"
    )
}

impl Report {
    /// How each arm of a column stands, in the order of the rows. One run says nothing of the next, so an arm of one seed
    /// is never best; nor is one from which no other arm can be told apart.
    pub(super) fn standings(&self, column: &str) -> Vec<Standing> {
        let arms = self.arms(column);
        let mean =
            |arm: &Arm<'_>| arm.sample(Score::Last).filter(|sample| sample.n > 1).map(|sample| sample.mean);
        let ranked = arms.iter().filter_map(|arm| Some((arm, mean(arm)?)));
        let Some((best, _)) = ranked.max_by(|(_, one), (_, other)| one.total_cmp(other)) else {
            return vec![Standing::Behind; arms.len()];
        };
        let standing = |arm: &Arm<'_>| match best.over(&arm.runs, Score::Last) {
            _ if arm.series == best.series => Standing::Best,
            _ if arm.runs.is_empty() => Standing::Behind,
            Some(gain) if gain.clear().is_some() => Standing::Behind,
            // Also where they have no two seeds in common.
            _ => Standing::Alike,
        };
        let standings: Vec<Standing> = arms.iter().map(standing).collect();
        let measured = standings.iter().zip(&arms).filter(|(_, arm)| !arm.runs.is_empty());
        if measured.filter(|(standing, _)| **standing == Standing::Behind).count() == 0 {
            return vec![Standing::Behind; arms.len()];
        }
        standings
    }
}

impl Arm<'_> {
    /// Over other runs, seed by seed.
    pub(super) fn over(&self, others: &[&super::Measured], score: Score) -> Option<Gain> {
        let pairs = super::paired_by_seed(others, &self.runs);
        Gain::of(&pairs.iter().map(|(base, run)| (score.of(base), score.of(run))).collect::<Vec<_>>())
    }
}
