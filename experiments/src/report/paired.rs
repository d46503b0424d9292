//! How likely paired differences are, were there nothing behind them.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The two-sided p of the mean by Student's t, as SciPy's `ttest_1samp(differences, 0)` and, on the two samples,
/// `ttest_rel`; `None` for less than two. Differences that are all zero have p 1 here, where SciPy has no number.
pub fn t(differences: &[f64]) -> Option<f64> {
    let sample = super::Sample::of(differences)?;
    let error = sample.deviation? / (sample.n as f64).sqrt();
    if sample.mean == 0.0 {
        return Some(1.0);
    }
    Some(2.0 * student(sample.n)?.sf((sample.mean / error).abs()))
}

/// The t within whose ± lie 95 % of the means of `n` differences, in units of their standard error.
pub fn t95(n: usize) -> Option<f64> {
    Some(student(n)?.inverse_cdf(0.975))
}

fn student(n: usize) -> Option<StudentsT> {
    StudentsT::new(0.0, 1.0, n.checked_sub(1)? as f64).ok()
}

/// The two-sided p of Wilcoxon's signed ranks over all 2ⁿ patterns of signs; `None` without differences.
///
/// Zeros are left out and equals share their mean rank, so that the p is exact with both: SciPy's
/// `wilcoxon(method=PermutationMethod())`, and its `method="exact"` where there are neither zeros nor equals.
pub fn wilcoxon(differences: &[f64]) -> Option<f64> {
    if differences.is_empty() {
        return None;
    }
    // Per cents that differ by as many images may differ in their last bits: nine digits make them equals.
    let rounded = differences.iter().map(|difference| (difference * 1e9).round() as i64);
    let mut sizes: Vec<(u64, bool)> =
        rounded.filter(|&size| size != 0).map(|size| (size.unsigned_abs(), size > 0)).collect();
    sizes.sort_unstable();
    // Twice the rank: the mean rank of two is no whole number.
    let mut ranks = Vec::with_capacity(sizes.len());
    for equals in sizes.chunk_by(|one, other| one.0 == other.0) {
        let rank = 2 * ranks.len() + equals.len() + 1;
        ranks.extend(equals.iter().map(|_| rank));
    }
    let whole: usize = ranks.iter().sum();
    let up: usize = ranks.iter().zip(&sizes).filter(|(_, size)| size.1).map(|(rank, _)| rank).sum();
    // How many patterns have a sum of positive ranks, rank by rank.
    let mut patterns = vec![0.0; whole + 1];
    patterns[0] = 1.0;
    for &rank in &ranks {
        for sum in (rank..=whole).rev() {
            patterns[sum] += patterns[sum - rank];
        }
    }
    let tail: f64 = patterns[..=up.min(whole - up)].iter().sum();
    Some((2.0 * tail / 2f64.powi(ranks.len() as i32)).min(1.0))
}

/// The same p, each corrected for all that were asked together.
///
/// # Source
/// Holm, A simple sequentially rejective multiple test procedure (1979).
pub fn holm(raw: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..raw.len()).collect();
    order.sort_by(|&one, &other| raw[one].total_cmp(&raw[other]));
    let mut corrected = vec![0.0; raw.len()];
    let mut before: f64 = 0.0;
    for (at, &index) in order.iter().enumerate() {
        before = before.max(((raw.len() - at) as f64 * raw[index]).min(1.0));
        corrected[index] = before;
    }
    corrected
}

/// A p as it is printed: three or four digits, and no more zeros than anybody believes.
pub fn printed(p: f64) -> String {
    match p {
        _ if p < 1e-4 => "<0.0001".to_owned(),
        _ if p < 0.01 => format!("{p:.4}"),
        _ => format!("{p:.3}"),
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what should be exact is compared exactly")]
mod tests {
    use super::*;

    /// Five gains: 2 of 32 patterns are as one-sided. SciPy says the same, and so do its users in their papers.
    #[test]
    fn five_seeds_cannot_reach_a_twentieth() {
        assert_eq!(wilcoxon(&[1.0, 2.0, 3.0, 4.0, 5.0]), Some(0.0625));
        assert_eq!(wilcoxon(&[0.0, 0.0]), Some(1.0));
        assert_eq!(wilcoxon(&[]), None);
    }

    /// 70.1 − 69.7 and 10.4 − 10.0 are not the same number to the last bit, and the same gain.
    #[test]
    fn the_last_bits_decide_nothing() {
        let (one, other) = (70.1 - 69.7, 10.4 - 10.0);
        assert!(one != other);
        // As equals, of opposite signs, they leave all four patterns as likely.
        assert_eq!(wilcoxon(&[one, -other]), Some(1.0));
        assert_eq!(wilcoxon(&[one, -other, 1.0, 2.0]), wilcoxon(&[-one, other, 1.0, 2.0]));
    }

    /// By hand: 0.01 · 3, 0.02 · 2, 0.03 · 1, which may not fall below the one before.
    #[test]
    fn holm_never_turns_around() {
        assert_eq!(holm(&[0.03, 0.01, 0.02]), [0.04, 0.03, 0.04]);
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert_eq!(holm(&[]), [0.0; 0]);
    }

    #[test]
    fn what_never_differs_is_not_told_apart() {
        assert_eq!(t(&[0.0, 0.0, 0.0]), Some(1.0));
        assert_eq!(t(&[1.0]), None);
        assert_eq!(t(&[0.5, 0.5]), Some(0.0));
    }
}
