use crate::environment::{Environment, seconds};
use crate::overlay::{Document, Setting};
use crate::rundir::{State, Status};
use crate::track::Ended;
use crate::{Layers, Resolved, Result};
use sokd_core::{Dataset, Error};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A run, as trackers are told of it.
#[derive(Clone)]
pub struct About {
    /// Its directory.
    pub dir: PathBuf,
    /// How progress and tables call it: `KD, seed 1`.
    pub label: String,
    /// What it runs.
    pub resolved: Resolved,
    /// Where and when.
    pub environment: Environment,
    /// The images, where they are at hand.
    pub images: Option<Arc<dyn Dataset>>,
}

impl About {
    /// What a run's directory tells of it, and how it has ended.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no run.
    pub fn read(dir: &Path) -> Result<(Self, Ended)> {
        let config = dir.join("config.toml");
        if !config.exists() {
            let what = "a run writes its recipe there before its first step".to_owned();
            let remedy = "name the directory of a run: `sokd train` prints it".to_owned();
            return Err(Error::Missing { path: config, what, remedy }.into());
        }
        let read = |name: &str| std::fs::read(dir.join(name)).map_err(Error::io(&dir.join(name)));
        let strange = |name: &str, error: &serde_json::Error| {
            Error::file(&dir.join(name), None, error.to_string(), "`sokd resume` writes it again")
        };
        let status: Status =
            serde_json::from_slice(&read("status.json")?).map_err(|error| strange("status.json", &error))?;
        let environment =
            serde_json::from_slice(&read("env.json")?).map_err(|error| strange("env.json", &error))?;
        let resolved = Layers::of(&Document::file(&config)?)?.resolve()?;
        let ended = match status.state {
            State::Finished => Ended::Finished,
            State::Failed => Ended::Failed,
            // Nobody works there: whoever asks holds the lock.
            State::Running | State::Stopped => Ended::Stopped,
        };
        let label = dir.display().to_string();
        Ok((Self { dir: dir.to_owned(), label, resolved, environment, images: None }, ended))
    }

    /// When it began, in seconds since 1970.
    pub fn began(&self) -> f64 {
        seconds(&self.environment.started).unwrap_or(0) as f64
    }

    /// Every setting by its path: a number, a truth value or a text. Lists are texts.
    pub fn settings(&self) -> Result<Vec<(String, toml::Value)>> {
        use toml::Value::{Boolean, Float, Integer, String};
        let whole = Setting::read(&Document::new("recipe", self.resolved.toml()?))?;
        let plain = |setting: &Setting| match setting.plain() {
            plain @ (Boolean(_) | Float(_) | Integer(_) | String(_)) => plain,
            other => String(other.to_string()),
        };
        Ok(whole.leaves().into_iter().map(|(path, setting)| (path, plain(setting))).collect())
    }

    /// What it is, in Markdown.
    pub fn page(&self) -> Result<String> {
        let Environment { version, commit, dirty, host, machine, device, threads, started, .. } =
            &self.environment;
        let changed = if *dirty { ", with changes" } else { "" };
        Ok(format!(
            "**{}**: recipe `{}`, sokd {version} at commit {commit}{changed}, on {host} ({machine}; {device}, \
             {threads} threads), begun {started}\n\n```toml\n{}```\n",
            self.label,
            self.resolved.id,
            self.resolved.toml()?
        ))
    }
}

impl std::fmt::Debug for About {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("About").field("dir", &self.dir).field("label", &self.label).finish_non_exhaustive()
    }
}
