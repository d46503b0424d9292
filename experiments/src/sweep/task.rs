use super::axis::Point;
use super::torn;
use crate::overlay::Document;
use crate::prerequisite::Teacher;
use crate::table::Cell;
use crate::{Layers, Resolved, Result, Summary};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One cell of a sweep: a line of `grid.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Task {
    /// Its number, from 0: what schedulers call the index of an array's task.
    pub cell: usize,
    /// How progress and reports call it.
    pub label: String,
    /// Its row.
    pub row: String,
    /// Its column.
    pub column: String,
    /// Its seed.
    pub seed: u64,
    /// What the row sets, where a recipe was swept.
    #[serde(default, skip_serializing_if = "Point::is_empty")]
    pub varied: Point,
    /// What the command line set in every cell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
    /// What it runs.
    #[serde(flatten)]
    pub job: Job,
    /// What must have run before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Prior>,
}

/// A recipe, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The recipe's digest.
    pub digest: String,
    /// The recipe, seen from the sweep's folder.
    pub recipe: PathBuf,
    /// The run's directory.
    pub run: PathBuf,
}

/// A run that cells need first: their teacher's training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prior {
    /// The recipe's name.
    pub name: String,
    /// How progress and reports call it.
    pub label: String,
    /// What it runs.
    #[serde(flatten)]
    pub job: Job,
}

impl Prior {
    /// The teacher as a table has it.
    ///
    /// # Errors
    /// As [`Job::resolved`].
    pub fn teacher(&self, sweep: &Path) -> Result<Teacher> {
        let (name, label) = (self.name.clone(), self.label.clone());
        Ok(Teacher { name, resolved: self.job.resolved(sweep)?, label })
    }
}

impl Job {
    /// The recipe as it was planned.
    ///
    /// # Errors
    /// A file that is missing, or is not what was planned.
    pub fn resolved(&self, sweep: &Path) -> Result<Resolved> {
        let path = sweep.join(&self.recipe);
        let resolved = Layers::of(&Document::file(&path)?)?.resolve()?;
        if resolved.id == self.digest {
            return Ok(resolved);
        }
        let problem = "this is not the recipe that was planned, or this version of sokd reads it differently";
        Err(torn(&path, None, problem))
    }

    /// Whether the run is finished.
    ///
    /// # Errors
    /// A summary that cannot be read.
    pub fn finished(&self) -> Result<bool> {
        Ok(Summary::read(&self.run)?.is_some_and(|summary| summary.recipe == self.digest))
    }

    /// As [`finished`](Self::finished), for whoever looks at many: the one that cannot be read is left to do, and says itself
    /// what is wrong.
    pub fn done(&self) -> bool {
        self.finished().unwrap_or(false)
    }
}

impl Task {
    /// The cell as a table has it.
    ///
    /// # Errors
    /// As [`Job::resolved`].
    pub fn cell(&self, sweep: &Path) -> Result<Cell> {
        Ok(Cell {
            row: self.row.clone(),
            column: self.column.clone(),
            seed: self.seed,
            resolved: self.job.resolved(sweep)?,
            teacher: self.teacher.as_ref().map(|prior| prior.teacher(sweep)).transpose()?,
            label: self.label.clone(),
        })
    }
}

/// The lines of a grid.
///
/// # Errors
/// A file that is missing, or is not what was written.
pub fn read(path: &Path, cells: usize) -> Result<Vec<Task>> {
    let text = std::fs::read_to_string(path).map_err(sokd_core::Error::io(path))?;
    let line = |(at, line): (usize, &str)| {
        let task: Task =
            serde_json::from_str(line).map_err(|error| torn(path, Some(at + 1), error.to_string()))?;
        if task.cell == at {
            Ok(task)
        } else {
            Err(torn(path, Some(at + 1), format!("cell {} stands where {at} should", task.cell)))
        }
    };
    let tasks = text.lines().enumerate().map(line).collect::<Result<Vec<_>>>()?;
    if tasks.len() == cells {
        Ok(tasks)
    } else {
        Err(torn(path, None, format!("it has {} cells, and {cells} were planned", tasks.len())))
    }
}

/// The lines as a file has them.
///
/// # Errors
/// None that a task could raise.
pub fn written(tasks: &[Task]) -> sokd_core::Result<String> {
    let line = |task| serde_json::to_string(task).map(|line| line + "\n");
    let lines: Result<String, _> = tasks.iter().map(line).collect();
    lines.map_err(|error| sokd_core::Error::setting("sweep", error.to_string()))
}
