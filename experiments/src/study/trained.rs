//! The networks of a finished run, as they were at its end.

use crate::assemble::{assemble, judged};
use crate::cli::Session;
use crate::pins::Pins;
use crate::{RefinerSpec, Resolved, Result};
use sokd_core::{Backbone, BuildCx, DatasetInfo};
use sokd_dam::{Detector, Whose};
use sokd_models::weights;
use sokd_train::Checkpoints;
use std::path::Path;

/// A finished run's networks, on weights that nothing moves any more.
pub struct Trained {
    /// Who learned.
    pub student: Box<dyn Backbone>,
    /// Who was learned from.
    pub teacher: Option<Box<dyn Backbone>>,
    /// The detector of areas, where the run had one, and whose boxes it finds.
    pub detector: Option<(Detector, Whose)>,
    /// Whether a detector was left out because only the student's weights are kept.
    pub lost: bool,
}

impl Trained {
    /// Everything from the run's last checkpoint; the student alone from its own file, where there is none.
    ///
    /// # Errors
    /// Whatever is missing, torn, or another recipe's.
    pub fn open(resolved: &Resolved, dir: &Path, session: &Session) -> Result<Self> {
        let recipe = &Pins::read(dir)?.pin(&resolved.recipe, &session.stage)?;
        let parts = assemble(recipe, session)?;
        let folder = dir.join("checkpoints");
        let saved = if folder.is_dir() { Checkpoints::open(&folder, &resolved.id)?.load()? } else { None };
        match &saved {
            Some(found) => parts.params.load("", &found.checkpoint.weights)?,
            None => weights::load(&parts.params, "student", &dir.join("student/model.safetensors"))?,
        }
        let student = judged(&recipe.student, &parts.params, &parts.info, &session.device)?;
        let refiners = recipe.objective.values().flat_map(|term| term.refine.0.values());
        let dam = refiners.into_iter().find_map(|refiner| match refiner {
            RefinerSpec::Dam(dam) => Some(dam),
            RefinerSpec::Dafa(_) | RefinerSpec::Skd(_) => None,
        });
        let teacher = parts.distiller.teacher;
        let detector = dam.filter(|_| saved.is_some()).map(|dam| {
            let data: &DatasetInfo = &parts.info;
            let cx = BuildCx {
                vars: parts.params.frozen(&session.device),
                data: Some(data),
                teacher: teacher.as_deref().map(Backbone::info),
                student: Some(student.info()),
                preview: None,
            };
            Ok::<_, crate::Error>((dam.detector(&cx)?, dam.boxes_from))
        });
        Ok(Self { lost: dam.is_some() && saved.is_none(), detector: detector.transpose()?, student, teacher })
    }
}
