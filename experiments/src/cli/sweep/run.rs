use crate::cli::trackers::Trackers;
use crate::cli::train::came_to;
use crate::cli::{Session, print};
use crate::sweep::{Slots, Sweep, index, run};
use crate::{Result, signals};
use clap::Args;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Runs one cell, or what is left of them all on this machine.
///
/// One cell: the one that `--index` names, or the scheduler that started this process (`SOKD_TASK_INDEX`,
/// `HQ_TASK_ID`, `JOB_COMPLETION_INDEX`, `SLURM_ARRAY_TASK_ID`, `PBS_ARRAY_INDEX`). Otherwise all, `--slots` at a time, each in a
/// process of its own.
///
/// A finished cell is not run again; one that was stopped or killed goes on where it stood. A teacher that several cells need is
/// trained by one of them while the others wait. TERM, Ctrl-C and USR1 save and end with 75: run the same command again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd sweep run my-sweep                   all cells, one after the other
  sokd sweep run my-sweep --slots 4         four at a time, with a quarter of the threads each
  sokd sweep run my-sweep --index 3         cell 3")]
pub struct Run {
    /// The sweep's folder.
    #[arg(value_name = "SWEEP")]
    dir: PathBuf,
    /// Which cell, from 0.
    #[arg(long, value_name = "N", conflicts_with = "slots")]
    index: Option<usize>,
    /// All cells, so many at a time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    slots: Option<u16>,
    #[command(flatten)]
    trackers: Trackers,
    /// Leaves, saved, when the standard input ends: with the process that started this one.
    #[arg(long, hide = true, requires = "index")]
    leash: bool,
}

impl Run {
    pub fn run(&self, session: &Session) -> Result<()> {
        if self.leash {
            leave_with_input();
        }
        let track = self.trackers.chosen()?;
        let sweep = Sweep::open(&self.dir)?;
        let told = match (self.index, self.slots) {
            (None, None) => index(|name| std::env::var(name).ok())?,
            (told, _) => told,
        };
        if let Some(index) = told {
            let task = sweep.task(index)?;
            let summary = run(&sweep, task, session, &track)?;
            return print(format!("{}: {}\n{}", task.label, came_to(&summary), task.job.run.display()));
        }
        let slots = usize::from(self.slots.unwrap_or(1));
        Slots { sweep: &sweep, session, slots, track: self.trackers.spoken() }.run()?;
        print(format!(
            "all {} cells are finished: sokd sweep collect {}",
            sweep.tasks.len(),
            self.dir.display()
        ))
    }
}

/// A thread that reads what nobody writes, and learns by its end that whoever started this process is gone.
fn leave_with_input() {
    let stop = signals::heed_notice();
    std::thread::spawn(move || {
        std::io::stdin().lock().read_to_end(&mut Vec::new()).ok();
        stop.now.store(true, Ordering::Relaxed);
    });
}
