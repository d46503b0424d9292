use crate::cli::studies::Studies;
use crate::cli::table::paths;
use crate::cli::{Session, print};
use crate::report::Report;
use crate::sweep::Sweep;
use crate::{Result, rundir, study};
use clap::Args;
use sokd_core::file;
use std::path::{Path, PathBuf};

/// Writes the report of a sweep into its folder: what `sokd table` would write of the same cells, and `results.csv`, a line a cell
/// with a column for each setting that varies.
///
/// Cells that are not finished are named as not measured yet.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sokd sweep collect my-sweep")]
pub struct Collect {
    /// The sweep's folder.
    #[arg(value_name = "SWEEP")]
    dir: PathBuf,
    #[command(flatten)]
    studies: Studies,
}

impl Collect {
    pub fn run(&self, session: &Session) -> Result<()> {
        let sweep = Sweep::open(&self.dir)?;
        let (table, choice) = sweep.table()?;
        let mut report = Report::gather(&table, &choice, Path::new(crate::cli::report::RESULTS))?;
        let folder = rundir::root().join(&table.name);
        report.studies = study::table(&table, &choice, session, self.studies.extent(&choice.tier), &folder)?;
        let mut written = report.write(&sweep.dir)?;
        let results = sweep.dir.join("results.csv");
        file::write(&results, sweep.results()?.as_bytes())?;
        written.push(results);
        print(report.plain())?;
        print(paths(&written))
    }
}
