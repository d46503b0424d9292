//! The areas that a detector finds on test images.

use super::reading::Sight;
use super::trained::Trained;
use serde::{Deserialize, Serialize};
use sokd_core::{Area, Dataset, Error, Key, Mode, Pair, Result, Side, Split, Step};
use sokd_dam::areas::{Found, Grid};
use sokd_dam::{Whose, score};
use std::collections::BTreeMap;

/// What a run's detector finds on test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Areas {
    /// The table's row.
    pub arm: String,
    /// In whose map it looks.
    pub whose: Whose,
    /// Its boxes on each of the images that are shown, in pixels.
    pub boxes: Vec<Vec<Area>>,
    /// Boxes an image, a mean over the images looked at.
    pub count: f64,
    /// Against the true boxes, where the data knows them.
    pub score: Option<Overlap>,
}

/// How well boxes lie on what they should have found: intersection over union and the share of centres inside, means over
/// boxes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Overlap {
    /// On the image's own true box.
    pub own: [f64; 2],
    /// The same boxes at places drawn evenly.
    pub chance: [f64; 2],
    /// The same boxes on the next image's true box: what a detector reaches that looks at no image, but knows where things
    /// tend to be.
    pub other: [f64; 2],
}

impl Overlap {
    /// Of the boxes in each image; `None` without a box.
    pub fn of(found: &[Vec<Found>], truth: &[Area], grid: Grid) -> Option<Self> {
        let own = score(found, truth, grid)?;
        let mut next = truth.to_vec();
        next.rotate_left(usize::from(!truth.is_empty()));
        let other = score(found, &next, grid)?;
        Some(Self {
            own: [own.overlap, own.inside],
            chance: [own.overlap_by_chance, own.inside_by_chance],
            other: [other.overlap, other.inside],
        })
    }

    /// Whether it is better than both, in a few words.
    pub fn verdict(&self) -> &'static str {
        let above = |of: &[f64; 2]| self.own.iter().zip(of).filter(|(own, of)| own > of).count();
        match (above(&self.chance), above(&self.other)) {
            (2, 2) => "above both",
            (2, _) => "no better than for another image",
            (_, 2) => "no better than chance",
            _ => "no better than either",
        }
    }
}

impl Areas {
    /// Looks at the images; `shown` are places among them.
    ///
    /// # Errors
    /// A run without a detector or a teacher; whatever the networks refuse.
    pub fn of(arm: &str, run: &Trained, sight: &Sight, shown: &[usize], data: &dyn Dataset) -> Result<Self> {
        let missing = |what| Error::setting("areas", format!("the run has no {what}"));
        let (detector, whose) = run.detector.as_ref().ok_or_else(|| missing("detector"))?;
        let teacher = run.teacher.as_deref().ok_or_else(|| missing("teacher"))?;
        let (mut found, mut grid) = (Vec::new(), None);
        for batch in sight.batches(data) {
            let batch = batch?;
            let pair = Pair {
                student: Side::new(run.student.as_ref(), Mode::Eval, &batch.images)?,
                teacher: Some(Side::new(teacher, Mode::Eval, &batch.images)?),
                images: batch.images,
                labels: batch.labels,
                rows: batch.rows,
                showings: 1,
                adapted: BTreeMap::new(),
            };
            let look = detector.look(&pair, &Step::first(Key::new(0)))?;
            grid = Some(look.grid);
            found.extend(look.found);
        }
        let grid = grid.ok_or_else(|| missing("test images"))?;
        let truth = data.areas(Split::Test).map(|areas| -> Vec<Area> {
            sight.rows.iter().filter_map(|row| areas.get(*row as usize)).copied().collect()
        });
        let scored = truth.filter(|truth| truth.len() == found.len());
        let boxes = |at: &usize| found[*at].iter().map(|found| grid.area(&found.cells)).collect();
        Ok(Self {
            arm: arm.to_owned(),
            whose: *whose,
            boxes: shown.iter().map(boxes).collect(),
            count: found.iter().map(Vec::len).sum::<usize>() as f64 / found.len() as f64,
            score: scored.and_then(|truth| Overlap::of(&found, &truth, grid)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sokd_dam::areas::{Cells, Peak};

    /// By hand: a map of 2 × 2 over 8 × 8 pixels; the first image's thing is upper left, the second's lower right.
    #[test]
    fn a_box_on_its_own_thing_is_not_on_the_others() {
        let area = |top, left| Area { top, left, bottom: top + 4.0, right: left + 4.0 };
        let found = |row, column| {
            let peak = Peak { channel: 0, row, column, value: 1.0 };
            vec![Found {
                peak,
                size: [1.0; 2],
                cells: Cells { top: row, left: column, bottom: row, right: column },
            }]
        };
        let grid = Grid { map: [2, 2], image: [8, 8] };
        let truth = [area(0.0, 0.0), area(4.0, 4.0)];
        let right = Overlap::of(&[found(0, 0), found(1, 1)], &truth, grid).expect("two boxes");
        assert_eq!(right, Overlap { own: [1.0; 2], chance: [0.25; 2], other: [0.0; 2] });
        assert_eq!(right.verdict(), "above both");
        // Always the same corner: above chance by luck of the place, and as good on the other image.
        let blind = Overlap::of(&[found(0, 0), found(0, 0)], &truth, grid).expect("two boxes");
        assert_eq!((blind.own, blind.other), ([0.5; 2], [0.5; 2]));
        assert_eq!(blind.verdict(), "no better than for another image");
    }
}
