use super::{Cell, Choice, Table};
use crate::cli::Session;
use crate::predictions::Predictions;
use crate::prerequisite::Teacher;
use crate::report::{Measured, duration};
use crate::track::Kind;
use crate::{Error, Options, Recipe, Resolved, Result, Summary, run, rundir};
use indicatif::ProgressBar;
use sokd_core::{Backbone, Build, DatasetInfo};
use sokd_data::{DataSpec, Locations};
use sokd_world::ALONE;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

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
    /// Who is told what the cells do.
    pub track: &'a [&'static Kind],
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
    label: &'a str,
    dir: PathBuf,
    resolved: &'a Resolved,
    /// What it costs, in millions of multiplications: dear arms take their share of the time that is left.
    work: u64,
    /// Whether it was finished before.
    finished: bool,
}

impl Work<'_> {
    /// Runs them. A cell that fails does not stop the others; a signal does.
    ///
    /// # Errors
    /// A table that does not fit, or [`Error::Stopped`].
    pub fn run(&self) -> Result<Outcome> {
        let cells = self.table.cells(self.choice)?;
        let teachers = teachers(&cells);
        let mut prices = Prices::default();
        let mut job = |label, recipe, resolved| self.job(label, recipe, resolved, &mut prices);
        let teaching: Vec<Job<'_>> = teachers
            .iter()
            .map(|teacher| job(&teacher.label, &teacher.name, &teacher.resolved))
            .collect::<Result<_>>()?;
        let learning: Vec<Job<'_>> = cells
            .iter()
            .map(|cell| job(&cell.label, &self.table.name, &cell.resolved))
            .collect::<Result<_>>()?;

        let to_do = || teaching.iter().chain(&learning).filter(|job| !job.finished);
        let whole = self.session.stage.whole(to_do().map(|job| job.work).sum());
        let runs = to_do().count();
        let mut done = 0;
        let mut outcome = Outcome::default();
        let mut next = |job: &Job<'_>| {
            done += usize::from(!job.finished);
            self.one(job, &whole, &format!("[{done}/{runs}]"))
        };
        for job in &teaching {
            if let Err(error) = next(job) {
                outcome.failed.push((job.label.to_owned(), stopping(error)?));
            }
        }
        for (cell, job) in cells.iter().zip(&learning) {
            match next(job) {
                Ok(summary) => outcome.finished.push(cell.measured(self.choice, summary, &job.dir)?),
                Err(error) => outcome.failed.push((job.label.to_owned(), stopping(error)?)),
            }
        }
        whole.finish_and_clear();
        Ok(outcome)
    }

    fn job<'a>(
        &self,
        label: &'a str,
        recipe: &str,
        resolved: &'a Resolved,
        prices: &mut Prices,
    ) -> Result<Job<'a>> {
        let dir = rundir::default_dir(recipe, resolved);
        let finished = !self.force && Summary::read(&dir)?.is_some();
        let work = if finished { 0 } else { (prices.of(&resolved.recipe) / 1e6) as u64 };
        Ok(Job { label, dir, resolved, work, finished })
    }

    fn one(&self, job: &Job<'_>, whole: &ProgressBar, place: &str) -> Result<Summary> {
        whole.set_message(format!("{} {place}", self.table.name));
        let stage = self.session.stage.within(whole, job.work);
        let end = whole.position() + job.work;
        let session = Session { stage, ..self.session.clone() };
        let label = job.label.to_owned();
        let options =
            Options { session: &session, force: self.force, label, track: self.track, world: &ALONE };
        let result = run(job.resolved, &job.dir, &options);
        whole.set_position(end);
        match &result {
            Ok(_) if job.finished => {}
            Ok(Summary { last, best, seconds, .. }) => self.session.stage.say(&format!(
                "{place} {}: {:.2} % last, {:.2} % best (test), {}",
                job.label,
                last.top1,
                best.scores.top1,
                duration(*seconds)
            )),
            Err(Error::Stopped { .. }) => {}
            Err(error) => self.session.stage.say(&format!("{place} {}: {error}", job.label)),
        }
        result
    }
}

