use super::out::print;
use super::studies::Studies;
use super::trackers::Trackers;
use super::{Session, Which};
use crate::beyond::beyond;
use crate::pins::Pins;
use crate::predictions::Predictions;
use crate::prerequisite::Teacher;
use crate::report::{Confusion, Form, Report};
use crate::study::{self, Arm, Extent};
use crate::{Options, Resolved, Result, Summary, follow, run, rundir};
use clap::Args;
use std::path::{Path, PathBuf};

/// Trains what a recipe says.
///
/// A run that was stopped or killed goes on where it stood; one that is finished is not run again. A teacher that is
/// itself a recipe (`teacher.weights=recipe:NAME`) is trained first, once. The last line on the standard output is the
/// run's directory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd train cifar10-first
  sokd train my.toml epochs=10 student.model=resnet8x4 objective.distill.loss.beta=6
  sokd train cifar10-first --tier smoke          two steps, to see that everything fits
  sokd train cifar10-first --seed 3 --run-dir /tmp/run
  torchrun --no-python --nproc-per-node 4 sokd train cifar10-first
                                                 four processes, each on a quarter of every batch")]
pub struct Train {
    #[command(flatten)]
    which: Which,
    /// Where the run is kept, in place of `runs/<recipe>/<digest>/seed-<n>`.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    #[command(flatten)]
    studies: Studies,
    #[command(flatten)]
    trackers: Trackers,
    /// Replaces what stands in the run directory.
    #[arg(long)]
    force: bool,
    /// Builds every part, and stops before the first step.
    #[arg(long)]
    dry_run: bool,
}

impl Train {
    pub fn run(&self, session: &Session) -> Result<()> {
        let mut resolved = self.which.resolve()?;
        let tier = self.which.tier.as_deref().unwrap_or("full");
        let teacher = match Teacher::of(&mut resolved, tier)? {
            Some(teacher) if !teacher.finished()? => Some(teacher),
            _ => None,
        };
        if self.dry_run {
            if let Some(teacher) = &teacher {
                let remedy =
                    format!("without --dry-run it is trained first; alone by: {}", teacher.command(tier)?);
                return Err(teacher.untrained(remedy));
            }
            let recipe = Pins::default().pin(&resolved.recipe, &session.stage)?;
            let parts = crate::assemble::assemble(&recipe, session)?;
            let never = beyond(&recipe).into_iter().map(|line| format!("\nnever    {line}"));
            return print(parts.describe() + &never.collect::<String>());
        }
        let world = session.meet()?;
        if !world.leads() {
            return follow(session, &world);
        }
        let track = self.trackers.chosen()?;
        if let Some(teacher) = &teacher {
            if world.size() > 1 {
                let error = teacher.untrained(format!("train it first: {}", teacher.command(tier)?));
                world.leave(&error.to_string());
                return Err(error);
            }
            let epochs = teacher.resolved.recipe.epochs;
            session.stage.say(&format!("{}: trained first, {epochs} epochs", teacher.label));
            rundir::point_latest(&teacher.dir());
            teacher.train(&teacher.dir(), session, &track)?;
        }
        let dir = self.run_dir.clone().unwrap_or_else(|| rundir::default_dir(&self.which.recipe, &resolved));
        if self.run_dir.is_none() {
            rundir::point_latest(&dir);
        }
        let label = format!("{}, seed {}", self.which.recipe, resolved.recipe.seed);
        let options = Options { session, force: self.force, label, track: &track, world: &world };
        let summary = run(&resolved, &dir, &options)?;
        let about = About { name: &self.which.recipe, tier, extent: self.studies.extent(tier) };
        leave_report(&resolved, &dir, session, &summary, &about);
        print(format!("{}\n{}", came_to(&summary), dir.display()))
    }
}

/// What a single run's report says of the run.
pub struct About<'a> {
    /// The recipe, as the command line has it.
    pub name: &'a str,
    /// Its size.
    pub tier: &'a str,
    /// How much is studied.
    pub extent: Extent,
}

/// Writes the report of a finished run into its directory. What keeps it from being written is said, and fails nothing:
/// the run is done.
pub fn leave_report(
    resolved: &Resolved,
    dir: &Path,
    session: &Session,
    summary: &Summary,
    about: &About<'_>,
) {
    let write = || -> Result<()> {
        let mut report = Report::single(about.name, about.tier, resolved, summary.clone())?;
        report.confusion = Predictions::read(dir)?.map(|said| Confusion::of(&said, report.classes.len()));
        let arm = Arm { row: about.name, column: "", resolved, dir: dir.to_owned() };
        report.studies = study::of(&[arm], session, about.extent, |_| dir.join("studies.json"));
        report.write_as(dir, "report", &[Form::Markdown, Form::Html])?;
        Ok(())
    };
    if let Err(error) = write() {
        session.stage.say(&format!("no report of the run: {error}"));
    }
}

/// What a run came to, in a line.
pub fn came_to(summary: &Summary) -> String {
    let Summary { last, best, .. } = summary;
    format!(
        "test/top1 {:.2} % after the last epoch ({} of {}), {:.2} % in the best (test), epoch {}; {:.0} s",
        last.top1, last.correct, last.total, best.scores.top1, best.epoch, summary.seconds
    )
}
