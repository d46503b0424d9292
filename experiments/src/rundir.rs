//! A run's directory: what stands in it, and who may write there.

use crate::environment::{Environment, utc};
use crate::log::Log;
use crate::overlay::{Document, Setting};
use crate::{Error, Exit, Misfit, Recipe, Resolved, Result, Summary, pins, predictions, said, track, typed};
use serde::{Deserialize, Serialize};
use sokd_core::file;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// Which images a run began on.
const DATA: &str = "data.json";

/// All that a run writes beside its lock, and all that starting over removes.
const CONTENTS: &[&str] = &[
    "config.toml",
    "overrides.txt",
    pins::FILE,
    "origin.json",
    "env.json",
    "status.json",
    "metrics.jsonl",
    "summary.json",
    DATA,
    said::FILE,
    predictions::FILE,
    "train.log",
    "checkpoints",
    "student",
    "report.html",
    "report.md",
    "studies.json",
    track::NOTE,
];

/// A run's directory, in which no other process writes while this lives.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held open: the system frees the lock with the process, however that ends.
    _lock: File,
    /// Whether its status says how it ended.
    settled: bool,
    step: u64,
}

/// What stands in a run's directory.
#[derive(Debug)]
pub enum Found {
    /// Nothing of a run.
    Nothing,
    /// This run, not finished.
    Left,
    /// This run, finished.
    Finished(Box<Summary>),
}

/// How a run stands: `status.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// What it does.
    pub state: State,
    /// Steps done when this was written.
    pub step: u64,
    /// The exit code, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// What ended it early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When this was written, in UTC.
    pub written: String,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It trains, or was killed.
    Running,
    /// It came to its end.
    Finished,
    /// Something went wrong.
    Failed,
    /// It was asked to stop, and can go on.
    Stopped,
}

impl Status {
    /// How the run in a directory stood when it last said so; nothing, where none has begun.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("status.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(sokd_core::Error::io(&path)(error).into()),
        };
        Ok(Some(serde_json::from_slice(&text).map_err(|error| {
            let problem = format!("no status of a run: {error}");
            sokd_core::Error::file(&path, None, problem, "delete the file: the next start writes it anew")
        })?))
    }
}

impl RunDir {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process works there; a directory that holds something else than a run.
    pub fn lock(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(sokd_core::Error::io(path))?;
        let name = path.join(".lock");
        // In this order: who else begins here makes the lock before anything else.
        let holds_something = std::fs::read_dir(path).map_err(sokd_core::Error::io(path))?.next().is_some();
        if holds_something && !name.exists() {
            let problem = format!("{} holds files that are no run's", path.display());
            return Err(Misfit::new(problem)
                .help("choose an empty directory, or one that does not exist yet")
                .into());
        }
        let lock = hold(path)?;
        file::sweep(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock, settled: true, step: 0 })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What stands here, seen from a recipe.
    ///
    /// # Errors
    /// [`Error::OtherRecipe`] when it is another recipe's run.
    pub fn found(&self, resolved: &Resolved) -> Result<Found> {
        let config = self.join("config.toml");
        if !config.exists() {
            return Ok(Found::Nothing);
        }
        let settings = Setting::read(&Document::file(&config)?)?;
        let same = typed::<Recipe>(&settings).is_ok_and(|recipe| recipe.id() == resolved.id);
        if !same {
            let difference = difference(&settings, resolved)?;
            return Err(Error::OtherRecipe { dir: self.path.clone(), difference });
        }
        Ok(Summary::read(&self.path)?.map_or(Found::Left, |summary| Found::Finished(Box::new(summary))))
    }

