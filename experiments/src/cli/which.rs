use super::complete::names;
use super::entries::Kind;
use crate::{Layers, Resolved, Result};
use clap::Args;

/// Which recipe, and what is different in it.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// A file, the name of a recipe that comes with sokd, or a preset (`sokd:dkd`).
    #[arg(add = names(&[Kind::Recipes, Kind::Presets]))]
    pub recipe: String,
    /// Settings to override; a value is read as TOML, and as a plain text where that fails.
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Size of the run: `smoke` (two steps on procedural images), `short`, `full`, or any other the recipe has.
    #[arg(long)]
    pub tier: Option<String>,
    /// The same as seed=N.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl Which {
    /// The recipe that is meant.
    pub fn resolve(&self) -> Result<Resolved> {
        let mut layers = Layers::open(&self.recipe)?;
        if let Some(tier) = &self.tier {
            layers.tier(tier)?;
        }
        layers.set(&self.overrides)?;
        if let Some(seed) = self.seed {
            layers.set(&[format!("seed={seed}")])?;
        }
        layers.resolve()
    }
}
