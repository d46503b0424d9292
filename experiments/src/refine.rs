//! The plug-ins in front of a loss.

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sokd_core::{Build, BuildCx, DistillLoss, Refined, Refiner, Result};
use std::borrow::Cow;
use std::fmt;

sokd_core::catalog! {
    /// A plug-in that a recipe may put in front of a loss.
    pub enum RefinerSpec: dyn Refiner {
        Dafa(sokd_dafa::Dafa),
        Dam(sokd_dam::Dam),
        Skd(sokd_baselines::Skd),
    }
}

/// Plug-ins by name, the first of which sees the pair first.
///
/// Recipes write a list, `[{ type = "dafa" }, { type = "dam" }]`, or a table, whose names are the types where nothing
/// else is said: then a table's row, or a word on the command line, reaches one setting of one plug-in
/// (`objective.distill.refine.dam.peaks=4`).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Refine(pub IndexMap<String, RefinerSpec>);

impl Refine {
    /// Puts the plug-ins in front of a loss.
    pub fn wrap(&self, loss: Box<dyn DistillLoss>, cx: &BuildCx<'_>) -> Result<Box<dyn DistillLoss>> {
        self.0.values().rev().try_fold(loss, |loss, refiner| {
            Ok(Box::new(Refined { refiner: refiner.build(cx)?, loss }) as Box<dyn DistillLoss>)
        })
    }
}

impl<'de> Deserialize<'de> for Refine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

/// A list or a table.
struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Refine;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of plug-ins, or a table of them by name")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Refine, A::Error> {
        let mut plugins = IndexMap::new();
        while let Some(plugin) = list.next_element::<RefinerSpec>()? {
            let name = plugin.name();
            if plugins.insert(name.clone(), plugin).is_some() {
                return Err(A::Error::custom(format!(
                    "`{name}` stands twice in the list: give both names, in a table"
                )));
            }
        }
        Ok(Refine(plugins))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Refine, A::Error> {
        let mut plugins = IndexMap::new();
        while let Some(name) = table.next_key::<String>()? {
            let plugin = table.next_value_seed(Named(&name))?;
            plugins.insert(name, plugin);
        }
        Ok(Refine(plugins))
    }
}

/// A plug-in whose type is its name where nothing else is said.
struct Named<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = RefinerSpec;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RefinerSpec, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        fields.entry("type").or_insert_with(|| Value::from(self.0));
        RefinerSpec::deserialize(Value::Object(fields)).map_err(D::Error::custom)
    }
}

impl JsonSchema for Refine {
    fn schema_name() -> Cow<'static, str> {
        "Refine".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let plugin = generator.subschema_for::<RefinerSpec>();
        json_schema!({
            "description": "Plug-ins in front of the comparison: the first one sees the pair first.",
            "anyOf": [
                { "type": "array", "items": plugin },
                { "type": "object", "additionalProperties": { "type": "object" } },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Refine, toml::de::Error> {
        #[derive(Deserialize)]
        struct Term {
            refine: Refine,
        }
        toml::from_str::<Term>(text).map(|term| term.refine)
    }

    #[test]
    fn a_list_and_a_table_say_the_same() {
        let list = read("refine = [{ type = \"dafa\" }, { type = \"dam\", peaks = 4 }]").unwrap();
        let table = read("[refine.dafa]\n[refine.dam]\npeaks = 4").unwrap();
        assert_eq!(list, table);
        assert_eq!(list.0.keys().collect::<Vec<_>>(), ["dafa", "dam"]);
    }

    #[test]
    fn a_name_may_differ_from_the_type() {
        let refine = read("refine.late = { type = \"dam\" }\nrefine.early = { type = \"dam\" }").unwrap();
        assert_eq!(refine.0.keys().collect::<Vec<_>>(), ["late", "early"]);
        assert!(refine.0.values().all(|plugin| plugin.name() == "dam"));
    }

    #[test]
    fn what_is_no_plug_in_is_refused() {
        for (text, said) in [
            ("refine.dame = {}", "unknown variant `dame`"),
            ("refine = [{ type = \"dam\" }, { type = \"dam\" }]", "stands twice"),
            ("refine = 3", "a list of plug-ins"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
