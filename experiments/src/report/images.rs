//! Two networks on the same test images: what is said holds for these networks, and for no other seed.

use sokd_core::Key;
use statrs::function::factorial::ln_binomial;

/// Draws of a bootstrap.
pub const DRAWS: u64 = 10_000;

/// The images on which one of two networks is right and the other is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct McNemar {
    /// Only the second is right.
    pub won: usize,
    /// Only the first is right.
    pub lost: usize,
}

impl McNemar {
    /// Of what the first and the second answered, image by image.
    pub fn of(first: &[bool], second: &[bool]) -> Self {
        let count = |which: (bool, bool)| {
            first.iter().zip(second).filter(|&(&first, &second)| (first, second) == which).count()
        };
        Self { won: count((false, true)), lost: count((true, false)) }
    }

    /// The exact two-sided p, were each as likely to be won as lost: binomial at any number of images, where others go
    /// over to χ². As statsmodels' `mcnemar(exact=True)`.
    pub fn p(&self) -> f64 {
        let (n, fewer) = (self.won + self.lost, self.won.min(self.lost));
        let chance =
            |lost: usize| (ln_binomial(n as u64, lost as u64) - n as f64 * std::f64::consts::LN_2).exp();
        (2.0 * (0..=fewer).map(chance).sum::<f64>()).min(1.0)
    }
}

/// What an arm brings on each test image, summed over seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// The digest of the images.
    pub of: String,
    /// Seeds in which it is right, less those in which the named row is, image by image.
    pub each: Vec<i16>,
    /// How many seeds.
    pub seeds: usize,
}

impl Brought {
    /// The gain in per cent, were the images drawn as often as `weights` say.
    fn gain(&self, weights: &[i16]) -> f64 {
        let sum: i32 =
            weights.iter().zip(&self.each).map(|(&weight, &each)| i32::from(weight) * i32::from(each)).sum();
        100.0 * f64::from(sum) / (self.each.len() * self.seeds) as f64
    }
}

/// The 95 % percentile interval of the gain of each arm, in per cent, over test images drawn with replacement. An image
/// is drawn for all seeds and all arms at once, so that what they have in common stays in common.
///
/// # Source
/// Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; quantiles as numpy interpolates them.
pub fn bootstrap(arms: &[&Brought], draws: u64, key: Key) -> Vec<[f64; 2]> {
    let images = arms.first().map_or(0, |arm| arm.each.len());
    if images == 0 || draws == 0 {
        return Vec::new();
    }
    let mut gains = vec![Vec::with_capacity(draws as usize); arms.len()];
    for draw in 0..draws {
        let mut stream = key.fold_in(draw).stream();
        let mut weights = vec![0; images];
        for _ in 0..images {
            weights[stream.below(images as u32) as usize] += 1;
        }
        for (gains, arm) in gains.iter_mut().zip(arms) {
            gains.push(arm.gain(&weights));
        }
    }
    let interval = |gains: &mut Vec<f64>| {
        gains.sort_by(f64::total_cmp);
        [0.025, 0.975].map(|part| quantile(gains, part))
    };
    gains.iter_mut().map(interval).collect()
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = part * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what should be exact is compared exactly")]
mod tests {
    use super::*;

    fn arm(each: Vec<i16>, seeds: usize) -> Brought {
        Brought { of: String::new(), each, seeds }
    }

    /// 2 · (1 + 5) / 32, by hand.
    #[test]
    fn four_of_five_is_no_wonder() {
        let first = [true, false, false, false, false, true, false];
        let second = [false, true, true, true, true, true, false];
        let apart = McNemar::of(&first, &second);
        assert_eq!(apart, McNemar { won: 4, lost: 1 });
        assert!((apart.p() - 0.375).abs() < 1e-12, "{}", apart.p());
        assert_eq!(McNemar { won: 0, lost: 0 }.p(), 1.0);
    }

    /// A network that is right on the same images brings nothing, whatever is drawn; one that is right on all others
    /// too brings what it brings, give or take √(p·(1 − p)/n).
    #[test]
    fn an_interval_is_as_wide_as_the_images_are_few() {
        let one_in_five: Vec<i16> = (0..400).map(|image| i16::from(image % 5 == 0)).collect();
        let arms = [arm(vec![0; 400], 1), arm(one_in_five.clone(), 1), arm(one_in_five, 2)];
        let got = bootstrap(&arms.iter().collect::<Vec<_>>(), 2000, Key::new(0));
        assert_eq!(got[0], [0.0, 0.0]);
        let margin = 1.96 * (0.2f64 * 0.8 / 400.0).sqrt() * 100.0;
        assert!(
            (got[1][0] - (20.0 - margin)).abs() < 0.5 && (got[1][1] - (20.0 + margin)).abs() < 0.5,
            "{got:?}"
        );
        // Won in one of two seeds: half as much, on the same draws.
        assert_eq!(got[2], got[1].map(|edge| edge / 2.0));
    }

    #[test]
    fn quantiles_lie_between_what_was_drawn() {
        assert_eq!(quantile(&[0.0, 1.0, 2.0, 3.0], 0.5), 1.5);
        assert_eq!(quantile(&[4.0], 0.975), 4.0);
    }

    #[test]
    fn nothing_to_draw_from_is_no_interval() {
        assert!(bootstrap(&[], 10, Key::new(0)).is_empty());
        assert!(bootstrap(&[&arm(Vec::new(), 1)], 10, Key::new(0)).is_empty());
    }
}
