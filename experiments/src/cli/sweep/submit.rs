use crate::cli::{Session, print};
use crate::sweep::{Engine, Submission, Sweep, engines};
use crate::{Misfit, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::path::{Path, PathBuf};

/// Prints the script that gives the cells to a scheduler: SLURM, HyperQueue or Kubernetes. With `--yes` it is run.
///
/// The script asks for a first job, which does once what all cells need, and behind it for an array of the cells that are not
/// finished: submitting again is always right. A cell whose time is nearly up, or whose node is taken away, saves, is queued
/// again and goes on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd sweep submit my-sweep --engine slurm --time 4:00:00 --at-once 8 --option=--partition=gpu --option=--gres=gpu:1
  sokd sweep submit my-sweep --engine slurm --yes
  sokd sweep submit my-sweep --engine hq --option=--cpus=4 > submit.sh
  sokd sweep submit my-sweep --engine k8s --image lab/sokd:1 --claim scratch --option=--namespace=lab")]
pub struct Submit {
    /// The sweep's folder.
    #[arg(value_name = "SWEEP")]
    dir: PathBuf,
    /// The scheduler.
    #[arg(long, value_parser = PossibleValuesParser::new(engines()))]
    engine: String,
    /// At most so many cells at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    at_once: Option<u32>,
    /// The longest that a job may take before it is saved and queued again, as the scheduler writes it.
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Passed on as it is: `--option=--partition=gpu`.
    #[arg(long = "option", value_name = "OPTION", allow_hyphen_values = true)]
    options: Vec<String>,
    /// For Kubernetes: the container in which sokd lies.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// For Kubernetes: the claim of the volume (`PersistentVolumeClaim`) with the folder in which the sweep was planned.
    #[arg(long, value_name = "NAME")]
    claim: Option<String>,
    /// Runs the script.
    #[arg(long)]
    yes: bool,
}

impl Submit {
    pub fn run(&self, session: &Session) -> Result<()> {
        let sweep = Sweep::open(&self.dir)?;
        let to_do = sweep.to_do();
        if to_do.is_empty() {
            session
                .stage
                .say(&format!("all {} cells are finished: there is nothing to submit", sweep.tasks.len()));
            return Ok(());
        }
        let submission = Submission {
            sweep: &sweep,
            to_do,
            at_once: self.at_once.map(|at_once| at_once as usize),
            time: self.time.clone(),
            options: self.options.clone(),
            device: session.device_name.clone(),
            image: self.image.clone(),
            claim: self.claim.clone(),
            program: std::env::current_exe().map_err(sokd_core::Error::io(Path::new("sokd")))?,
        };
        let engine = Engine::named(&self.engine)
            .ok_or_else(|| Misfit::new(format!("no scheduler is called `{}`", self.engine)))?;
        let script = engine.script(&submission)?;
        if !self.yes {
            return print(script.trim_end());
        }
        engine.submit(&script)
    }
}
