use super::{Sweep, once};
use crate::assemble::assemble;
use crate::cli::Session;
use crate::track::Kind;
use crate::{Error, Recipe, Result, signals};

/// Does once what many cells would otherwise do at the same time: trains teachers, fetches weights, reads data, learns what some
/// losses know before the first step. Every kind of cell is built, so that what is missing is found now and not by a
/// hundred jobs. A fault does not stop the rest.
///
/// # Errors
/// The first fault, as [`Error::Cells`]; [`Error::Stopped`].
pub fn prepare(sweep: &Sweep, session: &Session, track: &[&'static Kind]) -> Result<usize> {
    let stop = signals::heed_notice();
    let mut faults: Vec<Error> = Vec::new();
    let mut note = |label: &str, error: Error| {
        session.stage.say(&format!("{label}: {error}"));
        faults.push(error);
    };
    for teacher in sweep.teachers() {
        match once(&sweep.dir, teacher, session, track) {
            Ok(()) => {}
            Err(stopped @ Error::Stopped { .. }) => return Err(stopped),
            Err(error) => note(&teacher.label, error),
        }
    }
    let mut built: Vec<Recipe> = Vec::new();
    for task in sweep.to_do() {
        if stop.asked() {
            return Err(Error::Stopped { dir: sweep.dir.clone(), step: 0 });
        }
        let recipe = task.job.resolved(&sweep.dir)?.recipe;
        // Seeds are alike in all that they need.
        let kind = Recipe { seed: 0, ..recipe.clone() };
        if built.contains(&kind) {
            continue;
        }
        match assemble(&recipe, session) {
            Ok(_) => session.stage.say(&format!("{}: all is there", task.label)),
            Err(error) => note(&task.label, error),
        }
        built.push(kind);
    }
    let (failed, cells) = (faults.len(), sweep.teachers().len() + built.len());
    match faults.into_iter().next() {
        None => Ok(built.len()),
        Some(first) => Err(Error::Cells { failed, cells, first: Box::new(first) }),
    }
}
