//! What editors are told of recipes and tables is current, and true of every file that comes with sokd.

use serde_json::{Value, json};
use sokd_experiments::{schema, shipped};

#[test]
fn the_schemas_in_the_docs_are_current() {
    for (file, schema) in [("recipe", schema::recipe()), ("table", schema::table())] {
        let path = format!("{}/../docs/{file}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        let now = serde_json::to_string_pretty(&schema).expect("plain values") + "\n";
        assert!(there == now, "docs/{file}.schema.json is not what the types say: run `cargo xtask schema`");
    }
}

#[test]
fn the_schemas_fit_every_recipe_preset_and_table() {
    let (recipe, table) = (schema::recipe(), schema::table());
    let presets =
        sokd_baselines::presets().map(|name| (name, sokd_baselines::preset(name).expect("a preset")));
    let recipes = shipped::RECIPES.iter().copied().chain(presets).chain([("smoke", shipped::SMOKE)]);
    let all = recipes.map(|(name, text)| (name, text, &recipe));
    for (name, text, schema) in all.chain(shipped::TABLES.iter().map(|(name, text)| (*name, *text, &table))) {
        let file: Value = toml::from_str(text).expect("a TOML file");
        fits(schema, schema, &file).unwrap_or_else(|path| panic!("{name}{path} does not fit its schema"));
    }
}

#[test]
fn the_schemas_refuse_what_sokd_refuses() {
    let (recipe, table) = (schema::recipe(), schema::table());
    for (wrong, at) in [
        (json!({ "epoch": 3 }), "/epoch"),
        (json!({ "epochs": "three" }), "/epochs"),
        (json!({ "tier": { "short": { "epoch": 3 } } }), "/tier/short/epoch"),
        (json!({ "objective": { "task": { "loss": { "type": "cross-entropi" } } } }), "/objective/task/loss"),
        (json!({ "objective": { "task": { "loss": { "temprature": 4 } } } }), "/objective/task/loss"),
        (json!({ "data": { "type": "cifar10", "frist": 3 } }), "/data"),
    ] {
        assert_eq!(fits(&recipe, &recipe, &wrong), Err(at.to_owned()));
        let wrong = json!({ "title": "", "note": "", "seeds": [], "base": "", "rows": { "a": wrong } });
        assert_eq!(fits(&table, &table, &wrong), Err(format!("/rows/a{at}")));
    }
    assert_eq!(fits(&table, &table, &json!({ "title": "alone" })), Err(String::new()));
}

/// Whether a value is what a schema says, as far as ours say anything; else the path to the first that is not.
fn fits(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(place) = schema["$ref"].as_str() {
        fits(root, root.pointer(place.trim_start_matches('#')).expect("a reference leads somewhere"), value)?;
    }
    let kind = |kind: &Value| match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("null") => value.is_null(),
        other => panic!("the type {other:?} is new to this test"),
    };
    let right_kind = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(kind),
        one => kind(one),
    };
    let constant = schema.get("const").is_none_or(|constant| constant == value);
    let listed = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    let any =
        schema["anyOf"].as_array().is_none_or(|all| all.iter().any(|one| fits(root, one, value).is_ok()));
    let one = schema["oneOf"]
        .as_array()
        .is_none_or(|all| all.iter().filter(|one| fits(root, one, value).is_ok()).count() == 1);
    let there = schema["required"]
        .as_array()
        .is_none_or(|all| all.iter().all(|name| value.get(name.as_str().expect("a name")).is_some()));
    if !(right_kind && constant && listed && any && one && there) {
        return Err(String::new());
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        let of_it = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        match of_it {
            Some(Value::Bool(false)) => return Err(format!("/{name}")),
            Some(of_it) => fits(root, of_it, inner).map_err(|path| format!("/{name}{path}"))?,
            None => {}
        }
    }
    for (at, inner) in value.as_array().into_iter().flatten().enumerate() {
        fits(root, &schema["items"], inner).map_err(|path| format!("/{at}{path}"))?;
    }
    Ok(())
}
