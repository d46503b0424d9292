use crate::Result;
use crate::cli::{print, print_json};
use crate::report::duration;
use crate::sweep::{Overview, Standing, Stands, Sweep};
use clap::Args;
use std::path::PathBuf;

/// Says how the cells stand, as their run directories tell: nothing else is asked, so that it is the same for every scheduler.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd sweep status my-sweep
  sokd sweep status my-sweep --json | jq '.standing[] | select(.state == \"failed\")'")]
pub struct Status {
    /// The sweep's folder.
    #[arg(value_name = "SWEEP")]
    dir: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub fn run(&self) -> Result<()> {
        let overview = Overview::of(&Sweep::open(&self.dir)?)?;
        if self.json { print_json(&overview) } else { print(text(&overview)) }
    }
}

/// The counts, then a line a run.
fn text(overview: &Overview) -> String {
    let Overview { name, cells, finished, running, stopped, failed, waiting, .. } = overview;
    let counts = [finished, running, stopped, failed, waiting];
    let counts = Stands::ALL.iter().zip(counts).map(|(state, count)| format!("{count} {}", state.word()));
    let mut lines = vec![format!("{cells} cells of {name}: {}", counts.collect::<Vec<_>>().join(", "))];
    lines.extend(overview.seconds_a_cell.map(|seconds| {
        let left = overview
            .left
            .map_or_else(String::new, |left| format!("; {} left with {running} at a time", duration(left)));
        format!("a cell takes {}{left}", duration(seconds))
    }));
    lines.push(String::new());
    let all: Vec<&Standing> = overview.teachers.iter().chain(&overview.standing).collect();
    let wide = all.iter().map(|one| one.label.chars().count()).max().unwrap_or(0);
    lines.extend(all.iter().map(|one| line(one, wide)));
    lines.join("\n")
}

fn line(standing: &Standing, wide: usize) -> String {
    let cell = standing.cell.map_or_else(String::new, |cell| cell.to_string());
    let top1 = standing.top1.map(|top1| format!("{top1:.2} %"));
    let took = standing.seconds.filter(|_| standing.state == Stands::Finished).map(duration);
    let pace = Some(standing.pace()).filter(|pace| !pace.is_empty());
    let told: Vec<String> = [pace, top1, took, standing.problem.clone()].into_iter().flatten().collect();
    let line =
        format!("{cell:>5}  {:8}  {:wide$}  {}", standing.state.word(), standing.label, told.join(", "));
    line.trim_end().to_owned()
}
