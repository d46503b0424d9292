use super::{Prior, Sweep, Task};
use crate::cli::Session;
use crate::rundir::RunDir;
use crate::track::Kind;
use crate::{Exit, Options, Result, Summary, signals};
use sokd_world::ALONE;
use std::path::Path;

/// Runs one cell, behind its teacher. A finished one is not run again.
///
/// # Errors
/// As [`crate::run`]; [`crate::Error::Teacher`].
pub fn run(sweep: &Sweep, task: &Task, session: &Session, track: &[&'static Kind]) -> Result<Summary> {
    signals::heed_notice();
    if !task.job.finished()?
        && let Some(teacher) = &task.teacher
        && let Err(error) = once(&sweep.dir, teacher, session, track)
    {
        if error.exit() != Exit::TryAgain
            && let Ok(mut dir) = RunDir::lock(&task.job.run)
        {
            // Whoever looks on from elsewhere shall see why this cell is not there.
            dir.fail(&error);
        }
        return Err(error);
    }
    let resolved = task.job.resolved(&sweep.dir)?;
    let options = Options { session, force: false, label: task.label.clone(), track, world: &ALONE };
    crate::run(&resolved, &task.job.run, &options)
}

/// Trains a teacher of the sweep, or waits for whoever does; a finished one is not even read.
///
/// # Errors
/// [`crate::Error::Teacher`]; [`crate::Error::Stopped`] also while waiting.
pub fn once(sweep: &Path, teacher: &Prior, session: &Session, track: &[&'static Kind]) -> Result<()> {
    signals::heed_notice();
    if teacher.job.finished()? {
        return Ok(());
    }
    teacher.teacher(sweep)?.train(&teacher.job.run, session, track)
}
