use super::Session;
use crate::{Options, Resolved, Result, run};
use clap::Args;
use std::path::PathBuf;

/// Trains what a recipe says.
///
/// RECIPE is a file, the name of a recipe that comes with sokd, or a preset (`sokd:dkd`). Settings after it
/// override the recipe's: a value is read as TOML, and as a plain text where that fails.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd train cifar10-first
  sokd train my.toml epochs=10 student.model=resnet8x4 objective.distill.loss.beta=6
  sokd train cifar10-first --tier smoke          two steps, to see that everything fits
  sokd train cifar10-first --seed 3 --run-dir /tmp/run")]
pub struct Train {
    /// What to train.
    recipe: String,
    /// Settings to override: `path.to.setting=value`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Size of the run: `smoke` (two steps on procedural images), `short`, `full`, or any other the recipe has.
    #[arg(long)]
    tier: Option<String>,
    /// The same as seed=N.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the run is kept, in place of runs/<recipe>/<digest>/seed-<n>.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    #[command(flatten)]
    how: How,
    /// Resolves the recipe, builds every part, and stops before the first step.
    #[arg(long)]
    dry_run: bool,
}

/// How a run deals with what it finds.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct How {
    /// Replaces what stands in the run directory.
    #[arg(long)]
    force: bool,
}
