//! Learning rates over a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Epochs finished before this one.
    pub epoch: usize,
    /// Steps finished in this epoch.
    pub step: usize,
    /// Steps in an epoch.
    pub steps: usize,
    /// Epochs in the run.
    pub epochs: usize,
}

impl Moment {
    /// Epochs finished, with the finished part of this one.
    fn progress(&self) -> f64 {
        self.epoch as f64 + self.step as f64 / self.steps as f64
    }
}

/// A learning rate over a run: a base, what becomes of it, and a gentle start.
///
/// # Source
/// Defaults: the CIFAR-100 recipe of Tian et al., 2020 (arXiv:1910.10699), section 4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct LrSchedule {
    /// The learning rate at first, once warm.
    pub base: f64,
    /// Over so many epochs the rate is scaled up from 0, linearly in steps: the n-th of N steps takes n/N of what it
    /// would take otherwise (Goyal et al., 2017, arXiv:1706.02677, section 2.2). The decay's clock runs meanwhile.
    pub warmup_epochs: usize,
    /// What becomes of the base.
    pub decay: DecaySpec,
}

impl Default for LrSchedule {
    fn default() -> Self {
        Self { base: 0.05, warmup_epochs: 0, decay: DecaySpec::MultiStep(MultiStep::default()) }
    }
}

impl LrSchedule {
    /// The rate of the step that begins now.
    pub fn at(&self, now: &Moment) -> f64 {
        let warm = match self.warmup_epochs * now.steps {
            0 => 1.0,
            steps => ((now.epoch * now.steps + now.step + 1) as f64 / steps as f64).min(1.0),
        };
        warm * self.decay.as_ref().at(self.base, now)
    }
}

/// What becomes of a learning rate.
pub trait Decay {
    /// The rate of the step that begins now, once warm.
    fn at(&self, base: f64, now: &Moment) -> f64;
}

sokd_core::catalog! {
    /// A decay that a recipe may name.
    pub enum DecaySpec: AsRef<dyn Decay> {
        Constant(Constant),
        MultiStep(MultiStep),
        Cosine(Cosine),
    }
}

/// The base, all along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

impl Decay for Constant {
    fn at(&self, base: f64, _: &Moment) -> f64 {
        base
    }
}

/// Drops at some epochs, as `torch.optim.lr_scheduler.MultiStepLR`.
///
/// # Source
/// Defaults: Tian et al., 2020 (arXiv:1910.10699), section 4, for 240 epochs. The field's code decays when its epoch,
/// counted from 1, is *above* 150: the first epoch at the lower rate is the one with index 150, counted from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MultiStep {
    /// Epochs, from 0, that are the first at a lower rate.
    pub milestones: Vec<usize>,
    /// What each milestone leaves of the rate.
    pub gamma: f64,
}

impl Default for MultiStep {
    fn default() -> Self {
        Self { milestones: vec![150, 180, 210], gamma: 0.1 }
    }
}

impl Decay for MultiStep {
    fn at(&self, base: f64, now: &Moment) -> f64 {
        let passed = self.milestones.iter().filter(|&&milestone| milestone <= now.epoch).count();
        base * self.gamma.powi(passed as i32)
    }
}

/// Half a cosine from the base to a least rate, as `torch.optim.lr_scheduler.CosineAnnealingLR`.
///
/// # Source
/// Loshchilov and Hutter, 2017 (arXiv:1608.03983), equation (5), without restarts. Epoch by epoch as timm does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// The rate at the end, and after it.
    pub min: f64,
    /// How many epochs it takes; the whole run, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// How often the rate changes.
    pub each: Each,
}

/// How often a rate changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Each {
    /// Once an epoch.
    #[default]
    Epoch,
    /// Every step.
    Step,
}

impl Decay for Cosine {
    fn at(&self, base: f64, now: &Moment) -> f64 {
        let passed = match self.each {
            Each::Epoch => now.epoch as f64,
            Each::Step => now.progress(),
        };
        let share = (passed / self.epochs.unwrap_or(now.epochs).max(1) as f64).min(1.0);
        self.min + (base - self.min) * (1.0 + (std::f64::consts::PI * share).cos()) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(epoch: usize, step: usize) -> Moment {
        Moment { epoch, step, steps: 4, epochs: 240 }
    }

    #[test]
    fn the_first_low_epoch_is_the_milestone_counted_from_zero() {
        let lr = LrSchedule::default();
        assert!((lr.at(&moment(149, 3)) - 0.05).abs() < 1e-15);
        assert!((lr.at(&moment(150, 0)) - 0.005).abs() < 1e-15);
        assert!((lr.at(&moment(239, 3)) - 0.000_05).abs() < 1e-15);
    }

    #[test]
    fn warmth_comes_step_by_step() {
        let lr = LrSchedule { base: 0.8, warmup_epochs: 2, decay: DecaySpec::Constant(Constant {}) };
        let rates: Vec<_> = (0..12).map(|step| lr.at(&moment(step / 4, step % 4))).collect();
        let expected = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8];
        assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{rates:?}");
    }

    #[test]
    fn a_cosine_by_steps_meets_the_cosine_by_epochs_at_every_epoch() {
        let by = |each| Cosine { min: 0.001, epochs: Some(10), each };
        for epoch in 0..12 {
            let now = moment(epoch, 0);
            assert_eq!(by(Each::Epoch).at(0.1, &now), by(Each::Step).at(0.1, &now));
        }
        let now = moment(5, 2);
        assert!(by(Each::Step).at(0.1, &now) < by(Each::Epoch).at(0.1, &now));
        assert_eq!(by(Each::Step).at(0.1, &moment(11, 3)), 0.001);
    }

    #[test]
    fn a_typo_has_a_path() {
        let text = r#"{ "base": 0.1, "decay": { "type": "multi-step", "milestone": [3] } }"#;
        let error = serde_json::from_str::<LrSchedule>(text).expect_err("milestone is misspelt").to_string();
        let (path, message) =
            sokd_core::misfit(error.split(" at line").next().unwrap_or(&error)).expect("marked");
        assert!(path == "milestone" && message.contains("expected `milestones` or `gamma`"), "{error}");
    }
}
