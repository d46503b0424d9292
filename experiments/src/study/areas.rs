//! The areas that a detector finds on test images.

use super::reading::Sight;
use super::trained::Trained;
use serde::{Deserialize, Serialize};
use sokd_core::{Area, Dataset, Error, Key, Mode, Pair, Result, Side, Split, Step};
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

/// How well boxes lie on the true ones: [`sokd_dam::Score`], as a file keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Overlap {
    /// Intersection over union, a mean over boxes.
    pub overlap: f64,
    /// The same at places drawn evenly.
    pub overlap_by_chance: f64,
    /// The share of boxes whose centre is inside.
    pub inside: f64,
    /// The same at places drawn evenly.
    pub inside_by_chance: f64,
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
        let scored = scored.and_then(|truth| score(&found, &truth, grid));
        let boxes = |at: &usize| found[*at].iter().map(|found| grid.area(&found.cells)).collect();
        Ok(Self {
            arm: arm.to_owned(),
            whose: *whose,
            boxes: shown.iter().map(boxes).collect(),
            count: found.iter().map(Vec::len).sum::<usize>() as f64 / found.len() as f64,
            score: scored.map(|of| Overlap {
                overlap: of.overlap,
                overlap_by_chance: of.overlap_by_chance,
                inside: of.inside,
                inside_by_chance: of.inside_by_chance,
            }),
        })
    }
}
