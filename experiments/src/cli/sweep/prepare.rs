use crate::Result;
use crate::cli::trackers::Trackers;
use crate::cli::{Session, print};
use crate::sweep::{Sweep, prepare};
use clap::Args;
use std::path::PathBuf;

/// Does once what many cells need: trains teachers, fetches weights, reads data, and builds every kind of cell, so that what is
/// missing is found before a hundred jobs find it.
///
/// `sokd sweep submit` puts it in front of the cells. If another process trains a teacher already, it is waited for.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sokd sweep prepare my-sweep")]
pub struct Prepare {
    /// The sweep's folder.
    #[arg(value_name = "SWEEP")]
    dir: PathBuf,
    #[command(flatten)]
    trackers: Trackers,
}

impl Prepare {
    pub fn run(&self, session: &Session) -> Result<()> {
        let track = self.trackers.chosen()?;
        let sweep = Sweep::open(&self.dir)?;
        let built = prepare(&sweep, session, &track)?;
        let teachers = sweep.teachers().len();
        print(format!("teachers trained: {teachers}; kinds of cells built: {built}; the cells can begin"))
    }
}
