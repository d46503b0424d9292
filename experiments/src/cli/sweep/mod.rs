//! `sokd sweep`: one verb a file.

mod collect;
mod plan;
mod prepare;
mod run;
mod status;
mod submit;

use super::Session;
use crate::Result;
use clap::{Args, Subcommand};

/// Runs the cells of a table, or of a recipe with lists of values, on many machines or in many slots of one.
///
/// A sweep is planned once, in a folder; from then on every verb takes that folder. Whatever ends a cell early, the same command
/// goes on with what is left, and comes to the same bits.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd sweep plan demo --tier smoke -o my-sweep
  sokd sweep run my-sweep --slots 2                        on this machine
  sokd sweep submit my-sweep --engine slurm --time 4:00:00 prints a script; --yes runs it
  sokd sweep status my-sweep
  sokd sweep collect my-sweep")]
pub struct Sweep {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Plan(plan::Plan),
    Run(run::Run),
    Submit(submit::Submit),
    Status(status::Status),
    Collect(collect::Collect),
    Prepare(prepare::Prepare),
}

impl Sweep {
    pub fn run(&self, session: &Session) -> Result<()> {
        match &self.verb {
            Verb::Plan(verb) => verb.run(),
            Verb::Run(verb) => verb.run(session),
            Verb::Submit(verb) => verb.run(session),
            Verb::Status(verb) => verb.run(),
            Verb::Collect(verb) => verb.run(session),
            Verb::Prepare(verb) => verb.run(session),
        }
    }
}
