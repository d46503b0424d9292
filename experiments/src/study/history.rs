//! What a learned policy did, epoch by epoch or pass by pass, as a run's metrics tell it.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One number over epochs or passes: pairs of one of these, counted from 1, and a value.
pub type Curve = Vec<(f64, f64)>;

/// What a policy's history is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Epochs of the student.
    Epochs,
    /// Passes of a search that has epochs of its own, an interlude: they are counted over the whole run.
    Passes,
}

impl Clock {
    /// The event of a line of metrics.
    fn event(self) -> &'static str {
        match self {
            Self::Epochs => "epoch",
            Self::Passes => "pass",
        }
    }

    /// Where a line stands, counted from 1.
    fn at(self, line: &Map<String, Value>) -> Option<f64> {
        match self {
            Self::Epochs => Some(line.get("epoch")?.as_f64()? + 1.0),
            Self::Passes => line.get("passes")?.as_f64(),
        }
    }
}

/// A policy over the epochs of a run, or the passes of its search, operation by operation.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// What it is told by.
    pub clock: Clock,
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

    /// The histories that lines of metrics tell: of DAFA by epochs, of TST by passes; none where no policy spoke.
    ///
    /// Readings are called `train/<phase>/<term>/<aspect>/<operation>`. What is drawn is told by the phase that trains
    /// the student, `learner`, and the rest by the one that looks.
    pub fn read(lines: &[Map<String, Value>], learner: &str) -> Vec<Self> {
        let clocks = [Clock::Epochs, Clock::Passes];
        clocks.into_iter().filter_map(|clock| Self::by(clock, lines, learner)).collect()
    }

    fn by(clock: Clock, lines: &[Map<String, Value>], learner: &str) -> Option<Self> {
        let mut curves: BTreeMap<(usize, String), Curve> = BTreeMap::new();
        for line in told(lines, clock.event()) {
            let Some(at) = clock.at(line) else { continue };
            for (name, value) in line {
                let path: Vec<&str> = name.split('/').collect();
                let ["train", phase, .., aspect, operation] = path[..] else { continue };
                let aspect = Self::ASPECTS.iter().position(|(known, _)| *known == aspect);
                let (Some(aspect), Some(value)) = (aspect, value.as_f64()) else { continue };
                if (Self::ASPECTS[aspect].0 == "drawn") == (phase == learner) {
                    curves.entry((aspect, operation.to_owned())).or_default().push((at, value));
                }
            }
        }
        let mut history = Self { clock, aspects: Vec::new() };
        for ((aspect, operation), curve) in curves {
            let name = Self::ASPECTS[aspect].0;
            match history.aspects.last_mut() {
                Some((known, operations)) if *known == name => operations.push((operation, curve)),
                _ => history.aspects.push((name, vec![(operation, curve)])),
            }
        }
        (!history.aspects.is_empty()).then_some(history)
    }

    /// The operations that a policy came to prefer, the most probable first, as it last stood: to be drawn where that is
    /// learned, and to be executed where all are drawn evenly.
    pub fn preferred(&self) -> Vec<(&str, f64)> {
        let learned = match self.clock {
            Clock::Epochs => "probability",
            Clock::Passes => "execution",
        };
        let probability = self.aspects.iter().find(|(name, _)| *name == learned);
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
    told(lines, Clock::Epochs.event())
}

fn told<'a>(lines: &'a [Map<String, Value>], event: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
    lines.iter().filter(move |line| line.get("event").is_some_and(|known| known == event))
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
        let histories = History::read(&lines(), "student");
        let [history] = &histories[..] else { panic!("one policy spoke: {histories:?}") };
        assert_eq!(history.clock, Clock::Epochs);
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
        assert_eq!(History::read(&[line.as_object().expect("an object").clone()], "student"), []);
    }

    /// As TST's search writes them: two passes before epoch 3, one before epoch 9.
    #[test]
    fn passes_have_a_clock_of_their_own() {
        let pass = |passes: u64, epoch: u64, invert: f64, level: f64| {
            let line = json!({
                "event": "pass", "epoch": epoch, "step": 40, "passes": passes, "train/search/loss": 1.0,
                "train/search/lens/execution/invert": invert, "train/search/lens/execution/rotate": 0.7,
                "train/search/lens/level/rotate": level, "train/search/search-teacher": 2.0,
            });
            line.as_object().expect("an object").clone()
        };
        let mut all = lines();
        all.extend([pass(1, 3, 0.6, 0.5), pass(2, 3, 0.5, 0.25), pass(3, 9, 0.4, 0.125)]);
        let histories = History::read(&all, "student");
        assert_eq!(histories.len(), 2, "one policy of each kind");
        assert_eq!(histories[0], History::read(&lines(), "student")[0], "epochs are as they were");
        let invert = vec![(1.0, 0.6), (2.0, 0.5), (3.0, 0.4)];
        let rotate = vec![(1.0, 0.7), (2.0, 0.7), (3.0, 0.7)];
        let level = vec![("rotate".to_owned(), vec![(1.0, 0.5), (2.0, 0.25), (3.0, 0.125)])];
        let execution = vec![("invert".to_owned(), invert), ("rotate".to_owned(), rotate)];
        assert_eq!(histories[1].clock, Clock::Passes);
        assert_eq!(histories[1].aspects, [("execution", execution), ("level", level)]);
        assert_eq!(histories[1].preferred(), [("rotate", 0.7), ("invert", 0.4)]);
    }
}
