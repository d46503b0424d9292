//! How the program ends: the exit codes that scripts and schedulers may rely on.

use std::process::ExitCode;

/// Why the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed: reading or writing, or a file that is not what it should be.
    Failed = 1,
    /// The command line or a recipe does not fit.
    Usage = 2,
    /// Training left the numbers.
    Diverged = 3,
    /// A check that was asked for did not hold.
    Unmet = 4,
    /// A file that is needed is not there.
    NoInput = 66,
    /// The hub, or a process that should train along, cannot be reached.
    Unreachable = 69,
    /// Stopped with a checkpoint, or someone else works there: run the same command again.
    TryAgain = 75,
    /// Stopped by a second Ctrl-C, without waiting for a checkpoint.
    Interrupted = 130,
    /// Stopped by a second TERM, without waiting for a checkpoint.
    Terminated = 143,
}

impl Exit {
    const ALL: [Self; 10] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Diverged,
        Self::Unmet,
        Self::NoInput,
        Self::Unreachable,
        Self::TryAgain,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// What a program of ours meant by its exit code; what it never says is a failure.
    pub fn of(code: i32) -> Self {
        Self::ALL.into_iter().find(|exit| *exit as i32 == code).unwrap_or(Self::Failed)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The table of exit codes, as `sokd --help` prints it.
pub const TABLE: &str = "Exit codes:
    0  done
    1  failed (reading, writing, or a file that is not what it should be)
    2  the command line or a recipe does not fit
    3  training has diverged (a loss is not finite)
    4  a check did not hold (eval --min, data verify, a teacher's expected accuracy)
   66  a file that is needed is missing
   69  the hub, or a process that should train along, cannot be reached
   75  stopped with a checkpoint, or another process works there: run again
  101  a bug
  130  stopped at once by a second Ctrl-C
  143  stopped at once by a second TERM";
