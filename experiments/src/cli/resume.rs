use super::Session;
use super::out::print;
use super::trackers::Trackers;
use super::train::{About, came_to, leave_report};
use crate::study::Extent;
use crate::{Layers, Options, Result, follow, overlay::Document, run};
use clap::Args;
use std::path::PathBuf;

/// Goes on with a run that was stopped or killed.
///
/// It ends with the same weights, bit for bit, as a run that was never interrupted.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sokd resume runs/latest")]
pub struct Resume {
    /// The run's directory.
    run: PathBuf,
    #[command(flatten)]
    trackers: Trackers,
}

impl Resume {
    pub fn run(&self, session: &Session) -> Result<()> {
        let config = self.run.join("config.toml");
        if !config.exists() {
            let what = "a run writes its recipe there before its first step".to_owned();
            let remedy = "start the run with `sokd train`".to_owned();
            return Err(sokd_core::Error::Missing { path: config, what, remedy }.into());
        }
        let resolved = Layers::of(&Document::file(&config)?)?.resolve()?;
        let world = session.meet()?;
        if !world.leads() {
            return follow(session, &world);
        }
        let track = self.trackers.chosen()?;
        let label = self.run.display().to_string();
        let options = Options { session, force: false, label, track: &track, world: &world };
        let summary = run(&resolved, &self.run, &options)?;
        let name = self.run.display().to_string();
        let about = About { name: &name, tier: "full", extent: Extent::Everything };
        leave_report(&resolved, &self.run, session, &summary, &about);
        print(format!("{}\n{}", came_to(&summary), self.run.display()))
    }
}
