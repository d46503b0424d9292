//! A teacher that is a recipe, `weights = "recipe:<name>"`: it is trained first, once, and found finished afterwards.

use crate::cli::Session;
use crate::track::Kind;
use crate::{Error, Layers, Options, Resolved, Result, Summary, rundir, shipped, signals};
use sokd_world::ALONE;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait before looking again whether a teacher is there.
const PAUSE: Duration = Duration::from_millis(500);

/// A recipe that must have run before another can.
#[derive(Clone, Debug)]
pub struct Teacher {
    /// The recipe's name.
    pub name: String,
    /// What it runs.
    pub resolved: Resolved,
    /// How progress and reports call it.
    pub label: String,
}

impl Teacher {
    /// What trains the teacher of a recipe that names one; the recipe then names its run instead, and so its own identity
    /// changes whenever its teacher's does. None where the teacher comes with the program and has not been trained here.
    ///
    /// # Errors
    /// A recipe that does not exist or does not fit.
    pub fn of(resolved: &mut Resolved, tier: &str) -> Result<Option<Self>> {
        let Some(spec) = &mut resolved.recipe.teacher else { return Ok(None) };
        let Some(name) = spec.weights.strip_prefix("recipe:").map(str::to_owned) else { return Ok(None) };
        let mut layers = Layers::open(&name)?;
        // A recipe that has no such tier is trained in full: a short table need not have a short teacher.
        if layers.clone().tier(tier).is_ok() {
            layers.tier(tier)?;
        }
        let teacher = layers.resolve()?;
        let run = rundir::default_dir(&name, &teacher);
        let below = run.strip_prefix(rundir::root()).unwrap_or(&run);
        spec.weights = format!("run:{}", below.display());
        resolved.id = resolved.recipe.id();
        if shipped::trained(&below.to_string_lossy()).is_some() && !run.exists() {
            return Ok(None);
        }
        let label = format!("teacher {name}");
        Ok(Some(Self { name, resolved: teacher, label }))
    }

    /// The command that trains it by itself.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn command(&self, tier: &str) -> Result<String> {
        let sized = Layers::open(&self.name)?.tier(tier).is_ok() && tier != "full";
        let size = if sized { format!(" --tier {tier}") } else { String::new() };
        Ok(format!("sokd train {}{size}", self.name))
    }

    /// It has to be trained before anything else can be done.
    pub fn untrained(&self, remedy: String) -> Error {
        let what = format!("the run that trains the teacher, by the recipe {}", self.name);
        sokd_core::Error::Missing { path: self.dir(), what, remedy }.into()
    }

    /// Where it is trained.
    pub fn dir(&self) -> PathBuf {
        rundir::default_dir(&self.name, &self.resolved)
    }

    /// Whether it is trained.
    ///
    /// # Errors
    /// A summary that cannot be read.
    pub fn finished(&self) -> Result<bool> {
        Ok(Summary::read(&self.dir())?.is_some_and(|summary| summary.recipe == self.resolved.id))
    }

    /// Trains it there, or waits for whoever does: of many that need it one trains it, and the others find it finished.
    ///
    /// # Errors
    /// [`Error::Teacher`]; [`Error::Stopped`] also while waiting.
    pub fn train(&self, dir: &Path, session: &Session, track: &[&'static Kind]) -> Result<()> {
        let label = self.label.clone();
        let options = Options { session, force: false, label: label.clone(), track, world: &ALONE };
        let mut said = false;
        loop {
            match crate::run(&self.resolved, dir, &options) {
                Ok(_) => return Ok(()),
                Err(Error::Locked { .. }) if signals::heed().asked() => {
                    return Err(Error::Stopped { dir: dir.to_owned(), step: 0 });
                }
                Err(Error::Locked { .. }) => {
                    if !std::mem::replace(&mut said, true) {
                        session.stage.say(&format!("{label}: another process trains it; waiting"));
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(stopped @ Error::Stopped { .. }) => return Err(stopped),
                Err(error) => return Err(Error::Teacher { label, source: Box::new(error) }),
            }
        }
    }
}
