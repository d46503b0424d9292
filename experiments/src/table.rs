//! A table: rows, columns and seeds over one recipe.

mod work;

pub use work::{Outcome, Work};

use crate::misfit::{closest, misfit, typed};
use crate::overlay::{Document, Setting, Value};
use crate::prerequisite::Teacher;
use crate::report::{Published, Score};
use crate::{Error, Layers, Misfit, Resolved, Result, shipped};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// A table: what it asks, and the settings of each row and column.
#[derive(Clone, Debug)]
pub struct Table {
    /// How the command line calls it.
    pub name: String,
    /// What it says of itself.
    pub head: Head,
    base: Setting,
    rows: IndexMap<String, Setting>,
    columns: IndexMap<String, Setting>,
    /// By row, then by column: what holds for one cell only.
    cells: IndexMap<String, IndexMap<String, Setting>>,
    /// The cells of a sweep, as they were when it was planned.
    planned: Option<Vec<Cell>>,
}

/// What a table says of itself, its rows and columns aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Head {
    /// What it asks, in a line.
    pub title: String,
    /// What a reader must know to read it: who saw what, and which settings are whose.
    pub note: String,
    /// The seeds of each cell.
    pub seeds: Vec<u64>,
    /// What others printed.
    #[serde(default)]
    pub expect: Vec<Expect>,
}

/// Printed values of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// Where they are printed.
    pub source: String,
    /// How their authors came by them.
    pub protocol: String,
    /// Which epoch they are of.
    pub score: Score,
    /// By row, then by column, in per cent.
    #[serde(default)]
    pub top1: IndexMap<String, IndexMap<String, f64>>,
    /// By row, the columns whose values the source prints and which are not public, or are not known to us.
    #[serde(default)]
    pub not_public: IndexMap<String, Vec<String>>,
}

/// One recipe of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its row.
    pub row: String,
    /// Its column.
    pub column: String,
    /// Its seed.
    pub seed: u64,
    /// What it runs.
    pub resolved: Resolved,
    /// What trains its teacher, where that is another recipe.
    pub teacher: Option<Teacher>,
    /// How progress and reports call it.
    pub label: String,
}

/// Which cells, at which size, with which changes.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// `smoke`, `full`, or one that the recipes name.
    pub tier: String,
    /// In place of the table's own.
    pub seeds: Option<Vec<u64>>,
    /// All, if none is named.
    pub rows: Vec<String>,
    /// All, if none is named.
    pub columns: Vec<String>,
    /// `key=value`, on top of everything.
    pub overrides: Vec<String>,
    /// The row that reports compare the others with; the first, if none is named.
    pub against: Option<String>,
}

impl Table {
    /// A table by its file, or by its name among those that come with sokd.
    ///
    /// # Errors
    /// A file that is missing, a name that does not exist, a table that does not fit.
    pub fn open(name: &str) -> Result<Self> {
        let (name, document) = find(name)?;
        Self::read(&name, &document)
    }

    /// A table by its text.
    ///
    /// # Errors
    /// A text that is no TOML, or no table.
    pub fn read(name: &str, document: &Arc<Document>) -> Result<Self> {
        let mut whole = Setting::read(document)?;
        let base =
            whole.take("base").ok_or_else(|| missing(document, "base", "the recipe that it varies"))?;
        let rows = whole.take("rows").ok_or_else(|| missing(document, "rows", "what it compares"))?;
        let (columns, cells) = (whole.take("columns"), whole.take("cells"));
        let head: Head = typed(&whole)?;
        let single = || Ok(IndexMap::from([(String::new(), Setting::empty(document))]));
        let table = Self {
            name: name.to_owned(),
            head,
            base,
            rows: listed(rows)?,
            columns: columns.map_or_else(single, listed)?,
            cells: cells.map_or_else(|| Ok(IndexMap::new()), nested)?,
            planned: None,
        };
        table.agrees(&whole)?;
        Ok(table)
    }

