//! Everything that has a name, with a line about it: what `list` prints, and where `describe` looks.

use crate::table::Table;
use crate::{LensSpec, LossSpec, RefinerSpec};
use crate::{shipped, table};
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use sokd_baselines::GraftSpec;
use sokd_data::DataSpec;
use sokd_models::{ModelSpec, Published};

/// What a name can stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Networks, by the field's names.
    Models,
    /// Comparisons of student and teacher.
    Losses,
    /// What rewrites a pair before a loss compares it.
    Plugins,
    /// What stands between images and both networks.
    Lenses,
    /// What can be set into a student.
    Layers,
    /// Weights that others publish, by their names.
    Teachers,
    /// Images.
    Datasets,
    /// Published settings, as fragments of recipes.
    Presets,
    /// Whole runs.
    Recipes,
    /// Rows, columns and seeds over a recipe.
    Tables,
}

impl Kind {
    /// In the order in which they are listed.
    pub const ALL: [Self; 10] = [
        Self::Models,
        Self::Losses,
        Self::Plugins,
        Self::Lenses,
        Self::Layers,
        Self::Teachers,
        Self::Datasets,
        Self::Presets,
        Self::Recipes,
        Self::Tables,
    ];

    /// As headings have it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Losses => "losses",
            Self::Plugins => "plugins",
            Self::Lenses => "lenses",
            Self::Layers => "layers",
            Self::Teachers => "teachers",
            Self::Datasets => "datasets",
            Self::Presets => "presets",
            Self::Recipes => "recipes",
            Self::Tables => "tables",
        }
    }
}

/// Something with a name.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// As recipes and the command line have it.
    pub name: String,
    /// What it stands for.
    pub kind: Kind,
    /// A line about it.
    pub what: String,
}

/// All of a kind, in the order of their catalogue.
pub fn entries(kind: Kind) -> Vec<Entry> {
    let entry = |name: &str, what: String| Entry { name: name.to_owned(), kind, what };
    let catalogued = |parts: &[Value], names: &[String]| {
        names.iter().map(|name| entry(name, first_line(&description(parts, name)))).collect()
    };
    match kind {
        Kind::Models => {
            let spec = |name: &str| sokd_models::named(name).map(|spec| settings(&spec)).unwrap_or_default();
            sokd_models::names().into_iter().map(|name| entry(name, spec(name))).collect()
        }
        Kind::Teachers => {
            let of = |known: Published| entry(&known.name, format!("weights of {}", known.model));
            sokd_models::published::all().into_iter().map(of).collect()
        }
        Kind::Losses => catalogued(&parts::<LossSpec>(), &LossSpec::names()),
        Kind::Plugins => catalogued(&parts::<RefinerSpec>(), &RefinerSpec::names()),
        Kind::Lenses => catalogued(&parts::<LensSpec>(), &LensSpec::names()),
        Kind::Layers => catalogued(&parts::<GraftSpec>(), &GraftSpec::names()),
        Kind::Datasets => {
            let parts = parts::<DataSpec>();
            let what = |name: &str| {
                let Some(spec) = DataSpec::named(name) else { return String::new() };
                first_line(&description(&parts, &spec.name()))
            };
            let mut names: Vec<String> = DataSpec::known().map(str::to_owned).to_vec();
            names.extend(DataSpec::names().into_iter().filter(|name| DataSpec::named(name).is_none()));
            names
                .iter()
                .map(|name| {
                    let known = what(name);
                    entry(name, if known.is_empty() { first_line(&description(&parts, name)) } else { known })
                })
                .collect()
        }
        Kind::Presets => sokd_baselines::presets()
            .map(|name| {
                let text = sokd_baselines::preset(name).unwrap_or_default();
                entry(&format!("sokd:{name}"), remark(text))
            })
            .collect(),
        Kind::Recipes => shipped::RECIPES.iter().map(|(name, text)| entry(name, remark(text))).collect(),
        Kind::Tables => table::names()
            .into_iter()
            .map(|name| entry(name, Table::open(name).map(|table| table.head.title).unwrap_or_default()))
            .collect(),
    }
}

/// The parts of a catalogue as its JSON Schema tells them.
pub fn parts<T: JsonSchema>() -> Vec<Value> {
    let schema =
        schemars::SchemaGenerator::new(schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
        }))
        .into_root_schema_for::<T>();
    schema.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// The part of that name.
pub fn part<'a>(parts: &'a [Value], name: &str) -> Option<&'a Value> {
    parts.iter().find(|part| part.pointer("/properties/type/const").and_then(Value::as_str) == Some(name))
}

/// What a part's documentation says.
pub fn description(parts: &[Value], name: &str) -> String {
    let text = part(parts, name).and_then(|part| part.get("description")).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// The first sentence, on one line.
pub fn first_line(text: &str) -> String {
    let paragraph =
        text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    paragraph
        .split_once(". ")
        .map_or(paragraph.as_str(), |(sentence, _)| sentence)
        .trim_end_matches('.')
        .to_owned()
}

/// The comment that a TOML text begins with, up to its first full stop.
pub fn remark(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.starts_with("#:"));
    let comment: Vec<&str> = lines
        .take_while(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
        .collect();
    let comment = comment.join(" ");
    comment
        .split_once(". ")
        .map_or(comment.as_str(), |(sentence, _)| sentence)
        .trim_end_matches('.')
        .to_owned()
}

/// A network's type and settings on one line.
pub fn settings(spec: &ModelSpec) -> String {
    toml::Value::try_from(spec).map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_the_first_sentence() {
        assert_eq!(remark("#:schema x\n# One thing: done\n# so. And more.\nx = 1"), "One thing: done so");
    }

    #[test]
    fn everything_is_said_to_be_something() {
        for entry in Kind::ALL.into_iter().flat_map(entries) {
            assert!(!entry.what.is_empty(), "{} says nothing of itself", entry.name);
        }
    }
}
