use super::{Cell, Choice, Table, Teacher};
use crate::cli::Session;
use crate::report::{Measured, duration};
use crate::{Error, Options, Recipe, Resolved, Result, Summary, run, rundir};
use sokd_data::{DataSpec, Locations};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Runs what is missing of a table, one run after the other.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// Which table.
    pub table: &'a Table,
    /// Which cells of it, at which size.
    pub choice: &'a Choice,
    /// Device, threads, voice.
    pub session: &'a Session,
    /// Runs finished cells again.
    pub force: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The cells that are finished, whether now or before.
    pub finished: Vec<Measured>,
    /// The cells that failed, by their labels.
    pub failed: Vec<(String, Error)>,
}

/// One run to do: a teacher or a cell.
struct Job<'a> {
    label: String,
    dir: PathBuf,
    resolved: &'a Resolved,
    /// What it costs, in multiplications: teachers and long recipes take their share of the time that is left.
    work: f64,
}

impl Work<'_> {
    /// Runs them. A cell that fails does not stop the others; a signal does.
    ///
    /// # Errors
    /// A table that does not fit, or [`Error::Stopped`].
    pub fn run(&self) -> Result<Outcome> {
        let cells = self.table.cells(self.choice)?;
        let mut teachers: BTreeMap<&str, &Teacher> = BTreeMap::new();
        for teacher in cells.iter().filter_map(|cell| cell.teacher.as_ref()) {
            teachers.insert(&teacher.resolved.id, teacher);
        }
        let mut prices = Prices::default();
        let teaching: Vec<Job<'_>> = teachers
            .values()
            .map(|teacher| Job {
                label: format!("teacher {}", teacher.name),
                dir: rundir::default_dir(&teacher.name, &teacher.resolved),
                resolved: &teacher.resolved,
                work: prices.of(&teacher.resolved.recipe),
            })
            .collect();
        let learning: Vec<Job<'_>> = cells
            .iter()
            .map(|cell| Job {
                label: cell.label.clone(),
                dir: rundir::default_dir(&self.table.name, &cell.resolved),
                resolved: &cell.resolved,
                work: prices.of(&cell.resolved.recipe),
            })
            .collect();
        let mut clock = Clock::new(teaching.iter().chain(&learning));
        let mut outcome = Outcome::default();
        for job in &teaching {
            if let Err(error) = self.one(job, &mut clock) {
                outcome.failed.push((job.label.clone(), stopping(error)?));
            }
        }
        for (cell, job) in cells.iter().zip(&learning) {
            match self.one(job, &mut clock) {
                Ok(summary) => outcome.finished.push(cell.measured(self.choice, summary)),
                Err(error) => outcome.failed.push((job.label.clone(), stopping(error)?)),
            }
        }
        Ok(outcome)
    }

    fn one(&self, job: &Job<'_>, clock: &mut Clock) -> Result<Summary> {
        let label = clock.label(&job.label);
        let options = Options { session: self.session, force: self.force, label };
        let begun = Instant::now();
        let before = Summary::read(&job.dir)?.is_some() && !self.force;
        let result = run(job.resolved, &job.dir, &options);
        clock.passed(job.work, (!before).then(|| begun.elapsed().as_secs_f64()));
        if let Err(error) = &result
            && !matches!(error, Error::Stopped { .. })
        {
            eprintln!("{}: {error}", job.label);
        }
        result
    }
}

impl Cell {
    /// The cell with what its run came to.
    pub fn measured(&self, choice: &Choice, summary: Summary) -> Measured {
        Measured { row: self.row.clone(), column: self.column.clone(), tier: choice.tier.clone(), summary }
    }
}

/// A signal ends the whole table; anything else ends its cell.
fn stopping(error: Error) -> Result<Error> {
    match error {
        Error::Stopped { .. } => Err(error),
        other => Ok(other),
    }
}

/// What is left to do, and how long it may take by what has been done.
struct Clock {
    runs: usize,
    done: usize,
    left: f64,
    worked: f64,
    seconds: f64,
}

impl Clock {
    fn new<'a>(jobs: impl Iterator<Item = &'a Job<'a>>) -> Self {
        let mut clock = Self { runs: 0, done: 0, left: 0.0, worked: 0.0, seconds: 0.0 };
        for job in jobs {
            clock.runs += 1;
            clock.left += job.work;
        }
        clock
    }

    /// A run's label with its place among the others and the time that is left for all.
    fn label(&self, label: &str) -> String {
        let place = format!("[{}/{}] {label}", self.done + 1, self.runs);
        if self.worked == 0.0 {
            return place;
        }
        format!("{place} · {} left in all", duration(self.left * self.seconds / self.worked))
    }

    /// `seconds`: none for a run that was finished before.
    fn passed(&mut self, work: f64, seconds: Option<f64>) {
        self.done += 1;
        self.left -= work;
        if let Some(seconds) = seconds {
            self.worked += work;
            self.seconds += seconds;
        }
    }
}

/// What recipes cost, in multiplications of a forward pass: a step is one pass through the teacher and about three
/// through the student, whose gradients cost twice its pass.
#[derive(Default)]
struct Prices {
    images: Vec<(DataSpec, Option<sokd_core::DatasetInfo>)>,
}

impl Prices {
    /// 1 where it cannot be told: the run itself will say what is wrong.
    fn of(&mut self, recipe: &Recipe) -> f64 {
        if !self.images.iter().any(|(data, _)| *data == recipe.data) {
            let info = recipe.data.open(&Locations::from_env()).ok().map(|data| data.info().clone());
            self.images.push((recipe.data.clone(), info));
        }
        let info =
            self.images.iter().find(|(data, _)| *data == recipe.data).and_then(|(_, info)| info.as_ref());
        let price = || {
            let info = info?;
            let macs =
                |model: &crate::Model| Some(sokd_models::cost(&model.spec().ok()?, info).ok()?.macs as f64);
            let teacher = recipe.teacher.as_ref().map_or(Some(0.0), |teacher| macs(&teacher.model))?;
            let student = macs(&recipe.student.model)?;
            let learned = (recipe.epochs * info.train) as f64;
            let learned =
                recipe.steps.map_or(learned, |steps| learned.min(steps as f64 * recipe.batch as f64));
            let looks = recipe.epochs as f64 / recipe.evaluate.every.max(1) as f64;
            let looks = recipe.steps.map_or(looks, |_| 1.0);
            Some(learned * (3.0 * student + teacher) + looks * info.test as f64 * student)
        };
        price().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_goes_by_the_work_not_by_the_count() {
        let mut clock = Clock { runs: 4, done: 0, left: 100.0, worked: 0.0, seconds: 0.0 };
        assert_eq!(clock.label("teacher"), "[1/4] teacher");
        clock.passed(70.0, Some(7.0));
        assert_eq!(clock.label("KD"), "[2/4] KD · 3.0 s left in all");
        clock.passed(10.0, None);
        assert_eq!(clock.label("AT"), "[3/4] AT · 2.0 s left in all");
    }
}
