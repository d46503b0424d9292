use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A learning rate that shrinks after every pass in which the loss did not fall any more.
///
/// # Source
/// "ALRS" in the released code of TST (arXiv:2212.05422): after a pass with loss L behind one with L', the rate is scaled by
/// 0.9 where L' − L < 0.02 and |L' − L| / (L' − 1e-6) < 0.02. A loss that rises by more than that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plateau {
    /// A fall of this much is one.
    pub fall: f64,
    /// So is a change of this share of the loss before.
    pub share: f64,
    /// What a pass without either leaves of the rate.
    pub gamma: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { fall: 0.02, share: 0.02, gamma: 0.9 }
    }
}

/// What the loss "before the first pass" was.
const BEFORE: f64 = 999.0;

impl Plateau {
    /// What is left of the rate after passes with these losses: a function of them alone, so that a run that resumes need
    /// remember nothing else.
    pub fn left(&self, losses: &[f64]) -> f64 {
        let before = std::iter::once(&BEFORE).chain(losses);
        let flat = |&(before, loss): &(&f64, &f64)| {
            let fall = before - loss;
            fall < self.fall && (fall / (before - 1e-6)).abs() < self.share
        };
        self.gamma.powi(before.zip(losses).filter(flat).count() as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from the released code's formula, by hand.
    #[test]
    fn the_rate_shrinks_where_the_loss_rests() {
        let losses = [5.0, 4.0, 3.99, 3.995, 3.5, 3.49, 3.6];
        let rates = [0.01, 0.01, 0.009, 0.0081, 0.0081, 0.00729, 0.00729];
        for (passed, rate) in (1..=losses.len()).zip(rates) {
            let left = 0.01 * Plateau::default().left(&losses[..passed]);
            assert!((left - rate).abs() < 1e-12, "{left} after {passed} passes, and {rate} is right");
        }
        assert_eq!(Plateau::default().left(&[]), 1.0);
    }
}
