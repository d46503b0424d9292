use super::studies::Studies;
use super::table::{Size, paths};
use super::{Session, print, print_json};
use crate::report::{Form, Report as Measured};
use crate::table::Table;
use crate::{Result, rundir, study};
use clap::Args;
use std::path::PathBuf;

/// Where results are committed, seen from the workspace's root.
pub const RESULTS: &str = "experiments/results";

/// Writes the report of a table: from its runs here, and from committed results where there is no run.
///
/// Prints the table, and the paths of what it wrote: Markdown, LaTeX, CSV of the runs and of the arms, and one HTML file that
/// needs nothing else.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd report demo
  sokd report cifar10-first --tier short
  sokd report cifar10-first --tier short --against KD
  sokd report cifar10-first --tier short --format latex > table.tex
  sokd report cifar10-first --tier short --json")]
pub struct Report {
    /// A file, or the name of a table that comes with sokd.
    name: String,
    /// The settings that were overridden when it ran.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    studies: Studies,
    /// Where committed results lie.
    #[arg(long, value_name = "DIR", default_value = RESULTS)]
    results: PathBuf,
    /// Where to write, in place of `runs/<table>`.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Prints the report in this form, and writes no file.
    #[arg(long, value_name = "FORM", conflicts_with = "into")]
    format: Option<Form>,
    /// Prints the measured cells as JSON, and writes no file.
    #[arg(long, conflicts_with_all = ["format", "into"])]
    json: bool,
}

impl Report {
    pub fn run(&self, session: &Session) -> Result<()> {
        let table = Table::open(&self.name)?;
        let choice = self.size.choice(&self.overrides);
        let mut report = Measured::gather(&table, &choice, &self.results)?;
        if self.json {
            return print_json(&report.runs);
        }
        let folder = self.into.clone().unwrap_or_else(|| rundir::root().join(&table.name));
        if self.format.is_none_or(Form::tells_studies) {
            let extent = self.studies.extent(&choice.tier);
            report.studies =
                study::table(&table, &choice, session, extent, &rundir::root().join(&table.name))?;
        }
        if let Some(form) = self.format {
            return print(report.form(form).trim_end());
        }
        let written = report.write(&folder)?;
        print(report.plain())?;
        print(paths(&written))
    }
}
