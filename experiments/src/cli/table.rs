use super::studies::Studies;
use super::trackers::Trackers;
use super::{Session, print};
use crate::report::{Gap, Report};
use crate::table::{Choice, Table as Rows, Work};
use crate::track::Kind;
use crate::{Error, Result, rundir, study};
use clap::Args;
use std::path::{Path, PathBuf};

/// Runs what is missing of a table: rows × columns × seeds over a recipe.
///
/// Finished cells are not run again. A cell that fails does not stop the others; the exit code is then the first
/// failure's. The last lines on the standard output are the report's paths.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd table demo                                the demo
  sokd table cifar10-first --tier short
  sokd table cifar100-pairs --rows KD,DKD --columns 'vgg13 → vgg8' --seeds 0,1,2
  sokd table my.toml --tier smoke                two steps of every cell
  sokd table demo --against KD                   what each row brings over KD
  sokd table cifar100-pairs --dry-run            what would run, and what is finished")]
pub struct Table {
    /// A file, or the name of a table that comes with sokd.
    name: String,
    /// Settings to override in every cell.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    studies: Studies,
    #[command(flatten)]
    trackers: Trackers,
    /// Runs finished cells again.
    #[arg(long)]
    force: bool,
    /// Says what would run, and runs nothing.
    #[arg(long)]
    dry_run: bool,
    /// Also keeps each finished cell as a JSON file below this folder, the form in which results are committed.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The size where nobody says otherwise.
const FULL: &str = "full";

/// Which cells of a table, and at which size.
#[derive(Clone, Debug, Args)]
pub struct Size {
    /// `smoke` (two steps on procedural images), `short` where the recipe has one, or `full`.
    #[arg(long, default_value = FULL)]
    pub tier: String,
    /// In place of the table's own.
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    pub seeds: Option<Vec<u64>>,
    /// Only these rows.
    #[arg(long, value_delimiter = ',', value_name = "ROW,ROW")]
    pub rows: Vec<String>,
    /// Only these columns.
    #[arg(long, value_delimiter = ',', value_name = "COLUMN,COLUMN")]
    pub columns: Vec<String>,
    /// The row that the report compares the others with; the first, if none is named.
    #[arg(long, value_name = "ROW")]
    pub against: Option<String>,
}

impl Size {
    /// The cells that are meant.
    pub fn choice(&self, overrides: &[String]) -> Choice {
        let Self { tier, seeds, rows, columns, against } = self.clone();
        Choice { tier, seeds, rows, columns, overrides: overrides.to_vec(), against }
    }

    /// The size, where it is not the usual one.
    pub fn spoken_tier(&self) -> Option<String> {
        Some(self.tier.clone()).filter(|tier| tier != FULL)
    }
}

impl Table {
    pub fn run(&self, session: &Session) -> Result<()> {
        let table = Rows::open(&self.name)?;
        let choice = self.size.choice(&self.overrides);
        if self.dry_run {
            return plan(&table, &choice);
        }
        let track = self.trackers.chosen()?;
        let keep = self.keep.as_deref();
        let how = How { force: self.force, keep, studies: self.studies, track: &track };
        run(&table, &choice, session, &how)
    }
}

/// What is done with a table beside running it.
#[derive(Clone, Copy, Debug, Default)]
pub struct How<'a> {
    /// Runs finished cells again.
    pub force: bool,
    /// Keeps finished cells below this folder.
    pub keep: Option<&'a Path>,
    /// What is studied.
    pub studies: Studies,
    /// Who is told what the cells do.
    pub track: &'a [&'static Kind],
}

/// Runs a table, and leaves a report of it.
pub fn run(table: &Rows, choice: &Choice, session: &Session, how: &How<'_>) -> Result<()> {
    let How { force, keep, studies, track } = *how;
    let outcome = Work { table, choice, session, force, track }.run()?;
    if let Some(results) = keep {
        for measured in &outcome.finished {
            measured.keep(results, &table.name)?;
        }
    }
    let mut report = Report::gather(table, choice, Path::new(super::report::RESULTS))?;
    let cells = outcome.finished.len() + outcome.failed.len();
    for (label, error) in &outcome.failed {
        report.gaps.retain(|gap| gap.label() != *label);
        report.gaps.push(Gap { of: label.clone(), seed: None, why: error.to_string() });
    }
    let folder = rundir::root().join(&table.name);
    report.studies = study::table(table, choice, session, studies.extent(&choice.tier), &folder)?;
    let written = report.write(&folder)?;
    print(report.plain())?;
    print(paths(&written))?;
    let failed = outcome.failed.len();
    match outcome.failed.into_iter().next() {
        None => Ok(()),
        Some((_, first)) => Err(Error::Cells { failed, cells, first: Box::new(first) }),
    }
}

/// A path a line.
pub fn paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n")
}

fn plan(table: &Rows, choice: &Choice) -> Result<()> {
    let mut lines = Vec::new();
    let mut line = |label: String, recipe: &str, resolved: &crate::Resolved| {
        let dir = rundir::default_dir(recipe, resolved);
        let state = if dir.join("summary.json").exists() { "finished" } else { "to run" };
        let line = format!("{state:8}  {}  {label}  {}", &resolved.id[..12], dir.display());
        if !lines.contains(&line) {
            lines.push(line);
        }
    };
    let cells = table.cells(choice)?;
    for teacher in cells.iter().filter_map(|cell| cell.teacher.as_ref()) {
        line(teacher.label.clone(), &teacher.name, &teacher.resolved);
    }
    for cell in &cells {
        line(cell.label.clone(), &table.name, &cell.resolved);
    }
    print(lines.join("\n"))
}
