//! The recipes and tables that come with the program, found by name wherever it runs.

/// What `--tier smoke` lays on a recipe.
pub const SMOKE: &str = include_str!("../recipes/smoke.toml");

macro_rules! texts {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../", $folder, "/", $name, ".toml")))),*]
    };
}

/// Name and text of each recipe.
pub const RECIPES: &[(&str, &str)] = texts!("recipes":);

/// Name and text of each table.
pub const TABLES: &[(&str, &str)] = texts!("tables":);

/// The recipe of that name.
pub fn recipe(name: &str) -> Option<&'static str> {
    text(RECIPES, name)
}

/// The table of that name.
pub fn table(name: &str) -> Option<&'static str> {
    text(TABLES, name)
}

fn text(texts: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    texts.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
