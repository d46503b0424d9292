use super::Session;
use super::table::{How, run};
use super::trackers::Trackers;
use crate::Result;
use crate::table::{Choice, Table};
use clap::Args;

/// A teacher that saw much beside students that see little, offline and in some ten minutes.
///
/// It is the table `demo` and nothing else: `sokd table demo`, `sokd describe demo`, `sokd report demo` work on it too.
#[derive(Debug, Default, Args)]
pub struct Demo {
    /// Runs it again although it is finished.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    trackers: Trackers,
}

impl Demo {
    pub fn run(&self, session: &Session) -> Result<()> {
        let table = Table::open("demo")?;
        let choice = Choice { tier: "full".to_owned(), ..Choice::default() };
        if !session.quiet {
            eprintln!("{}\n\n{}\n", table.head.title, table.head.note.trim());
        }
        let track = self.trackers.chosen()?;
        run(&table, &choice, session, &How { force: self.force, track: &track, ..How::default() })
    }
}
