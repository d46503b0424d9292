//! Who runs the cells elsewhere: one scheduler a file. Each is asked by a shell script that anyone can read and change.

mod hq;
mod k8s;
mod slurm;

use super::{Sweep, Task};
use crate::{Misfit, Result};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A scheduler.
#[derive(Debug)]
pub struct Engine {
    /// How the command line calls it.
    pub name: &'static str,
    /// The program that must be there to ask it.
    pub program: &'static str,
    /// The script.
    write: fn(&Submission<'_>) -> Result<String>,
}

/// Every scheduler: one line each.
pub const ENGINES: &[Engine] = &[slurm::ENGINE, hq::ENGINE, k8s::ENGINE];

/// Their names.
pub fn engines() -> Vec<&'static str> {
    ENGINES.iter().map(|engine| engine.name).collect()
}

/// What a scheduler is asked for.
#[derive(Debug)]
pub struct Submission<'a> {
    /// Whose cells.
    pub sweep: &'a Sweep,
    /// Those that are not finished.
    pub to_do: Vec<&'a Task>,
    /// At most so many at a time.
    pub at_once: Option<usize>,
    /// The longest that a cell may take, as the scheduler writes it.
    pub time: Option<String>,
    /// Passed on as they are.
    pub options: Vec<String>,
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// The container in which sokd lies.
    pub image: Option<String>,
    /// The claim of the volume on which the sweep lies.
    pub claim: Option<String>,
    /// This program.
    pub program: PathBuf,
}

impl Engine {
    /// The scheduler of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ENGINES.iter().find(|engine| engine.name == name)
    }

    /// The script that submits what is left to do.
    ///
    /// # Errors
    /// Something that this scheduler needs to know and was not told.
    pub fn script(&self, submission: &Submission<'_>) -> Result<String> {
        (self.write)(submission)
    }

    /// Runs a script of its.
    ///
    /// # Errors
    /// A scheduler that is not there or refuses.
    pub fn submit(&self, script: &str) -> Result<()> {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&folders).any(|folder| folder.join(self.program).is_file()) {
            return Err(Misfit::new(format!("there is no `{}` on this machine", self.program))
                .help(
                    "submit from where it is; without --yes the script is printed, to be run there with bash",
                )
                .into());
        }
        let bash = || -> std::io::Result<_> {
            let mut bash = Command::new("bash").stdin(Stdio::piped()).spawn()?;
            if let Some(mut input) = bash.stdin.take() {
                input.write_all(script.as_bytes())?;
            }
            bash.wait()
        };
        let status = bash().map_err(sokd_core::Error::io(Path::new("bash")))?;
        if status.success() {
            return Ok(());
        }
        let problem =
            format!("`{}` did not take the sweep ({status}); what it said stands above", self.program);
        Err(Misfit::new(problem)
            .help("without --yes the script is printed: change it, and run it with bash")
            .into())
    }
}

impl Submission<'_> {
    /// How the scheduler calls the job.
    fn name(&self) -> String {
        let letter =
            |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
        self.sweep.asked.name().chars().map(letter).collect::<String>().trim_matches('-').to_owned()
    }

    /// The numbers of the cells that are left, as an array has them: `0-3,7`.
    fn indices(&self) -> String {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for task in &self.to_do {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == task.cell => *last = task.cell,
                _ => ranges.push((task.cell, task.cell)),
            }
        }
        let text = |(first, last): &(usize, usize)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        ranges.iter().map(text).collect::<Vec<_>>().join(",")
    }

    /// What is passed on to the scheduler's program, each behind a space.
    fn passed_on(&self) -> String {
        self.options.iter().flat_map(|option| [" ".to_owned(), quoted(option)]).collect()
    }

    /// A command of ours on the sweep, as a shell takes it.
    fn command(&self, verb: &str) -> String {
        let device = if self.device == "cpu" { String::new() } else { format!(" --device {}", self.device) };
        let [program, dir] = [&self.program, &self.sweep.dir].map(|path| quoted(&path.to_string_lossy()));
        format!("{program} sweep {verb} {dir}{device}")
    }

    /// A line about what follows.
    fn head(&self) -> String {
        let name = self.sweep.asked.name();
        format!("{} of {} cells of {name} are not finished", self.to_do.len(), self.sweep.tasks.len())
    }
}

/// A text as a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:=,@%".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
