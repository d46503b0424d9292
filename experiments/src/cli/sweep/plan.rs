use crate::Result;
use crate::cli::complete::names;
use crate::cli::entries::Kind;
use crate::cli::print;
use crate::cli::table::Size;
use crate::sweep::{Asked, plan};
use clap::Args;
use std::path::{Path, PathBuf};

/// Writes down the cells of a sweep: a line each in `grid.jsonl`, in an order that stays.
///
/// Nothing runs, and nothing that was planned changes when its table or recipe is edited later. A setting with several values
/// makes a grid of a recipe: every combination is a row. The last line on the standard output is the sweep's folder.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd sweep plan demo -o demo-sweep                       a table's cells
  sokd sweep plan cifar100-pairs --rows KD,DKD --seeds 0,1,2
  sokd sweep plan cifar10-first phase.student.lr.base=0.05,0.1 student.model=resnet8,resnet14 --seeds 0,1,2
  sokd sweep plan cifar100-resnet56-resnet20 extends=sokd:kd,sokd:dkd
  sokd sweep plan mine.toml                                a table, a recipe or a sweep, as a file

A sweep as a file:
  recipe = \"cifar100-resnet56-resnet20\"
  seeds = [0, 1, 2]
  [vary]
  phase.student.lr.base = [0.05, 0.1]
  objective.distill.loss.temperature = [2, 4]")]
pub struct Plan {
    /// A table, a recipe or a sweep: a file, or a name that comes with sokd. A name that is a table's and a recipe's is the
    /// table's, unless a setting has several values.
    #[arg(add = names(&[Kind::Tables, Kind::Recipes, Kind::Presets]))]
    name: String,
    /// Settings to override in every cell; of a recipe, `key=a,b,c` makes a row of each value.
    #[arg(value_name = "KEY=VALUE[,VALUE]")]
    settings: Vec<String>,
    /// Where the plan is kept, in place of `sweeps/<name>`.
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    size: Size,
    /// Replaces another plan in the folder. Runs are not touched.
    #[arg(long)]
    force: bool,
}

impl Plan {
    pub fn run(&self) -> Result<()> {
        let choice = self.size.choice(&[]);
        let tier = self.size.spoken_tier();
        let asked = Asked::of(&self.name, &self.settings, choice, tier)?;
        let out = self.out.clone().unwrap_or_else(|| Path::new("sweeps").join(asked.name()));
        let what = match &asked.table {
            Some(name) => format!("the table {name}"),
            None => format!("the recipe {}", asked.recipe.as_deref().unwrap_or_default()),
        };
        let sweep = plan(asked, &out, self.force)?;
        let (cells, left, teachers) = (sweep.tasks.len(), sweep.to_do().len(), sweep.teachers().len());
        let first = match teachers {
            0 => String::new(),
            1 => "; a teacher is trained first".to_owned(),
            more => format!("; {more} teachers are trained first"),
        };
        print(format!("{cells} cells of {what}, {left} runs to do{first}\n{}", out.display()))
    }
}
