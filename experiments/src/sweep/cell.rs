use super::{Prior, Sweep, Task};
use crate::cli::Session;
use crate::rundir::RunDir;
use crate::track::Kind;
use crate::{Error, Exit, Options, Result, Summary, signals};
use sokd_world::ALONE;
use std::path::Path;
use std::time::Duration;

/// How long to wait before looking again whether a teacher is there.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs one cell, behind its teacher. A finished one is not run again.
///
/// # Errors
/// As [`crate::run`]; [`Error::Teacher`].
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

/// Trains a teacher, or waits for whoever trains it: of a whole array one does, and the others find it finished.
///
/// # Errors
/// [`Error::Teacher`]; [`Error::Stopped`] also while waiting.
pub fn once(sweep: &Path, teacher: &Prior, session: &Session, track: &[&'static Kind]) -> Result<()> {
    let stop = signals::heed_notice();
    if teacher.job.finished()? {
        return Ok(());
    }
    let resolved = teacher.job.resolved(sweep)?;
    let label = teacher.label.clone();
    let options = Options { session, force: false, label: label.clone(), track, world: &ALONE };
    let mut said = false;
    loop {
        match crate::run(&resolved, &teacher.job.run, &options) {
            Ok(_) => return Ok(()),
            Err(Error::Locked { .. }) if stop.asked() => {
                return Err(Error::Stopped { dir: teacher.job.run.clone(), step: 0 });
            }
            Err(Error::Locked { .. }) => {
                if !std::mem::replace(&mut said, true) {
                    session.stage.say(&format!("{label}: another process trains it; waiting"));
                }
                std::thread::sleep(PAUSE);
            }
            Err(stopped @ Error::Stopped { .. }) => return Err(stopped),
            Err(error) => return Err(Error::Teacher { label, source: Box::new(error) }),
        }
    }
}
