//! Layers of settings become a recipe.

use crate::misfit::{closest, misfit, typed};
use crate::overlay::{Document, Setting, Value, spoken};
use crate::{Error, Misfit, Recipe, Result, shipped};
use std::path::Path;
use std::sync::Arc;

/// Layers of settings, from the bottom: what a recipe extends, the recipe, a table's cell, a tier, the command line.
#[derive(Clone, Debug)]
pub struct Layers {
    settings: Setting,
    overrides: Vec<String>,
}

/// A recipe, and how it came to be.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The recipe itself, every default filled in.
    pub recipe: Recipe,
    /// Its identity: two recipes that resolve alike are one run.
    pub id: String,
    /// What was written, with its places; defaults are not in it.
    pub settings: Setting,
    /// What the command line said, as typed.
    pub overrides: Vec<String>,
}

impl Layers {
    /// A recipe by its file, its name (`cifar10-first`) or a preset (`sokd:dkd`), on top of what it extends.
    ///
    /// # Errors
    /// A file that is missing, a name that does not exist, a text that is not TOML.
    pub fn open(name: &str) -> Result<Self> {
        Self::of(&find(name, None)?)
    }

    /// A recipe by its text, on top of what it extends.
    ///
    /// # Errors
    /// A text that is not TOML, or extends what does not exist.
    pub fn of(document: &Arc<Document>) -> Result<Self> {
        let mut layers = Self { settings: Setting::empty(document), overrides: Vec::new() };
        layers.lay(Setting::read(document)?)?;
        Ok(layers)
    }

    /// One layer more, on top of what it extends: a table's row or column.
    ///
    /// # Errors
    /// It extends what does not exist, or itself.
    pub fn lay(&mut self, over: Setting) -> Result<()> {
        self.lay_below(over, &mut Vec::new())
    }

    fn lay_below(&mut self, mut over: Setting, open: &mut Vec<String>) -> Result<()> {
        for (name, setting) in bases(over.take("extends"))? {
            let base = find(&name, Some(&setting))?;
            if open.contains(&base.name) {
                let circle = format!("extends: {} extends itself, through {}", base.name, open.join(", "));
                return Err(Misfit::new(circle).at(setting.at).into());
            }
            open.push(base.name.clone());
            self.lay_below(Setting::read(&base)?, open)?;
            open.pop();
        }
        self.settings.lay(over);
        Ok(())
    }

    /// The settings that the recipe keeps for a size of run, under `[tier.<name>]`. The tier `smoke` is there for
    /// every recipe: two steps on procedural images.
    ///
    /// # Errors
    /// A tier that the recipe does not have.
    pub fn tier(&mut self, name: &str) -> Result<()> {
        let mut tiers = self.settings.take("tier");
        if name == "smoke" {
            let mut smoke = Setting::read(&Document::new("sokd:smoke", shipped::SMOKE))?;
            let asks = |name: &str| self.settings.table().and_then(|table| table.get(name));
            if asks("teacher").is_none() {
                smoke.take("teacher");
            }
            if asks("phase").and_then(Setting::table).is_none_or(|phases| !phases.contains_key("student")) {
                smoke.take("phase");
            }
            self.settings.lay(smoke);
        }
        let tier = tiers.as_mut().and_then(|tiers| tiers.take(name));
        match tier {
            Some(tier) => self.settings.lay(tier),
            // `full` is the recipe as it stands.
            None if ["smoke", "full"].contains(&name) => {}
            None => {
                let known = tiers.as_ref().and_then(Setting::table);
                let mut names: Vec<&str> =
                    known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                names.extend(["smoke", "full"]);
                let help = format!("it has: {}", names.join(", "));
                return Err(Misfit::new(format!("this recipe has no tier `{name}`")).help(help).into());
            }
        }
        Ok(())
    }

    /// `key=value`, as the command line has them, each on top of the one before.
    ///
    /// # Errors
    /// What is not of that form.
    pub fn set(&mut self, overrides: &[String]) -> Result<()> {
        for text in overrides {
            self.lay(spoken(text)?)?;
            self.overrides.push(text.clone());
        }
        Ok(())
    }

