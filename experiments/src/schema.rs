//! What editors are told of the files that people write: JSON Schemas of recipes and tables.
//!
//! A file says a part and extends the rest, so nothing is required of it that the resolved recipe must have, and a
//! table without a `type` adds to one that has it.

use crate::Recipe;
use crate::table::Head;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of a recipe's file.
pub fn recipe() -> Value {
    let settings = settings();
    let properties = recipe_properties(&settings);
    json!({
        "$schema": DRAFT,
        "title": "A recipe of sokd",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": { "settings": settings },
    })
}

/// The schema of a table's file.
pub fn table() -> Value {
    let settings = settings();
    let mut head = of::<Head>();
    let layers = |what: &str| {
        let layer = json!({ "$ref": "#/$defs/layer" });
        json!({ "description": what, "type": "object", "minProperties": 1, "additionalProperties": layer })
    };
    let mut properties = take(&mut head, "properties");
    properties.extend([
        ("base".to_owned(), json!({ "description": "The recipe that it varies.", "type": "string" })),
        ("rows".to_owned(), layers("What it compares: each row's changes of the recipe.")),
        ("columns".to_owned(), layers("Under which circumstances: each column's changes.")),
        (
            "cells".to_owned(),
            json!({
                "description": "By row, then by column: what holds for one cell only.",
                "type": "object",
                "additionalProperties": layers("By column."),
            }),
        ),
    ]);
    let layer = json!({
        "type": "object",
        "properties": recipe_properties(&settings),
        "additionalProperties": false,
    });
    json!({
        "$schema": DRAFT,
        "title": "A table of sokd",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "required": ["title", "note", "seeds", "base", "rows"],
        "$defs": { "layer": layer, "settings": settings },
    })
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What a layer may say: a recipe of which nothing is required.
fn settings() -> Value {
    let mut schema = of::<Recipe>();
    loosen(&mut schema);
    schema
}

/// Those of the settings, and what resolving takes out.
fn recipe_properties(settings: &Value) -> Map<String, Value> {
    let own = settings["properties"].as_object().into_iter().flat_map(Map::keys);
    let own =
        own.map(|name| (name.clone(), json!({ "$ref": format!("#/$defs/settings/properties/{name}") })));
    let extends = json!({
        "description": "Recipes and presets (`sokd:kd`) that lie below this one, the first lowest.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    });
    let tier = json!({
        "description": "Changes for other sizes of run, by the name that `--tier` asks for.",
        "type": "object",
        "additionalProperties": { "$ref": "#/$defs/settings" },
    });
    own.chain([("extends".to_owned(), extends), ("tier".to_owned(), tier)]).collect()
}

/// A type's schema in one piece: behind a reference, a part would refuse the `type` that stands beside its settings.
fn of<T: schemars::JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Requires nothing any more. Without its `type`, a part may be any that has such settings.
fn loosen(schema: &mut Value) {
    match schema {
        Value::Object(schema) => {
            schema.shift_remove("required");
            if let Some(one) = schema.shift_remove("oneOf") {
                schema.insert("anyOf".to_owned(), one);
            }
            for (name, inner) in schema {
                match (name.as_str(), inner) {
                    // These are values, not schemas.
                    ("default" | "const" | "enum", _) => {}
                    // A setting may be called as a keyword is.
                    ("properties", Value::Object(settings)) => settings.values_mut().for_each(loosen),
                    (_, inner) => loosen(inner),
                }
            }
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(loosen),
        _ => {}
    }
}

fn take(schema: &mut Value, name: &str) -> Map<String, Value> {
    match schema.get_mut(name).map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}
