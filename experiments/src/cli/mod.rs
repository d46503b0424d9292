//! The command line: one verb a file, each a struct of its arguments with a `run`.

mod complete;
mod entries;
mod out;
mod session;
mod which;

mod bench;
mod config;
mod data;
mod demo;
mod describe;
mod doctor;
mod eval;
mod export;
mod list;
mod pull;
mod push;
mod report;
mod resume;
mod studies;
mod sweep;
mod table;
mod track;
mod trackers;
mod train;
mod tst;

use crate::{Result, exit};
use clap::{Parser, Subcommand};
pub use complete::answer;
pub use out::{complain, print, print_json};
pub use session::{Common, Session};
use sokd_world::Place;
pub use which::Which;

/// Knowledge distillation of vision networks.
///
/// Without a verb: the demo, offline and in some ten minutes.
#[derive(Debug, Parser)]
#[command(name = "sokd", version, after_help = exit::TABLE, after_long_help = exit::TABLE, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Train(train::Train),
    Resume(resume::Resume),
    Eval(eval::Eval),
    Export(export::Export),
    Table(table::Table),
    Sweep(sweep::Sweep),
    Report(report::Report),
    Track(track::Track),
    Demo(demo::Demo),
    List(list::List),
    Describe(describe::Describe),
    Config(config::Config),
    Data(data::Data),
    Pull(pull::Pull),
    Push(push::Push),
    Doctor(doctor::Doctor),
    Bench(bench::Bench),
    Tst(tst::Tst),
    Completions(Completions),
}

/// Writes a completion script.
///
/// With it, <TAB> completes verbs, options, and the names of recipes, tables, networks and data sets.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sokd completions bash > ~/.local/share/bash-completion/completions/sokd
  sokd completions zsh > ~/.zfunc/_sokd
  sokd completions fish > ~/.config/fish/completions/sokd.fish")]
struct Completions {
    /// For which shell: bash, elvish, fish, powershell, zsh.
    shell: String,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// Whatever the verb meets; [`crate::Error::exit`] has the exit code.
    pub fn run(self) -> Result<()> {
        let verb = self.verb.unwrap_or_else(|| Verb::Demo(demo::Demo::default()));
        // Only these train one network with several processes; all others know nothing of each other.
        let place = match &verb {
            Verb::Train(_) | Verb::Resume(_) => Place::from_env()?,
            _ => None,
        };
        let session = Session::new(&self.common, place)?;
        match verb {
            Verb::Train(verb) => verb.run(&session),
            Verb::Resume(verb) => verb.run(&session),
            Verb::Eval(verb) => verb.run(&session),
            Verb::Export(verb) => verb.run(&session),
            Verb::Table(verb) => verb.run(&session),
            Verb::Sweep(verb) => verb.run(&session),
            Verb::Report(verb) => verb.run(&session),
            Verb::Track(verb) => verb.run(&session),
            Verb::Demo(verb) => verb.run(&session),
            Verb::List(verb) => verb.run(&session),
            Verb::Describe(verb) => verb.run(&session),
            Verb::Config(verb) => verb.run(&session),
            Verb::Data(verb) => verb.run(&session),
            Verb::Pull(verb) => verb.run(&session),
            Verb::Push(verb) => verb.run(&session),
            Verb::Doctor(verb) => verb.run(&session),
            Verb::Bench(verb) => verb.run(&session),
            Verb::Tst(verb) => verb.run(&session),
            Verb::Completions(Completions { shell }) => print(complete::script(&shell)?),
        }
    }
}
