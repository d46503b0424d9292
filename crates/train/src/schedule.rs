use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as Derived, Serialize};
use sokd_core::{DistillLoss, Pair, Result, Step, Terms};

/// A weight that may change over training: a number, or a table that says how.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Schedule {
    /// The same all along.
    Constant(f64),
    /// Little at first.
    Ramp(Ramp),
}

/// From almost nothing to all, in equal parts, one an epoch.
///
/// # Source
/// The warm-up of `ReviewKD` and DKD in their common code: `min(epoch / warmup, 1)` with epochs counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Derived, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// The first epoch at the full weight, counted from 1.
    pub ramp: f64,
    /// The full weight.
    #[serde(default = "one")]
    pub to: f64,
}

fn one() -> f64 {
    1.0
}

/// A loss that counts for more or less beside the prices of the plug-ins in front of it.
pub struct Weighted {
    /// What it counts for. Where that is nothing, it is not asked.
    pub weight: Schedule,
    /// Who compares.
    pub loss: Box<dyn DistillLoss>,
}

impl DistillLoss for Weighted {
    fn terms(&self, pair: &Pair<'_>, at: &Step) -> Result<Terms> {
        let weight = self.weight.at(at);
        if weight == 0.0 {
            return Ok(Terms::default());
        }
        Ok(self.loss.terms(pair, at)?.scaled(weight))
    }

    fn draw(&self, at: &Step) -> Result<()> {
        if self.weight.at(at) == 0.0 { Ok(()) } else { self.loss.draw(at) }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Constant(1.0)
    }
}

impl Schedule {
    /// The weight in a step.
    pub fn at(self, at: &Step) -> f64 {
        match self {
            Self::Constant(weight) => weight,
            Self::Ramp(Ramp { ramp, to }) => to * ((at.epoch as f64 + 1.0) / ramp).min(1.0),
        }
    }
}

/// By hand: serde's own untagged enums answer a misspelt key with no word about it.
impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Schedule;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number or a table such as { ramp = 20 }")
            }

            fn visit_f64<E>(self, weight: f64) -> Result<Schedule, E> {
                Ok(Schedule::Constant(weight))
            }

            fn visit_i64<E>(self, weight: i64) -> Result<Schedule, E> {
                Ok(Schedule::Constant(weight as f64))
            }

            fn visit_u64<E>(self, weight: u64) -> Result<Schedule, E> {
                Ok(Schedule::Constant(weight as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Schedule, A::Error> {
                Ramp::deserialize(MapAccessDeserializer::new(table)).map(Schedule::Ramp)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sokd_core::Key;

    fn weight(text: &str, epoch: usize) -> f64 {
        let schedule: Schedule = serde_json::from_str(text).expect("a schedule");
        schedule.at(&Step { epoch, ..Step::first(Key::new(0)) })
    }

    #[test]
    fn a_ramp_ends_in_the_epoch_it_names() {
        assert_eq!(weight(r#"{ "ramp": 20 }"#, 0), 0.05);
        assert_eq!(weight(r#"{ "ramp": 20 }"#, 18), 0.95);
        assert_eq!(weight(r#"{ "ramp": 20 }"#, 19), 1.0);
        assert_eq!(weight(r#"{ "ramp": 20, "to": 5.0 }"#, 239), 5.0);
        assert_eq!(weight("3", 0), 3.0);
        assert_eq!(weight("0.9", 7), 0.9);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for schedule in [Schedule::Constant(0.9), Schedule::Ramp(Ramp { ramp: 20.0, to: 8.0 })] {
            let text = serde_json::to_string(&schedule).expect("a schedule is plain data");
            assert_eq!(serde_json::from_str::<Schedule>(&text).expect("as it was"), schedule);
        }
    }

    #[test]
    fn a_typo_is_named() {
        let error = serde_json::from_str::<Schedule>(r#"{ "rump": 20 }"#).expect_err("misspelt").to_string();
        assert!(error.contains("unknown field `rump`, expected `ramp` or `to`"), "{error}");
    }
}
