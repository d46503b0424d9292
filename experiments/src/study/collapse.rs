//! Whether a detector of areas still looks at the image.

use super::history::{Curve, epochs};
use serde_json::{Map, Value};

/// The detector's monitor over the epochs of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Monitor {
    /// For each of [`Monitor::READINGS`], in their order.
    pub curves: Vec<Curve>,
}

/// What a monitor says at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The first epoch, from 1, from which on the detector had collapsed to the end; `None` where it had not.
    pub since: Option<f64>,
    /// The last epoch's spread.
    pub spread: f64,
    /// The last epoch's share of distinct sets of centres.
    pub distinct: f64,
}

/// Below this, a heatmap's values vary so little over its cells that its peaks are an order of ties.
///
/// # Source
/// ours: of detectors that we saw collapse, spreads fell to 0 within twenty steps; the smallest of one whose boxes still
/// differed from image to image was about 0.009.
pub const SPREAD: f64 = 1e-3;

/// Below this share of different sets of centres, fewer than one image of four has boxes of its own.
///
/// # Source
/// ours: collapsed detectors have one set for a whole batch, the others nearly as many as images.
pub const DISTINCT: f64 = 0.25;

impl Monitor {
    /// What the readings are called, and what they say.
    pub const READINGS: [(&'static str, &'static str); 5] = [
        ("spread", "Spread: standard deviation of a heatmap over its cells"),
        ("distinct", "Distinct: different sets of centres, a share of the images"),
        ("coverage", "Coverage: cells inside a box, a share of the map"),
        ("top-cell", "Top cell: share of the boxes on the most used cell"),
        ("size", "Size: mean side of a box, in cells"),
    ];

    /// What the phase that trains the student, `learner`, logged; `None` where no detector spoke.
    pub fn read(lines: &[Map<String, Value>], learner: &str) -> Option<Self> {
        let mut curves = vec![Curve::new(); Self::READINGS.len()];
        for line in epochs(lines) {
            let Some(epoch) = line.get("epoch").and_then(Value::as_f64) else { continue };
            for ((reading, _), curve) in Self::READINGS.iter().zip(&mut curves) {
                // Between the phase and the reading stands the term's name, and nothing else.
                let said = line.iter().find(|(name, _)| {
                    let path: Vec<&str> = name.split('/').collect();
                    matches!(path[..], ["train", phase, _, last] if phase == learner && last == *reading)
                });
                curve.extend(said.and_then(|(_, value)| Some((epoch + 1.0, value.as_f64()?))));
            }
        }
        (curves.iter().take(2).all(|curve| !curve.is_empty())).then_some(Self { curves })
    }

    /// What it says at the end.
    pub fn verdict(&self) -> Option<Verdict> {
        let [spread, distinct, ..] = &self.curves[..] else { return None };
        let collapsed = |spread: f64, distinct: f64| spread < SPREAD || distinct < DISTINCT;
        let since = spread
            .iter()
            .zip(distinct)
            .rev()
            .take_while(|((_, spread), (_, distinct))| collapsed(*spread, *distinct))
            .last();
        Some(Verdict {
            since: since.map(|((epoch, _), _)| *epoch),
            spread: spread.last()?.1,
            distinct: distinct.last()?.1,
        })
    }
}

impl Verdict {
    /// In plain words.
    pub fn sentence(&self) -> String {
        let Self { since, spread, distinct } = *self;
        let sets = 100.0 * distinct;
        let why = if distinct < DISTINCT {
            "most images get the same boxes, whatever they show"
        } else {
            "its heatmaps are all but flat, and where its boxes lie rests on next to nothing"
        };
        match since {
            Some(epoch) => format!(
                "The detector has collapsed, from epoch {epoch} on: at the end a heatmap’s values spread by {spread:.1e} \
                 over its cells, and there were {sets:.0} different sets of centres for 100 images. That is, {why}. Nothing \
                 here is an area of mutual interest, and what this arm gained or lost is no evidence for such areas."
            ),
            None => format!(
                "The detector has not collapsed: at the end a heatmap’s values spread by {spread:.3} over its cells, and \
                 there were {sets:.0} different sets of centres for 100 images. That its boxes lie on anything that \
                 matters is another question; their score against chance answers it, where true boxes are known."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(readings: &[(f64, f64)]) -> Vec<Map<String, Value>> {
        let line = |(epoch, (spread, distinct)): (usize, &(f64, f64))| {
            let line = json!({
                "event": "epoch", "epoch": epoch, "train/student/distill/spread": spread,
                "train/student/distill/distinct": distinct, "train/policy/distill/spread": 7.0,
                "train/student/distill/size": 1.5, "train/student/distill/drawn/size": 9.0,
            });
            line.as_object().expect("an object").clone()
        };
        readings.iter().enumerate().map(line).collect()
    }

    #[test]
    fn a_collapse_counts_from_where_it_stays() {
        let of = |readings: &[(f64, f64)]| {
            Monitor::read(&run(readings), "student").expect("a detector").verdict().expect("two curves")
        };
        let lasting = of(&[(1e-5, 0.06), (0.2, 1.0), (5e-4, 1.0), (0.1, 0.06)]);
        assert_eq!(lasting, Verdict { since: Some(3.0), spread: 0.1, distinct: 0.06 });
        assert!(lasting.sentence().contains("from epoch 3 on"), "{}", lasting.sentence());
        let passing = of(&[(1e-5, 0.06), (0.2, 1.0)]);
        assert_eq!(passing.since, None, "it came back");
        // The figures of the measured runs that the thresholds stand between.
        assert_eq!(of(&[(0.0097, 1.0)]).since, None);
        assert_eq!(of(&[(0.0, 1.0 / 64.0)]).since, Some(1.0));
    }

    #[test]
    fn only_the_students_phase_is_read() {
        let monitor = Monitor::read(&run(&[(0.2, 1.0)]), "student").expect("a detector");
        assert_eq!(monitor.curves, [vec![(1.0, 0.2)], vec![(1.0, 1.0)], vec![], vec![], vec![(1.0, 1.5)]]);
        assert_eq!(Monitor::read(&run(&[(0.2, 1.0)]), "other"), None);
    }
}
