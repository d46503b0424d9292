//! What a few seeds can say.

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
        Some(t_quantile(0.95, self.n - 1) * self.deviation? / (self.n as f64).sqrt())
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
}

impl Gain {
    /// `pairs`: (without, with), of the same seed. `None` without pairs.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let gains: Vec<f64> = pairs.iter().map(|(without, with)| with - without).collect();
        Some(Self { sample: Sample::of(&gains)?, up: gains.iter().filter(|&&gain| gain > 0.0).count() })
    }

    /// Whether the 95 % interval leaves zero out, and on which side; `None` where the seeds cannot tell.
    pub fn clear(&self) -> Option<bool> {
        let margin = self.sample.margin()?;
        (self.sample.mean.abs() > margin).then_some(self.sample.mean > 0.0)
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
    format!("{} to {}", signed(mean - margin), signed(mean + margin))
}

/// `+1.25`, `−0.50`: with the minus sign that typesetters use.
pub fn signed(value: f64) -> String {
    let text = format!("{value:+.2}");
    text.replace('-', "−")
}

/// What `n` seeds can show at best, in words.
pub fn reach(n: usize) -> String {
    match n {
        0 => "Nothing was measured yet.".to_owned(),
        1 => "One seed: no deviation can be given, and a difference between two single runs shows nothing."
            .to_owned(),
        _ => format!(
            "{n} seeds: a deviation taken from {n} runs is itself known to about ±{:.0} %, and no exact paired test \
             over {n} seeds can reach a two-sided p below {}. The intervals are Student's t over the paired \
             differences, which assumes that these are normally distributed, and they are not corrected for \
             the number of arms.",
            100.0 / (2.0 * (n - 1) as f64).sqrt(),
            (2e4 / 2f64.powi(n as i32)).round() / 1e4,
        ),
    }
}

/// The probability that Student's t with `freedom` degrees of freedom lies within ±`t`.
///
/// # Source
/// Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4: finite sums, exact for whole degrees.
fn t_within(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let (mut sum, mut term) = (0.0, if odd { cosine } else { 1.0 });
    for k in (usize::from(odd)..freedom.saturating_sub(1)).step_by(2) {
        sum += term;
        term *= cosine * cosine * (k + 1) as f64 / (k + 2) as f64;
    }
    if odd { (angle + sine * sum) * std::f64::consts::FRAC_2_PI } else { sine * sum }
}

/// The t within whose ± lies `probability`.
fn t_quantile(probability: f64, freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1e4);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if t_within(middle, freedom) < probability { low = middle } else { high = middle }
    }
    high
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

    /// The two-sided 5 % column of any printed t table.
    #[test]
    fn t_is_the_printed_table() {
        for (freedom, t) in
            [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042)]
        {
            close(t_quantile(0.95, freedom), t, 5e-4);
        }
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
        assert!(reach(3).contains("±50 %") && reach(3).contains("below 0.25."), "{}", reach(3));
        assert!(reach(5).contains("below 0.0625."), "{}", reach(5));
    }
}
