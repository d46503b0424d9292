//! What a few seeds can say.

use super::paired;
use std::fmt;

/// Mean and spread of a few runs.
///
/// # Example
/// ```
/// use sokd_experiments::report::Sample;
/// let runs = Sample::of(&[70.0, 71.0, 72.0]).expect("three runs");
/// assert_eq!(runs.to_string(), "71.00 ± 1.00");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The arithmetic mean.
    pub mean: f64,
    /// The sample standard deviation (divided by n − 1); `None` for a single run, which has none.
    pub deviation: Option<f64>,
    /// How many runs.
    pub n: usize,
}

impl Sample {
    /// `None` without runs.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        Some(Self { mean, deviation, n })
    }

    /// Half the width of the 95 % confidence interval of the mean, by Student's t.
    pub fn margin(&self) -> Option<f64> {
        Some(paired::t95(self.n)? * self.deviation? / (self.n as f64).sqrt())
    }

    /// The same with a sign, for differences.
    pub fn signed(&self) -> String {
        let spread = self.deviation.map_or(String::new(), |deviation| format!(" ± {deviation:.2}"));
        format!("{}{spread}", signed(self.mean))
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.mean)?;
        match self.deviation {
            Some(deviation) => write!(f, " ± {deviation:.2}"),
            None => Ok(()),
        }
    }
}

/// What one arm gained over another, seed by seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Gain {
    /// Over the seeds that both have.
    pub sample: Sample,
    /// In how many of them the arm was better.
    pub up: usize,
    /// Seed by seed.
    pub differences: Vec<f64>,
}

impl Gain {
    /// `pairs`: (without, with), of the same seed. `None` without pairs.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let differences: Vec<f64> = pairs.iter().map(|(without, with)| with - without).collect();
        let up = differences.iter().filter(|&&gain| gain > 0.0).count();
        Some(Self { sample: Sample::of(&differences)?, up, differences })
    }

    /// Whether the 95 % interval leaves zero out, and on which side; `None` where the seeds cannot tell.
    pub fn clear(&self) -> Option<bool> {
        let margin = self.sample.margin()?;
        (self.sample.mean.abs() > margin).then_some(self.sample.mean > 0.0)
    }

    /// The 95 % interval, in points.
    pub fn interval(&self) -> Option<[f64; 2]> {
        let margin = self.sample.margin()?;
        Some([self.sample.mean - margin, self.sample.mean + margin])
    }

    /// What can be said of it in a sentence: never more than the seeds show.
    pub fn verdict(&self) -> String {
        let Sample { mean, n, .. } = self.sample;
        let seeds = format!("better in {} of {n} {}", self.up, if n == 1 { "seed" } else { "seeds" });
        let points = format!("{} points", signed(mean));
        match (self.clear(), self.sample.margin()) {
            (Some(true), Some(margin)) => {
                format!("helps: {points} ({seeds}; 95 % interval {})", interval(mean, margin))
            }
            (Some(false), Some(margin)) => {
                format!("hurts: {points} ({seeds}; 95 % interval {})", interval(mean, margin))
            }
            (_, Some(margin)) => {
                let reading = if self.up == n { "seems to help" } else { "shows no clear gain" };
                let reading = if mean > 0.0 { reading } else { "does not help here" };
                format!("{reading}: {points} ({seeds}; 95 % interval {}, zero in it)", interval(mean, margin))
            }
            (_, None) => format!("{points} ({seeds}: one seed shows no more than that it ran)"),
        }
    }
}

fn interval(mean: f64, margin: f64) -> String {
    between([mean - margin, mean + margin])
}

/// An interval as every form prints it.
pub fn between([low, high]: [f64; 2]) -> String {
    format!("{} to {}", signed(low), signed(high))
}

/// `+1.25`, `−0.50`: with the minus sign that typesetters use.
pub fn signed(value: f64) -> String {
    let text = format!("{value:+.2}");
    text.replace('-', "−")
}

