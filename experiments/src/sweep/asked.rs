use super::axis::{self, Axis, Point, inline, name, points};
use super::holds;
use crate::misfit::{closest, typed};
use crate::overlay::{Document, Setting, Value};
use crate::table::{self, Choice, Table};
use crate::{Layers, Misfit, Result, shipped};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a sweep was asked to be: `sweep.toml`, which anyone may write by hand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Asked {
    /// A table's cells ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// ... or a recipe with some of its settings varied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// `smoke`, `short`, `full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// In place of the table's own, or the recipe's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
    /// Only these rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<String>,
    /// Only these columns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The row that reports compare the others with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// `key=value`, in every cell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<String>,
    /// A recipe's settings and the values that they take.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub vary: IndexMap<String, Vec<toml::Value>>,
    /// Where it was planned; planning writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned: Option<Planned>,
}

/// Where a sweep was planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Planned {
    /// The folder that relative paths start from.
    pub folder: PathBuf,
    /// The folder of all runs.
    pub runs: PathBuf,
    /// How many cells there are.
    pub cells: usize,
}

/// The table that a sweep runs: its text, itself, and what its rows vary where a recipe was swept.
pub(super) struct Swept {
    pub text: String,
    pub table: Table,
    pub varied: IndexMap<String, Point>,
}

impl Asked {
    /// What the command line asks: a table, a recipe or a sweep by its file or name; settings, some with lists of values;
    /// and which cells.
    ///
    /// # Errors
    /// A name that nothing has; lists of values for a table, which has rows and columns for that.
    pub fn of(name: &str, settings: &[String], choice: Choice, tier: Option<String>) -> Result<Self> {
        let lists = settings.iter().any(|text| Axis::spoken(text).is_some());
        let mut asked = match kind(name, lists)? {
            Kind::Sweep(document) => Self { planned: None, ..Self::read(&document)? },
            Kind::Table => Self { table: Some(name.to_owned()), ..Self::default() },
            Kind::Recipe => Self { recipe: Some(name.to_owned()), ..Self::default() },
        };
        for text in settings {
            match Axis::spoken(text) {
                Some(Axis { key, values }) => drop(asked.vary.insert(key, values)),
                None => asked.overrides.push(text.clone()),
            }
        }
        let Choice { seeds, rows, columns, against, .. } = choice;
        asked.tier = tier.or(asked.tier);
        asked.seeds = seeds.or(asked.seeds);
        asked.against = against.or(asked.against);
        for (own, spoken) in [(&mut asked.rows, rows), (&mut asked.columns, columns)] {
            if !spoken.is_empty() {
                *own = spoken;
            }
        }
        asked.take_seeds()?;
        if asked.table.is_some() && !asked.vary.is_empty() {
            let keys = asked.vary.keys().cloned().collect::<Vec<_>>().join(", ");
            let problem =
                format!("{name} is a table, and a table's rows and columns say what varies: {keys}");
            return Err(Misfit::new(problem)
                .help("add rows to the table, or sweep its recipe; a comma of a value's own stands in quotes")
                .into());
        }
        Ok(asked)
    }

    /// What a file asks.
    ///
    /// # Errors
    /// A file that is no sweep, or one of nothing, or of two things.
    pub fn read(document: &Arc<Document>) -> Result<Self> {
        let mut whole = Setting::read(document)?;
        let vary = whole.take("vary");
        let mut asked: Self = typed(&whole)?;
        for (key, setting) in vary.iter().flat_map(Setting::leaves) {
            let Value::List(list) = &setting.value else {
                let problem = format!("vary.{key}: expected a list of values");
                return Err(Misfit::new(problem)
                    .at(setting.at.clone())
                    .help("for example [0.05, 0.1]")
                    .into());
            };
            asked.vary.insert(key, list.iter().map(Setting::plain).collect());
        }
        if asked.table.is_some() == asked.recipe.is_some() {
            let problem = format!("{}: a sweep is of a table or of a recipe", document.name);
            return Err(Misfit::new(problem)
                .help("write `table = \"NAME\"`, or `recipe = \"NAME\"` and a `[vary]`")
                .into());
        }
        Ok(asked)
    }

