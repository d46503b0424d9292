use crate::Result;
use crate::track::{ALL, Kind, NONE, named};
use clap::Args;
use clap::builder::PossibleValuesParser;

/// Where the environment names the trackers.
pub const VARIABLE: &str = "SOKD_TRACK";
/// Who is told where nobody says otherwise.
const USUAL: &str = "tensorboard";

/// Who is told what a run does.
#[derive(Clone, Debug, Default, Args)]
pub struct Trackers {
    /// Who is told what a run does, beside its own files; by default what `SOKD_TRACK` says, or `tensorboard`. The run
    /// is the same for any of them, and goes on where they fail.
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME", value_parser = names())]
    track: Option<Vec<String>>,
}

impl Trackers {
    /// What the command line says, for a child's.
    pub fn spoken(&self) -> &[String] {
        self.track.as_deref().unwrap_or_default()
    }

    /// The trackers that are meant.
    ///
    /// # Errors
    /// One that does not exist, or whose settings are missing.
    pub fn chosen(&self) -> Result<Vec<&'static Kind>> {
        let told = || std::env::var(VARIABLE).unwrap_or_else(|_| USUAL.to_owned());
        match &self.track {
            Some(names) => named(names.iter().map(String::as_str)),
            None => named(told().split(',')),
        }
    }
}

/// Every name that `--track` takes.
pub fn names() -> PossibleValuesParser {
    ALL.iter().map(|kind| kind.name).chain([NONE]).collect::<Vec<_>>().into()
}