/// What `n` seeds can show at best of `arms` that are compared with another, in words.
pub fn reach(n: usize, arms: usize) -> String {
    match n {
        0 => "Nothing was measured yet.".to_owned(),
        1 => "One seed: no deviation can be given, and a difference between two single runs shows nothing."
            .to_owned(),
        _ => {
            let together = arms.max(1) as f64;
            let several = |text: String| if arms > 1 { text } else { String::new() };
            let corrected = several(format!(
                ", nor, corrected by Holm for {arms} arms, below {}",
                brief((together * least(n)).min(1.0))
            ));
            let enough =
                several(format!(", and {} with all {arms} arms corrected for", seeds_below(0.05 / together)));
            format!(
                "{n} seeds: a deviation taken from {n} runs is itself known to about ±{:.0} %, and no exact paired test \
                 over {n} seeds, such as Wilcoxon's, can reach a two-sided p below {}{corrected}: a p below 0.05 takes \
                 {} seeds{enough}. Student's t reaches further because it assumes that the paired differences are \
                 normally distributed, which {n} of them cannot show. The intervals are Student's and not corrected for \
                 the number of arms; p stands as it is and as Holm corrects it.",
                100.0 / (2.0 * (n - 1) as f64).sqrt(),
                brief(least(n)),
                seeds_below(0.05),
            )
        }
    }
}

/// The smallest two-sided p of an exact test over the signs of `n` differences: two of 2ⁿ patterns.
pub fn least(n: usize) -> f64 {
    2f64.powi(1 - n as i32)
}

/// The fewest whose least p is below `p`.
fn seeds_below(p: f64) -> usize {
    (2.0 / p).log2().floor() as usize + 1
}

/// Three digits that count.
pub fn brief(value: f64) -> String {
    let digits = (2.0 - value.log10().floor()).max(0.0) as usize;
    format!("{value:.digits$}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64, within: f64) {
        assert!((got - expected).abs() < within, "{got} is not {expected}");
    }

    /// By hand: mean 4, squares 9 + 1 + 1 + 9 = 20, 20 / 3.
    #[test]
    fn the_deviation_divides_by_n_minus_one() {
        let sample = Sample::of(&[1.0, 3.0, 5.0, 7.0]).expect("four");
        close(sample.mean, 4.0, 1e-12);
        close(sample.deviation.expect("four"), (20.0f64 / 3.0).sqrt(), 1e-12);
    }

    #[test]
    fn one_run_has_no_deviation_and_none_has_no_mean() {
        let one = Sample::of(&[61.5]).expect("one");
        assert_eq!((one.deviation, one.margin(), one.to_string()), (None, None, "61.50".to_owned()));
        assert_eq!(Sample::of(&[]), None);
    }

    /// Gains 1, 2, 3: mean 2, deviation 1, margin 4.303 / √3 = 2.484: zero is inside.
    #[test]
    fn three_seeds_that_scatter_do_not_convince() {
        let gain = Gain::of(&[(50.0, 51.0), (50.0, 52.0), (50.0, 53.0)]).expect("three");
        assert_eq!((gain.up, gain.clear()), (3, None));
        close(gain.sample.margin().expect("three"), 2.484, 1e-3);
        assert!(
            gain.verdict().starts_with("seems to help: +2.00 points (better in 3 of 3 seeds"),
            "{}",
            gain.verdict()
        );
    }

    #[test]
    fn three_seeds_that_agree_do() {
        let gain = Gain::of(&[(50.0, 54.0), (51.0, 55.1), (49.0, 53.2)]).expect("three");
        assert_eq!(gain.clear(), Some(true));
        let loss = Gain::of(&[(54.0, 50.0), (55.1, 51.0), (53.2, 49.0)]).expect("three");
        assert_eq!(loss.clear(), Some(false));
        assert!(
            loss.verdict().starts_with("hurts: −4.10 points (better in 0 of 3 seeds"),
            "{}",
            loss.verdict()
        );
    }

    #[test]
    fn a_method_that_does_not_help_is_told_so() {
        let gain = Gain::of(&[(50.0, 50.3), (51.0, 50.1), (49.0, 48.8)]).expect("three");
        assert!(gain.verdict().starts_with("does not help here: −0.27"), "{}", gain.verdict());
        let gain = Gain::of(&[(50.0, 51.3), (51.0, 50.7), (49.0, 48.9)]).expect("three");
        assert!(gain.verdict().starts_with("shows no clear gain: +0.30"), "{}", gain.verdict());
    }

    /// With n seeds the two most extreme of 2ⁿ sign patterns are the smallest two-sided p.
    #[test]
    fn reach_names_the_smallest_p() {
        let three = reach(3, 1);
        assert!(
            three.contains("±50 %") && three.contains("below 0.25: a p below 0.05 takes 6 seeds."),
            "{three}"
        );
        assert!(reach(5, 1).contains("below 0.0625: "), "{}", reach(5, 1));
        let four = reach(3, 4);
        assert!(four.contains("below 0.25, nor, corrected by Holm for 4 arms, below 1: "), "{four}");
        assert!(four.contains("takes 6 seeds, and 8 with all 4 arms corrected for."), "{four}");
    }
}