    /// The same table with the cells of a sweep, whatever has become of its recipes since.
    #[must_use]
    pub fn planned(self, cells: Vec<Cell>) -> Self {
        Self { planned: Some(cells), ..self }
    }

    /// Whether published values, and settings of single cells, stand for rows and columns that exist.
    fn agrees(&self, whole: &Setting) -> Result<()> {
        let fault = |path: &str, what: &str, name: &str, known: Vec<&str>| {
            let near = closest(name, known).map_or(String::new(), |near| format!(", perhaps `{near}`"));
            Err(misfit(whole, path, &format!("the table has no {what} `{name}`{near}")))
        };
        let expected = self.head.expect.iter().enumerate().flat_map(|(at, expect)| {
            let known =
                expect.top1.iter().map(|(row, columns)| ("top1", row, columns.keys().collect::<Vec<_>>()));
            let silent =
                expect.not_public.iter().map(|(row, columns)| ("not-public", row, columns.iter().collect()));
            known.chain(silent).map(move |(key, row, columns)| (format!("expect[{at}].{key}"), row, columns))
        });
        let single =
            self.cells.iter().map(|(row, columns)| ("cells".to_owned(), row, columns.keys().collect()));
        for (path, row, columns) in expected.chain(single) {
            if !self.rows.contains_key(row) {
                return fault(&path, "row", row, self.rows());
            }
            if let Some(column) = columns.into_iter().find(|column| !self.columns.contains_key(*column)) {
                return fault(&path, "column", column, self.columns());
            }
        }
        Ok(())
    }

    /// The rows' names.
    pub fn rows(&self) -> Vec<&str> {
        self.rows.keys().map(String::as_str).collect()
    }

    /// The columns' names; a single empty one where the table has none.
    pub fn columns(&self) -> Vec<&str> {
        self.columns.keys().map(String::as_str).collect()
    }

    /// How a row and a column are called together: by the row alone where there is one column.
    pub fn arm(&self, row: &str, column: &str) -> String {
        if self.columns.len() > 1 { format!("{row}, {column}") } else { row.to_owned() }
    }

    /// What others printed, value by value.
    pub fn published(&self) -> Vec<Published> {
        let mut values = Vec::new();
        for Expect { source, protocol, score, top1, not_public } in &self.head.expect {
            let mut value = |row: &str, column: &str, top1: Option<f64>| {
                values.push(Published {
                    row: row.to_owned(),
                    column: column.to_owned(),
                    top1,
                    score: *score,
                    protocol: protocol.clone(),
                    source: source.clone(),
                });
            };
            for (row, columns) in top1 {
                for (column, &top1) in columns {
                    value(row, column, Some(top1));
                }
            }
            for (row, columns) in not_public {
                for column in columns {
                    value(row, column, None);
                }
            }
        }
        values
    }

    /// The cells that a choice means: seed by seed, so that a table which is left early has whole columns of
    /// comparisons rather than half the arms.
    ///
    /// # Errors
    /// A row, column or tier that does not exist; a row to compare with that is left out; a cell whose settings do not
    /// fit.
    pub fn cells(&self, choice: &Choice) -> Result<Vec<Cell>> {
        if let Some(planned) = &self.planned {
            return Ok(planned.clone());
        }
        let rows = chosen("row", &self.rows(), &choice.rows)?;
        let columns = chosen("column", &self.columns(), &choice.columns)?;
        if let Some(against) = &choice.against {
            let named = chosen("row", &self.rows(), std::slice::from_ref(against))?;
            if !named.iter().all(|row| rows.contains(row)) {
                let misfit =
                    Misfit::new(format!("`{against}` is to be compared with, and --rows leaves it out"));
                return Err(misfit.help(format!("name it there too: --rows '{against}',...")).into());
            }
        }
        let seeds = choice.seeds.as_ref().unwrap_or(&self.head.seeds);
        let mut cells = Vec::new();
        for &seed in seeds {
            for column in &columns {
                for row in &rows {
                    cells.push(self.cell(row, column, seed, choice)?);
                }
            }
        }
        Ok(cells)
    }