    /// Removes everything that a run wrote here.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn clear(&self) -> Result<()> {
        let named = CONTENTS.iter().map(|name| self.join(name));
        // Their names have a time in them.
        for path in named.chain(track::event_files(&self.path)?) {
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(sokd_core::Error::io(&path)(error).into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes down what will run, where, and by whose words; `config.toml` comes last: where it stands, the rest does. A
    /// run that goes on keeps its words and the time at which it began.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn describe(&self, resolved: &Resolved, here: Environment) -> Result<Environment> {
        let before = std::fs::read(self.join("env.json")).ok();
        let before: Option<Environment> = before.and_then(|text| serde_json::from_slice(&text).ok());
        let environment =
            Environment { started: before.map_or(here.started, |before| before.started), ..here };
        self.write_json("env.json", &environment)?;
        if !self.join("config.toml").exists() {
            let origins: serde_json::Map<String, serde_json::Value> =
                resolved.origins()?.into_iter().map(|(path, _, origin)| (path, origin.into())).collect();
            self.write("overrides.txt", resolved.overrides.join("\n"))?;
            self.write_json("origin.json", &origins)?;
            self.write("config.toml", resolved.toml()?)?;
        }
        Ok(environment)
    }

    /// Writes down on which images the run begins, by their digest.
    ///
    /// # Errors
    /// [`Error::OtherData`] when it goes on and they are others.
    pub fn begins_on(&self, name: &str, digest: &str) -> Result<()> {
        let here = serde_json::json!({ "name": name, "blake3": digest });
        match std::fs::read(self.join(DATA)) {
            Ok(text)
                if serde_json::from_slice::<serde_json::Value>(&text).is_ok_and(|there| there == here) =>
            {
                Ok(())
            }
            Ok(_) => Err(Error::OtherData { dir: self.path.clone(), name: name.to_owned() }),
            Err(_) => self.write_json(DATA, &here),
        }
    }

    /// Who writes down what happens.
    pub fn log(&self) -> Log {
        Log::new(&self.join("train.log"))
    }

    /// Writes down how the run stands.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn stand(&mut self, state: State, step: u64, ended: Option<(Exit, String)>) -> Result<()> {
        let (exit_code, problem) = ended.map(|(exit, problem)| (exit as u8, problem)).unzip();
        let written = utc(SystemTime::now());
        self.write_json("status.json", &Status { state, step, exit_code, problem, written })?;
        self.settled = state != State::Running;
        self.step = step;
        Ok(())
    }

    /// Writes down what ended the run, as far as the system lets it: a disk too full for a checkpoint is too full for
    /// this too, and the first word counts.
    pub fn fail(&mut self, error: &Error) {
        self.log().say(&format!("fails: {error}")).ok();
        self.stand(State::Failed, self.step, Some((error.exit(), error.to_string()))).ok();
    }

    /// A file of the run, whole or not at all.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
        Ok(file::write(&self.join(name), text.as_ref())?)
    }

    /// A JSON file of the run, whole or not at all.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(value).map_err(|error| {
            sokd_core::Error::file(&self.join(name), None, error.to_string(), "report this bug")
        })?;
        text.push(b'\n');
        self.write(name, text)
    }
}

impl Drop for RunDir {
    /// A run that ends without a word, by a panic, has failed.
    fn drop(&mut self) {
        if !self.settled {
            let problem = "the program broke off: a bug".to_owned();
            self.stand(State::Failed, self.step, Some((Exit::Failed, problem))).ok();
        }
    }
}

/// The first setting in which a directory's recipe and a new one differ.
fn difference(there: &Setting, resolved: &Resolved) -> Result<String> {
    let here = Setting::read(&Document::new("new", resolved.toml()?))?;
    let both = here.leaves().into_iter().chain(there.leaves());
    for (path, _) in both {
        let value = |settings: &Setting| {
            settings.leaves().into_iter().find(|(at, _)| *at == path).map(|(_, setting)| setting.plain())
        };
        let (was, is) = (value(there), value(&here));
        if was != is {
            let text = |value: Option<toml::Value>| {
                value.map_or_else(|| "absent".to_owned(), |value| value.to_string())
            };
            return Ok(format!("{path} is {} there and {} here", text(was), text(is)));
        }
    }
    Ok("its settings are read differently by this version".into())
}