/// Every teacher once.
fn teachers(cells: &[Cell]) -> Vec<&Teacher> {
    let mut teachers: Vec<&Teacher> = Vec::new();
    for teacher in cells.iter().filter_map(|cell| cell.teacher.as_ref()) {
        if teachers.iter().all(|known| known.resolved.id != teacher.resolved.id) {
            teachers.push(teacher);
        }
    }
    teachers
}

impl Cell {
    /// The cell with what its run came to, as its directory tells.
    ///
    /// # Errors
    /// Predictions that are there and cannot be read.
    pub fn measured(&self, choice: &Choice, summary: Summary, dir: &Path) -> Result<Measured> {
        let answers = Predictions::read(dir)?.map(|said| said.answers());
        let (row, column, tier) = (self.row.clone(), self.column.clone(), choice.tier.clone());
        Ok(Measured { row, column, tier, summary, answers })
    }
}

/// A signal ends the whole table; anything else ends its cell.
fn stopping(error: Error) -> Result<Error> {
    match error {
        Error::Stopped { .. } => Err(error),
        other => Ok(other),
    }
}

/// What recipes cost, in multiplications of a forward pass: a step is one pass through the teacher and about three
/// through the student, whose gradients cost twice its pass.
#[derive(Default)]
struct Prices {
    images: Vec<(DataSpec, Option<DatasetInfo>)>,
    /// A network's multiplications, by what it is and what it is shown: a table has many cells and few networks.
    networks: BTreeMap<String, Option<f64>>,
}

impl Prices {
    /// 1 where it cannot be told: the run itself will say what is wrong.
    fn of(&mut self, recipe: &Recipe) -> f64 {
        if !self.images.iter().any(|(data, _)| *data == recipe.data) {
            let info = recipe.data.open(&Locations::from_env()).ok().map(|data| data.info().clone());
            self.images.push((recipe.data.clone(), info));
        }
        let Self { images, networks } = self;
        let info = images.iter().find(|(data, _)| *data == recipe.data).and_then(|(_, info)| info.as_ref());
        let mut price = || {
            let info = info?;
            let teacher = recipe.teacher.as_ref();
            let teacher = teacher.map_or(Some(0.0), |teacher| macs(networks, &teacher.model, info))?;
            let student = macs(networks, &recipe.student, info)?;
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

/// What a network costs for the images, counted when it is first asked for.
fn macs<N: Build<dyn Backbone> + Debug>(
    known: &mut BTreeMap<String, Option<f64>>,
    network: &N,
    info: &DatasetInfo,
) -> Option<f64> {
    let name = format!("{network:?} for {} classes of images of {:?}", info.classes.len(), info.size);
    let count = || Some(sokd_models::cost(network, info).ok()?.macs as f64);
    *known.entry(name).or_insert_with(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 images seen twice and 20 looked at twice: 60 · (3 · student + teacher) + 40 · student.
    #[test]
    fn a_taught_run_costs_its_teacher_too() {
        let overrides = ["epochs=2", "data.train=30", "data.test=20", "evaluate.every=1"].map(str::to_owned);
        let price = |rows: &str| {
            let choice = Choice {
                tier: "full".into(),
                seeds: Some(vec![0]),
                rows: vec![rows.into()],
                overrides: overrides.to_vec(),
                ..Choice::default()
            };
            let cell =
                Table::open("demo").and_then(|table| table.cells(&choice)).expect("the demo").remove(0);
            (Prices::default().of(&cell.resolved.recipe), cell.resolved.recipe)
        };
        let (alone, recipe) = price("student alone");
        let (taught, with) = price("KD");
        let info = recipe.data.open(&Locations::default()).expect("procedural").info().clone();
        let macs = |model: &crate::Model| {
            sokd_models::cost(&model.spec().expect("known"), &info).expect("built").macs as f64
        };
        let student = macs(&recipe.student.model);
        let teacher = macs(&with.teacher.expect("KD has one").model);
        assert_eq!((alone, taught), (220.0 * student, 220.0 * student + 60.0 * teacher));
    }
}
