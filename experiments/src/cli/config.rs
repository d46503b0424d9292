use super::out::{complain, print, print_json};
use super::{Session, Which};
use crate::{Error, Layers, Resolved, Result, schema};
use clap::{Args, Subcommand, ValueEnum};
use std::collections::BTreeMap;

/// Shows, checks and compares recipes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd config show cifar10-first --origin        every setting, and where it was written
  sokd config check my.toml other.toml
  sokd config diff cifar10-first my.toml
  sokd config schema > recipe.schema.json        for editors: `#:schema ./recipe.schema.json`")]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Prints the recipe that comes out of all layers, as a file that loads as it is.
    Show {
        #[command(flatten)]
        which: Which,
        /// Says of every setting where it was written.
        #[arg(long)]
        origin: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Reads recipes and says what does not fit in them.
    Check {
        /// Files, names of recipes, presets.
        #[arg(required = true)]
        recipes: Vec<String>,
    },
    /// Prints the JSON Schema of recipes, or of tables.
    Schema {
        /// Of which files.
        #[arg(value_enum, default_value_t = File::Recipe)]
        of: File,
    },
    /// Prints the settings in which two recipes differ.
    Diff {
        /// One recipe.
        before: String,
        /// The other.
        after: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What people write.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum File {
    /// A run.
    Recipe,
    /// Rows, columns and seeds over a recipe.
    Table,
}

impl Config {
    pub fn run(&self, _: &Session) -> Result<()> {
        match &self.verb {
            Verb::Show { which, origin, json } => show(&which.resolve()?, *origin, *json),
            Verb::Check { recipes } => check(recipes),
            Verb::Schema { of: File::Recipe } => print_json(&schema::recipe()),
            Verb::Schema { of: File::Table } => print_json(&schema::table()),
            Verb::Diff { before, after, json } => diff(before, after, *json),
        }
    }
}

fn show(resolved: &Resolved, origin: bool, json: bool) -> Result<()> {
    if !origin {
        return if json { print_json(&resolved.recipe) } else { print(resolved.toml()?.trim_end()) };
    }
    let origins = resolved.origins()?;
    if json {
        let entry = |(path, value, origin): &(String, toml::Value, String)| {
            (path.clone(), serde_json::json!({ "value": value, "origin": origin }))
        };
        return print_json(&origins.iter().map(entry).collect::<serde_json::Map<_, _>>());
    }
    let wide = origins.iter().map(|(path, value, _)| path.len() + value.to_string().len()).max().unwrap_or(0);
    let line = |(path, value, origin): &(String, toml::Value, String)| {
        let setting = format!("{path} = {value}");
        format!("{setting:0$}  # {origin}", wide.min(70) + 3)
    };
    print(origins.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// The error is the last recipe's that does not fit; the others' are printed as they are met.
fn check(recipes: &[String]) -> Result<()> {
    let mut failed: Option<Error> = None;
    for name in recipes {
        match Layers::open(name).and_then(Layers::resolve) {
            Ok(resolved) => print(format!("{name}: fits ({})", &resolved.id[..12]))?,
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    complain(earlier);
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn diff(before: &str, after: &str, json: bool) -> Result<()> {
    let settings = |name: &str| -> Result<BTreeMap<String, String>> {
        let origins = Resolved::new(name, None, &[])?.origins()?;
        Ok(origins.into_iter().map(|(path, value, _)| (path, value.to_string())).collect())
    };
    let (before, after) = (settings(before)?, settings(after)?);
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    paths.retain(|path| before.get(*path) != after.get(*path));
    if json {
        let entry =
            |path: &&String| ((*path).clone(), serde_json::json!([before.get(*path), after.get(*path)]));
        return print_json(&paths.iter().map(entry).collect::<serde_json::Map<_, _>>());
    }
    let side = |sign: char, path: &String, side: &BTreeMap<String, String>| {
        side.get(path).map(|value| format!("{sign} {path} = {value}"))
    };
    let lines = paths.iter().flat_map(|path| [side('-', path, &before), side('+', path, &after)]).flatten();
    print(lines.collect::<Vec<_>>().join("\n"))
}