/// Longer than anyone takes who looks whether a lock is held.
const GLANCE: Duration = Duration::from_millis(20);

/// Where a sweep has its runs, in a process that works for one.
static SETTLED: OnceLock<PathBuf> = OnceLock::new();

/// The folder of all runs: `SOKD_RUNS_DIR`, or `runs`.
pub fn root() -> PathBuf {
    let usual = || std::env::var_os("SOKD_RUNS_DIR").map_or_else(|| PathBuf::from("runs"), PathBuf::from);
    SETTLED.get().cloned().unwrap_or_else(usual)
}

/// What was learned of teachers before a first step, by whichever run was the first to ask.
pub fn previews() -> PathBuf {
    root().join("previews")
}

/// Keeps this process to one folder of all runs: a job of a sweep finds them where they were when it was planned, whatever
/// the environment says that its scheduler gave it.
pub fn settle(root: PathBuf) {
    SETTLED.set(root).ok();
}

/// Holds a directory until what it returns is dropped, or the process ends.
///
/// # Errors
/// [`Error::Locked`] while another process holds it.
pub fn hold(dir: &Path) -> Result<File> {
    let name = dir.join(".lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&name);
    let lock = lock.map_err(sokd_core::Error::io(&name))?;
    // Whoever only looks, as [`busy`] does, holds it for an instant: that is no reason to go.
    for last in [false, false, true] {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(sokd_core::Error::io(&name)(error).into()),
            Err(TryLockError::WouldBlock) if !last => std::thread::sleep(GLANCE),
            Err(TryLockError::WouldBlock) => {}
        }
    }
    Err(Error::Locked { dir: dir.to_owned() })
}

/// Whether a process works in a run's directory.
pub fn busy(dir: &Path) -> bool {
    let held = |lock: File| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock));
    File::open(dir.join(".lock")).is_ok_and(held)
}

/// Where a run is kept unless the command line says otherwise: `<root>/<recipe>/<digest without seed>/seed-<n>`.
pub fn default_dir(recipe: &str, resolved: &Resolved) -> PathBuf {
    let name = Path::new(recipe.trim_start_matches("sokd:"));
    let name = name.file_stem().map_or_else(|| "run".into(), |stem| stem.to_string_lossy());
    let variant = Recipe { seed: 0, ..resolved.recipe.clone() }.id();
    root().join(name.as_ref()).join(&variant[..12]).join(format!("seed-{}", resolved.recipe.seed))
}

/// Lets `<root>/latest` lead to a run.
pub fn point_latest(dir: &Path) {
    let root = root();
    let link = root.join("latest");
    let target = dir.strip_prefix(&root).unwrap_or(dir);
    // A convenience: a file system without links, or a folder of that name, is no reason to fail.
    #[cfg(unix)]
    if link.is_symlink() || !link.exists() {
        // The first run of all finds no folder for the link.
        std::fs::create_dir_all(&root).ok();
        std::fs::remove_file(&link).ok();
        std::os::unix::fs::symlink(target, &link).ok();
    }
    #[cfg(not(unix))]
    let _ = (link, target);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// Neither takes what the other has made there for a stranger's file.
    #[test]
    fn of_two_that_begin_a_run_at_once_one_does() {
        for _ in 0..50 {
            let (folder, start) = (tempfile::tempdir().expect("a folder"), Barrier::new(2));
            let begin = || {
                start.wait();
                RunDir::lock(folder.path())
            };
            let ends = std::thread::scope(|scope| {
                [(); 2].map(|()| scope.spawn(begin)).map(std::thread::ScopedJoinHandle::join)
            });
            let ends = ends.map(|end| end.expect("no panic"));
            let fine = |end: &Result<RunDir>| matches!(end, Ok(_) | Err(Error::Locked { .. }));
            assert!(ends.iter().all(fine) && ends.iter().any(Result::is_ok), "{ends:?}");
        }
    }
}