    /// How runs and reports call it: as its table or recipe is called.
    pub fn name(&self) -> String {
        let name = self.table.as_ref().or(self.recipe.as_ref()).map_or("sweep", String::as_str);
        let stem = Path::new(name.trim_start_matches("sokd:")).file_stem();
        stem.map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned())
    }

    /// What is chosen of the table.
    pub fn choice(&self) -> Choice {
        let Self { tier, seeds, rows, columns, against, overrides, .. } = self.clone();
        Choice { tier: tier.unwrap_or_else(|| "full".into()), seeds, rows, columns, overrides, against }
    }

    /// The table that is meant.
    pub(super) fn swept(&self) -> Result<Swept> {
        let Some(recipe) = &self.recipe else {
            let (name, document) = table::find(self.table.as_deref().unwrap_or_default())?;
            let table = Table::read(&name, &document)?;
            return Ok(Swept { text: document.text.clone(), table, varied: IndexMap::new() });
        };
        let axes: Vec<Axis> =
            self.vary.iter().map(|(key, values)| Axis { key: key.clone(), values: values.clone() }).collect();
        let points = points(&axes)?;
        let called = |point: &Point| if point.is_empty() { self.name() } else { name(point) };
        let varied: IndexMap<String, Point> =
            points.iter().map(|point| (called(point), point.clone())).collect();
        if varied.len() < points.len() {
            return Err(Misfit::new("two combinations of the values would be called the same").into());
        }
        // One that needs what varies before it is whole has no seed of its own.
        let seed = Layers::open(recipe)?.resolve().map_or(0, |resolved| resolved.recipe.seed);
        let text = table_of(recipe, &self.name(), seed, &varied);
        let table = Table::read(&self.name(), &Document::new(format!("sweep of {recipe}"), text.clone()))?;
        Ok(Swept { text, table, varied })
    }

    /// `seed=0,1,2` is a way to say which seeds.
    fn take_seeds(&mut self) -> Result<()> {
        let single = |text: &String| text.trim_start().strip_prefix("seed=").map(axis::meant);
        let mut values = self.vary.shift_remove("seed").unwrap_or_default();
        values.extend(self.overrides.iter().filter_map(single));
        self.overrides.retain(|text| single(text).is_none());
        if values.is_empty() {
            return Ok(());
        }
        let number = |value: &toml::Value| value.as_integer().and_then(|seed| u64::try_from(seed).ok());
        let seeds: Option<Vec<u64>> = values.iter().map(number).collect();
        self.seeds = Some(seeds.ok_or_else(|| Misfit::new("a seed is a number from 0"))?);
        Ok(())
    }
}

enum Kind {
    Sweep(Arc<Document>),
    Table,
    Recipe,
}

/// What a name stands for. Some are a table's and a recipe's: with lists of values the recipe is meant.
fn kind(name: &str, lists: bool) -> Result<Kind> {
    let path = Path::new(name);
    if path.is_file() || path.extension().is_some_and(|kind| kind == "toml") {
        let document = Document::file(path)?;
        return Ok(match () {
            () if holds(&document, &["table", "recipe"])? => Kind::Sweep(document),
            () if holds(&document, &["rows"])? => Kind::Table,
            () => Kind::Recipe,
        });
    }
    let (table, recipe) = (shipped::table(name).is_some(), shipped::recipe(name).is_some());
    match (table, recipe || name.starts_with("sokd:")) {
        (true, false) => Ok(Kind::Table),
        (true, true) if !lists => Ok(Kind::Table),
        (_, true) => Ok(Kind::Recipe),
        (false, false) => {
            let recipes = shipped::RECIPES.iter().map(|(name, _)| *name);
            let near = closest(name, table::names().into_iter().chain(recipes));
            let near = near.map(|near| format!("did you mean `{near}`?"));
            let help =
                near.unwrap_or_else(|| "`sokd list tables` and `sokd list recipes` name them all".into());
            Err(Misfit::new(format!("no table and no recipe is called `{name}`")).help(help).into())
        }
    }
}

/// The table that varies a recipe's settings, as someone would write it.
fn table_of(recipe: &str, name: &str, seed: u64, varied: &IndexMap<String, Point>) -> String {
    let text = |text: &str| toml::Value::from(text).to_string();
    let keys: Vec<&String> = varied.values().next().into_iter().flat_map(Point::keys).collect();
    let by = keys.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(", ");
    let title = if by.is_empty() { name.to_owned() } else { format!("{name} by {by}") };
    let note = format!("Every combination of the values, over the recipe {recipe}.");
    let rows = varied.iter().map(|(name, point)| format!("{} = {}", quoted(name), inline(point)));
    format!(
        "title = {}\nnote = {}\nbase = {}\nseeds = [{seed}]\n\n[rows]\n{}\n",
        text(&title),
        text(&note),
        text(recipe),
        rows.collect::<Vec<_>>().join("\n")
    )
}

/// A key in double quotes, whatever is in it.
fn quoted(key: &str) -> String {
    format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
}
