use std::path::{Path, PathBuf};

/// Everything that can go wrong in a library crate, with the values that a person needs to mend it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation refused its tensors.
    #[error(transparent)]
    Tensor(#[from] candle::Error),
    /// A tensor does not have the shape that its place asks for.
    #[error("{what}: expected {expected}, got {got:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// The axes it should have had, in words.
        expected: String,
        /// The axes it had.
        got: Vec<usize>,
    },
    /// A loss or plug-in that compares with a teacher stands in a recipe without one.
    #[error("{0} needs a teacher, and this recipe names none: add a [teacher] table")]
    NoTeacher(&'static str),
    /// A part with weights of its own is built before the student is known.
    #[error("{0} is built against a student, and none is known yet")]
    NoStudent(&'static str),
    /// A network is built before it is known what it will see.
    #[error("{0} is built for a data set, and none is known yet")]
    NoData(&'static str),
    /// A stage beyond the last.
    #[error("stage {stage} does not exist: this network has {stages}, counted from 0")]
    NoStage {
        /// The stage asked for.
        stage: usize,
        /// How many there are.
        stages: usize,
    },
    /// A setting whose value cannot work, found only when the part is built.
    #[error("{what}: {problem}")]
    Setting {
        /// The setting, by the name that the recipe gives it.
        what: String,
        /// Why it cannot work, and what would.
        problem: String,
    },
    /// A file that is not what it should be.
    #[error("{}{}: {problem}\n  remedy: {remedy}", path.display(), offset.map_or(String::new(), |o| format!(" at byte {o}")))]
    File {
        /// Which file.
        path: PathBuf,
        /// Where in it, in bytes from the start, if one place is to blame.
        offset: Option<u64>,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// A file or folder that is not there.
    #[error("{} is missing: {what}\n  remedy: {remedy}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What it would have been.
        what: String,
        /// How to get it.
        remedy: String,
    },
    /// The system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A server that does not answer, or not with what it was asked for.
    #[error("{url}: {problem}\n  remedy: {remedy}")]
    Unreachable {
        /// What it was asked for.
        url: String,
        /// What happened instead.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// One of the processes that train together is gone.
    #[error("rank {rank} is gone: {problem}")]
    Parted {
        /// Which, from 0.
        rank: usize,
        /// What it said, or how it was missed.
        problem: String,
    },
    /// Saved tensors that do not fit the weights they should fill.
    #[error(
        "the tensors for {what} do not fit{}{}{}",
        listed("missing", missing),
        listed("unexpected", unexpected),
        listed("of another shape", misshapen)
    )]
    Unfit {
        /// Which weights, or whose state.
        what: String,
        /// Names that nothing was found for.
        missing: Vec<String>,
        /// Names that nothing here bears.
        unexpected: Vec<String>,
        /// Names with the shape expected and the shape found.
        misshapen: Vec<String>,
    },
    /// Training left the numbers: a loss is not finite any more.
    #[error("{what} is {value} in step {step} of epoch {epoch}: training has diverged")]
    Diverged {
        /// The loss term, by its log name.
        what: String,
        /// Its value.
        value: f64,
        /// The epoch, from 0.
        epoch: usize,
        /// The step in the whole run, from 0.
        step: u64,
    },
}

impl Error {
    /// For `map_err` on a file operation.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// A file that is not what it should be.
    pub fn file(
        path: &Path,
        offset: impl Into<Option<u64>>,
        problem: impl Into<String>,
        remedy: &str,
    ) -> Self {
        Self::File {
            path: path.to_owned(),
            offset: offset.into(),
            problem: problem.into(),
            remedy: remedy.to_owned(),
        }
    }

    /// A setting whose value cannot work.
    pub fn setting(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Setting { what: what.into(), problem: problem.into() }
    }
}

/// One line of an [`Error::Unfit`], whole: a name left out is a name looked for in vain.
fn listed(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("\n  {what} ({}): {}", names.len(), names.join(", "))
    }
}

/// A result whose error is ours.
pub type Result<T, E = Error> = std::result::Result<T, E>;