    /// One cell: the base, the column, the row, what holds for this cell only, the tier, the seed, and what the
    /// command line says.
    fn cell(&self, row: &str, column: &str, seed: u64, choice: &Choice) -> Result<Cell> {
        let mut layers = Layers::of(&Document::new(format!("table {}", self.name), ""))?;
        let mut base = Setting::empty(&self.base.at.document);
        if let Value::Table(table) = &mut base.value {
            table.insert("extends".to_owned(), self.base.clone());
        }
        layers.lay(base)?;
        let single = self.cells.get(row).and_then(|columns| columns.get(column));
        for over in [self.columns.get(column), self.rows.get(row), single].into_iter().flatten() {
            layers.lay(over.clone())?;
        }
        layers.tier(&choice.tier)?;
        layers.lay(crate::overlay::spoken(&format!("seed={seed}"))?)?;
        layers.set(&choice.overrides)?;
        let mut resolved = layers.resolve()?;
        let recipe = &mut resolved.recipe;
        // An arm that compares with no teacher shall not pay for one, and is the same run beside any teacher.
        if recipe.objective.values().all(|term| term.loss.name() == "cross-entropy") {
            recipe.teacher = None;
        }
        resolved.id = recipe.id();
        let teacher = Teacher::of(&mut resolved, &choice.tier)?;
        let label = format!("{}, seed {seed}", self.arm(row, column));
        Ok(Cell { row: row.to_owned(), column: column.to_owned(), seed, resolved, teacher, label })
    }
}

/// A table's name and text, by its file or by its name among those that come with sokd.
///
/// # Errors
/// A file that is missing, a name that does not exist.
pub fn find(name: &str) -> Result<(String, Arc<Document>)> {
    if Path::new(name).extension().is_some_and(|kind| kind == "toml") || Path::new(name).is_file() {
        let stem = Path::new(name).file_stem().map_or_else(|| name.into(), |stem| stem.to_string_lossy());
        return Ok((stem.into_owned(), Document::file(Path::new(name))?));
    }
    let text = shipped::table(name).ok_or_else(|| unknown("table", name, &names()))?;
    Ok((name.to_owned(), Document::new(format!("{name}.toml"), text)))
}

/// The names of the tables that come with sokd.
pub fn names() -> Vec<&'static str> {
    shipped::TABLES.iter().map(|(name, _)| *name).collect()
}

fn listed(setting: Setting) -> Result<IndexMap<String, Setting>> {
    match setting.value {
        Value::Table(table) if !table.is_empty() => match table.keys().find(|name| name.contains(',')) {
            // `--rows` and `--columns` take names apart at commas.
            Some(name) => Err(Misfit::new(format!("the name `{name}` has a comma")).at(setting.at).into()),
            None => Ok(table),
        },
        _ => Err(Misfit::new("expected a table with a name for each").at(setting.at).into()),
    }
}

fn nested(setting: Setting) -> Result<IndexMap<String, IndexMap<String, Setting>>> {
    listed(setting)?.into_iter().map(|(row, columns)| Ok((row, listed(columns)?))).collect()
}

fn missing(document: &Arc<Document>, field: &str, what: &str) -> Error {
    Misfit::new(format!("{}: missing field `{field}`, {what}", document.name)).into()
}

fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let near = closest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    let help = near.unwrap_or_else(|| format!("there are: {}", known.join(", ")));
    Misfit::new(format!("no {what} is called `{name}`")).help(help).into()
}

fn chosen<'a>(what: &str, all: &[&'a str], asked: &[String]) -> Result<Vec<&'a str>> {
    if asked.is_empty() {
        return Ok(all.to_vec());
    }
    let one = |name: &String| {
        all.iter().find(|known| **known == name.as_str()).copied().ok_or_else(|| unknown(what, name, all))
    };
    asked.iter().map(one).collect()
}
