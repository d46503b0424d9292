use super::{Session, print};
use crate::Result;
use crate::rundir::RunDir;
use crate::track::{ALL, About, named, send};
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;
use std::sync::Arc;

/// Tells trackers of runs that are over, or what they missed of them.
///
/// A run's `metrics.jsonl` says all there is to tell; nothing is run. TensorBoard's files are written anew; a server is told
/// what it does not know yet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd track runs/latest --to tensorboard
  sokd track runs/demo/*/seed-0 --to mlflow      with MLFLOW_TRACKING_URI=http://127.0.0.1:5000")]
pub struct Track {
    /// The runs' directories.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Who is told.
    #[arg(long, required = true, value_delimiter = ',', value_name = "NAME,NAME", value_parser = names())]
    to: Vec<String>,
}

fn names() -> PossibleValuesParser {
    ALL.iter().map(|kind| kind.name).collect::<Vec<_>>().into()
}

impl Track {
    pub fn run(&self, session: &Session) -> Result<()> {
        let kinds = named(self.to.iter().map(String::as_str))?;
        for path in &self.runs {
            let (about, _) = About::read(path)?;
            let dir = RunDir::lock(path)?;
            // Once more: until the lock was ours, someone may have worked there.
            let (_, ended) = About::read(dir.path())?;
            let images = session.kept.open(&about.resolved.recipe.data, &session.stage).ok();
            let about = Arc::new(About { images, ..about });
            for kind in &kinds {
                let lines = send(kind, &about, ended)?;
                print(format!("{}: {} was told {lines} lines", path.display(), kind.name))?;
            }
        }
        Ok(())
    }
}