    /// The recipe that the layers make.
    ///
    /// # Errors
    /// [`Error::Misfit`] with the setting that does not fit, in the layer that said it.
    pub fn resolve(mut self) -> Result<Resolved> {
        self.settings.take("tier");
        let recipe: Recipe = typed(&self.settings)?;
        recipe.check().map_err(|(path, problem)| misfit(&self.settings, &path, &problem))?;
        let id = recipe.id();
        Ok(Resolved { recipe, id, settings: self.settings, overrides: self.overrides })
    }
}

impl Resolved {
    /// A recipe from its parts: where it starts, a tier, what the command line says.
    ///
    /// # Errors
    /// As [`Layers`].
    pub fn new(recipe: &str, tier: Option<&str>, overrides: &[String]) -> Result<Self> {
        let mut layers = Layers::open(recipe)?;
        if let Some(tier) = tier {
            layers.tier(tier)?;
        }
        layers.set(overrides)?;
        layers.resolve()
    }

    /// The recipe as a file that loads as it is.
    ///
    /// # Errors
    /// None that a recipe read from TOML could raise.
    pub fn toml(&self) -> Result<String> {
        Ok(self.recipe.toml()?)
    }

    /// Every setting of the recipe, with its value and where it was written; `default` where nowhere.
    ///
    /// # Errors
    /// None that a recipe read from TOML could raise.
    pub fn origins(&self) -> Result<Vec<(String, toml::Value, String)>> {
        let whole = Setting::read(&Document::new("default", self.toml()?))?;
        let origin = |path: &str| {
            let written = self.settings.leaves();
            let exact = written.iter().find(|(at, _)| at == path);
            exact.map_or_else(|| "default".to_owned(), |(_, setting)| setting.at.to_string())
        };
        Ok(whole
            .leaves()
            .iter()
            .map(|(path, setting)| (path.clone(), setting.plain(), origin(path)))
            .collect())
    }
}

/// The names that `extends` gives, each with its place.
fn bases(extends: Option<Setting>) -> Result<Vec<(String, Setting)>> {
    let Some(extends) = extends else { return Ok(Vec::new()) };
    let listed = match &extends.value {
        Value::List(list) => list.clone(),
        _ => vec![extends],
    };
    let name = |setting: Setting| match &setting.value {
        Value::Plain(toml::Value::String(name)) => Ok((name.clone(), setting)),
        _ => Err(Error::from(Misfit::new("extends: expected a name or a list of names").at(setting.at))),
    };
    listed.into_iter().map(name).collect()
}

/// The document of that name: a preset, a file (relative to the file that names it), or a recipe that comes with sokd.
fn find(name: &str, asked: Option<&Setting>) -> Result<Arc<Document>> {
    let unknown = |names: Vec<&str>| {
        let mut misfit = Misfit::new(format!("no recipe or preset is called `{name}`"));
        misfit.place = asked.map(|setting| setting.at.clone());
        let near = closest(name, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        misfit.help =
            Some(near.unwrap_or_else(|| "`sokd list recipes` and `sokd list presets` name them all".into()));
        Error::from(misfit)
    };
    if let Some(preset) = name.strip_prefix("sokd:") {
        let text = sokd_baselines::preset(preset);
        return text.map(|text| Document::new(name, text)).ok_or_else(|| {
            let mut misfit = Misfit::new(format!("no preset is called `{name}`"));
            misfit.place = asked.map(|setting| setting.at.clone());
            let near = closest(preset, sokd_baselines::presets());
            misfit.help = near.map(|near| format!("did you mean `sokd:{near}`?"));
            misfit.into()
        });
    }
    let folder = asked.and_then(|setting| setting.at.document.folder.as_deref());
    let path = folder.map_or_else(|| Path::new(name).to_owned(), |folder| folder.join(name));
    if path.is_file() || path.extension().is_some_and(|extension| extension == "toml") {
        return Document::file(&path).map_err(|error| match (error, asked) {
            (Error::Part(missing), Some(setting)) => {
                Misfit::new(missing.to_string()).at(setting.at.clone()).into()
            }
            (error, _) => error,
        });
    }
    let text = shipped::recipe(name)
        .ok_or_else(|| unknown(shipped::RECIPES.iter().map(|(name, _)| *name).collect()))?;
    Ok(Document::new(name, text))
}
