use crate::{Exit, Misfit};
use std::path::PathBuf;

/// Everything that can end a command early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that does not fit.
    #[error("{0}")]
    Misfit(Box<Misfit>),
    /// A part failed. Its message is whole, so it is no source besides; its remedy is [`Error::remedy`].
    #[error("{}", apart(.0).0)]
    Part(sokd_core::Error),
    /// A run directory whose checkpoint belongs to another recipe.
    #[error("{} holds a run of another recipe: {difference}", dir.display())]
    OtherRecipe {
        /// The run directory.
        dir: PathBuf,
        /// The first setting in which they differ.
        difference: String,
    },
    /// A run directory whose run began on other images than are there now.
    #[error("{} holds a run that began on other images of {name} than lie there now", dir.display())]
    OtherData {
        /// The run directory.
        dir: PathBuf,
        /// The data set.
        name: String,
    },
    /// A run directory in which another process works.
    #[error("another process works in {}", dir.display())]
    Locked {
        /// The run directory.
        dir: PathBuf,
    },
    /// A run that was asked to stop, and has saved where it stood.
    #[error("stopped after step {step}; everything up to there is saved")]
    Stopped {
        /// The run directory.
        dir: PathBuf,
        /// Steps done.
        step: u64,
    },
    /// Cells of a table that failed beside others that did not.
    #[error("{failed} of {cells} cells failed; the first: {first}")]
    Cells {
        /// How many.
        failed: usize,
        /// Of how many.
        cells: usize,
        /// Why the first of them did.
        first: Box<Error>,
    },
    /// A teacher that a cell needs, and that could not be trained.
    #[error("{label}: {source}")]
    Teacher {
        /// How progress and reports call it.
        label: String,
        /// Why not.
        source: Box<Error>,
    },
    /// A cell that ended in a process of its own.
    #[error("{label}: {problem}")]
    Ended {
        /// How progress and reports call it.
        label: String,
        /// How it ended, as its directory tells.
        problem: String,
        /// The exit code that goes with it.
        exit: Exit,
        /// What it said.
        log: PathBuf,
    },
    /// A sweep that was asked to stop.
    #[error("stopped with {finished} of {cells} cells finished; everything up to there is saved")]
    Paused {
        /// The sweep's folder.
        dir: PathBuf,
        /// How many are finished.
        finished: usize,
        /// Of how many.
        cells: usize,
    },
    /// A check that was asked for did not hold.
    #[error("{0}")]
    Unmet(String),
}

impl Error {
    /// The exit code that goes with it.
    pub fn exit(&self) -> Exit {
        use sokd_core::Error as Part;
        match self {
            Self::Misfit(_)
            | Self::OtherRecipe { .. }
            | Self::Part(
                Part::Setting { .. }
                | Part::NoTeacher(_)
                | Part::NoStudent(_)
                | Part::NoData(_)
                | Part::NoStage { .. },
            ) => Exit::Usage,
            Self::Locked { .. }
            | Self::Stopped { .. }
            | Self::Paused { .. }
            | Self::Part(Part::Parted { .. }) => Exit::TryAgain,
            Self::Ended { exit, .. } => *exit,
            Self::Teacher { source, .. } => source.exit(),
            Self::Unmet(_) | Self::OtherData { .. } => Exit::Unmet,
            Self::Cells { first, .. } => first.exit(),
            Self::Part(Part::Diverged { .. }) => Exit::Diverged,
            Self::Part(Part::Missing { .. }) => Exit::NoInput,
            Self::Part(Part::Unreachable { .. }) => Exit::Unreachable,
            Self::Part(Part::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Exit::NoInput
            }
            Self::Part(_) => Exit::Failed,
        }
    }

    /// What to do about it, where the message does not say.
    pub fn remedy(&self) -> Option<String> {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
        Some(match self {
            Self::Misfit(misfit) => return misfit.help.clone(),
            Self::Cells { first, .. } | Self::Teacher { source: first, .. } => return first.remedy(),
            Self::Ended { log, .. } => format!("what it said stands in {}", log.display()),
            Self::Paused { dir, .. } => format!("go on with: sokd sweep run {}", dir.display()),
            Self::OtherRecipe { .. } => {
                "choose another --run-dir, or --force to replace what is there".into()
            }
            Self::OtherData { .. } => {
                "bring the former images back, or begin anew with --force: half a run on each is neither"
                    .into()
            }
            Self::Locked { .. } => "wait for it, or choose another --run-dir".into(),
            Self::Stopped { dir, .. } => format!("go on with: sokd resume {}", dir.display()),
            Self::Part(sokd_core::Error::Io { source, .. }) => match source.kind() {
                StorageFull => {
                    "the disk is full: make room and run the same command again; what was saved is whole"
                        .into()
                }
                PermissionDenied | ReadOnlyFilesystem => {
                    "choose a folder that may be written, by --run-dir or SOKD_RUNS_DIR".into()
                }
                _ => return None,
            },
            Self::Part(sokd_core::Error::Parted { .. }) => {
                "the last whole step is saved: start all processes again, and they go on from there".into()
            }
            Self::Part(sokd_core::Error::Diverged { .. }) => {
                "the last checkpoint before it is kept; a lower learning rate, warm-up or clipping may help"
                    .into()
            }
            Self::Part(error) => return apart(error).1,
            Self::Unmet(_) => return None,
        })
    }
}

/// The libraries' messages end in their remedy; here it stands apart.
fn apart(error: &sokd_core::Error) -> (String, Option<String>) {
    let text = error.to_string();
    match text.split_once("\n  remedy: ") {
        Some((problem, remedy)) => (problem.to_owned(), Some(remedy.to_owned())),
        None => (text, None),
    }
}

impl From<sokd_core::Error> for Error {
    fn from(error: sokd_core::Error) -> Self {
        Self::Part(error)
    }
}

impl From<Misfit> for Error {
    fn from(misfit: Misfit) -> Self {
        Self::Misfit(Box::new(misfit))
    }
}

impl miette::Diagnostic for Error {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.remedy().map(|remedy| Box::new(remedy) as _)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        match self {
            Self::Misfit(misfit) => misfit.source_code(),
            _ => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        match self {
            Self::Misfit(misfit) => misfit.labels(),
            _ => None,
        }
    }
}

/// A result whose error is ours.
pub type Result<T, E = Error> = std::result::Result<T, E>;
