//! What a learned policy did, epoch by epoch, as a run's metrics tell it.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One number over the epochs: pairs of an epoch, counted from 1, and a value.
pub type Curve = Vec<(f64, f64)>;

/// A policy over the epochs of a run, operation by operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Curves under their operation's name, for each of [`History::ASPECTS`] that was logged, in that order.
    pub aspects: Vec<(&'static str, Vec<(String, Curve)>)>,
}

impl History {
    /// What a policy's readings are called, and what they say.
    pub const ASPECTS: [(&'static str, &'static str); 4] = [
        ("probability", "Probability of being one of the two operations drawn"),
        ("execution", "Probability of being executed, once drawn"),
        ("level", "Level, from 0 to 1"),
        ("drawn", "Share of the student’s steps in which it was executed"),
    ];

    /// The history that lines of metrics tell; `None` where no policy spoke.
    ///
    /// Readings are called `train/<phase>/<term>/<aspect>/<operation>`. What is drawn is told by the phase that trains
    /// the student, `learner`, and the rest by the one that looks.
    pub fn read(lines: &[Map<String, Value>], learner: &str) -> Option<Self> {
        let mut curves: BTreeMap<(usize, String), Curve> = BTreeMap::new();
        for line in epochs(lines) {
            let Some(epoch) = line.get("epoch").and_then(Value::as_f64) else { continue };
            for (name, value) in line {
                let path: Vec<&str> = name.split('/').collect();
                let ["train", phase, .., aspect, operation] = path[..] else { continue };
                let aspect = Self::ASPECTS.iter().position(|(known, _)| *known == aspect);
                let (Some(aspect), Some(value)) = (aspect, value.as_f64()) else { continue };
                if (Self::ASPECTS[aspect].0 == "drawn") == (phase == learner) {
                    curves.entry((aspect, operation.to_owned())).or_default().push((epoch + 1.0, value));
                }
            }
        }
        let mut history = Self::default();
        for ((aspect, operation), curve) in curves {
            let name = Self::ASPECTS[aspect].0;
            match history.aspects.last_mut() {
                Some((known, operations)) if *known == name => operations.push((operation, curve)),
                _ => history.aspects.push((name, vec![(operation, curve)])),
            }
        }
        (!history.aspects.is_empty()).then_some(history)
    }

    /// The operations that a policy came to prefer, the most probable first, as it last stood.
    pub fn preferred(&self) -> Vec<(&str, f64)> {
        let probability = self.aspects.iter().find(|(name, _)| *name == "probability");
        let mut last: Vec<(&str, f64)> = probability
            .into_iter()
            .flat_map(|(_, operations)| operations)
            .filter_map(|(operation, curve)| Some((operation.as_str(), curve.last()?.1)))
            .collect();
        last.sort_by(|a, b| b.1.total_cmp(&a.1));
        last
    }
}

/// The lines that tell of whole epochs.
pub(super) fn epochs(lines: &[Map<String, Value>]) -> impl Iterator<Item = &Map<String, Value>> {
    lines.iter().filter(|line| line.get("event").is_some_and(|event| event == "epoch"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines() -> Vec<Map<String, Value>> {
        let line = |value: Value| value.as_object().expect("an object").clone();
        vec![
            line(json!({ "event": "step", "epoch": 0, "train/policy/distill/probability/noise": 9.0 })),
            line(json!({
                "event": "epoch", "epoch": 0,
                "train/policy/distill/probability/noise": 0.25, "train/policy/distill/probability/cutout": 0.5,
                "train/policy/distill/drawn/noise": 1.0, "train/student/distill/drawn/noise": 0.125,
            })),
            line(json!({ "event": "epoch", "epoch": 1, "train/policy/distill/probability/noise": 0.75,
                         "train/policy/distill/probability/cutout": null })),
        ]
    }

    #[test]
    fn each_phase_tells_its_own_part() {
        let history = History::read(&lines(), "student").expect("a policy spoke");
        let probability = vec![
            ("cutout".to_owned(), vec![(1.0, 0.5)]),
            ("noise".to_owned(), vec![(1.0, 0.25), (2.0, 0.75)]),
        ];
        let drawn = vec![("noise".to_owned(), vec![(1.0, 0.125)])];
        assert_eq!(history.aspects, [("probability", probability), ("drawn", drawn)]);
        assert_eq!(history.preferred(), [("noise", 0.75), ("cutout", 0.5)]);
    }

    #[test]
    fn a_run_without_a_policy_has_no_history() {
        let line = json!({ "event": "epoch", "epoch": 0, "train/student/distill/fitnet": 1.0 });
        assert_eq!(History::read(&[line.as_object().expect("an object").clone()], "student"), None);
    }
}
