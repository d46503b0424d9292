//! A sweep: the cells of a table, planned once and run by whoever has a slot for one.
//!
//! The plan is a folder: `sweep.toml` says what was asked, `table.toml` is the table, `recipes/` has every recipe as it was
//! resolved, and `grid.jsonl` is a line a cell. Nothing in it changes when a table or a preset is edited while jobs wait.

mod asked;
mod axis;
mod cell;
mod engine;
mod index;
mod plan;
mod prepare;
mod results;
mod slot;
mod slots;
mod standing;
mod task;

pub use asked::Asked;
pub use cell::{once, run};
pub use engine::{Engine, Submission, engines};
pub use index::{VARIABLES, index};
pub use plan::plan;
pub use prepare::prepare;
pub use slots::Slots;
pub use standing::{Overview, Standing, Stands};
pub use task::{Job, Prior, Task};

use crate::overlay::{Document, Setting};
use crate::table::{Choice, Table};
use crate::{Error, Misfit, Result, rundir};
use std::path::{Path, PathBuf};

/// What was asked; written last, so that a folder that has it has the whole plan.
pub const ASKED: &str = "sweep.toml";
/// The table.
pub const TABLE: &str = "table.toml";
/// A line a cell.
pub const GRID: &str = "grid.jsonl";
/// What cells said, a file each.
pub const LOGS: &str = "logs";

/// A sweep that was planned.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Its folder.
    pub dir: PathBuf,
    /// What was asked.
    pub asked: Asked,
    /// Its cells, in order.
    pub tasks: Vec<Task>,
}

impl Sweep {
    /// The sweep that was planned in a folder. From now on this process works where it was planned, so that paths in
    /// recipes lead where they led then.
    ///
    /// # Errors
    /// A folder in which nothing was planned; a plan that is not whole; a place that is not there any more.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).map_err(sokd_core::Error::io(dir))?;
        let path = dir.join(ASKED);
        if !path.exists() {
            let what = "`sokd sweep plan` writes it".to_owned();
            let remedy = format!("plan the sweep: sokd sweep plan TABLE -o {}", dir.display());
            return Err(sokd_core::Error::Missing { path, what, remedy }.into());
        }
        let asked = Asked::read(&Document::file(&path)?)?;
        let planned = asked.planned.clone().ok_or_else(|| {
            let help = format!("plan it: sokd sweep plan {}", path.display());
            Misfit::new(format!("{} asks for a sweep that is not planned yet", path.display())).help(help)
        })?;
        std::env::set_current_dir(&planned.folder).map_err(|error| {
            let problem =
                format!("it was planned in {}, which cannot be entered: {error}", planned.folder.display());
            let remedy = "write into it, as `planned.folder`, where that folder is now";
            sokd_core::Error::file(&path, None, problem, remedy)
        })?;
        rundir::settle(planned.runs);
        let tasks = task::read(&dir.join(GRID), planned.cells)?;
        Ok(Self { dir, asked, tasks })
    }

    /// One cell.
    ///
    /// # Errors
    /// A number that no cell has.
    pub fn task(&self, index: usize) -> Result<&Task> {
        self.tasks.get(index).ok_or_else(|| {
            let last = self.tasks.len().saturating_sub(1);
            let problem = format!("there is no cell {index}: the sweep has the cells 0 to {last}");
            Misfit::new(problem).help("`sokd sweep status` lists them").into()
        })
    }

    /// The cells that are not finished, and of those that are the same run the first.
    pub fn to_do(&self) -> Vec<&Task> {
        let mut to_do: Vec<&Task> = Vec::new();
        for task in &self.tasks {
            if to_do.iter().all(|known| known.job.run != task.job.run) && !task.job.done() {
                to_do.push(task);
            }
        }
        to_do
    }

    /// The runs that cells need first, each once.
    pub fn teachers(&self) -> Vec<&Prior> {
        let mut teachers: Vec<&Prior> = Vec::new();
        for teacher in self.tasks.iter().filter_map(|task| task.teacher.as_ref()) {
            if teachers.iter().all(|known| known.job.digest != teacher.job.digest) {
                teachers.push(teacher);
            }
        }
        teachers
    }

    /// The table with the cells as they were planned, and the choice that goes with it.
    ///
    /// # Errors
    /// A plan that is not whole.
    pub fn table(&self) -> Result<(Table, Choice)> {
        let table = Table::read(&self.asked.name(), &Document::file(&self.dir.join(TABLE))?)?;
        let cells = self.tasks.iter().map(|task| task.cell(&self.dir)).collect::<Result<_>>()?;
        Ok((table.planned(cells), self.asked.choice()))
    }

    /// Where a cell's words are kept.
    pub fn log(&self, task: &Task) -> PathBuf {
        self.dir.join(LOGS).join(format!("{}.log", task.cell))
    }
}

/// What a file holds, if it is a table of TOML at all.
fn holds(document: &std::sync::Arc<Document>, keys: &[&str]) -> Result<bool> {
    let whole = Setting::read(document)?;
    Ok(whole.table().is_some_and(|table| keys.iter().any(|key| table.contains_key(*key))))
}

/// A part of a plan that is not what was written.
fn torn(path: &Path, line: Option<usize>, problem: impl Into<String>) -> Error {
    let problem = match line {
        Some(line) => format!("line {line}: {}", problem.into()),
        None => problem.into(),
    };
    let remedy = "plan the sweep again with --force: finished cells stay finished";
    sokd_core::Error::file(path, None, problem, remedy).into()
}
