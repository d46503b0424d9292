//! What is set into a network.

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sokd_baselines::GraftSpec;
use sokd_core::{Backbone, BuildCx, Graft, Place, Result, graft};
use std::borrow::Cow;

/// Layers set into a network, by name.
///
/// Recipes write a table, whose names are places where nothing else is said,
/// `graft.penultimate = { type = "kd-layer", templates = 4096 }`, or a list of tables with a `place` each.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Grafting(pub IndexMap<String, Planted>);

/// A layer and its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Planted {
    /// Where it is set.
    pub place: Place,
    /// What it is.
    #[serde(flatten)]
    pub graft: GraftSpec,
}

impl Grafting {
    /// Sets every layer into a network, in their order; the weights of each are under `graft` and its name.
    ///
    /// # Errors
    /// A place that the network has not, and a layer that does not fit there.
    pub fn plant(&self, net: &mut dyn Backbone, cx: &BuildCx<'_>) -> Result<()> {
        self.plant_as(net, cx, |layer| layer)
    }

    /// The same with something around each layer.
    ///
    /// # Errors
    /// As [`Grafting::plant`].
    pub fn plant_as(
        &self,
        net: &mut dyn Backbone,
        cx: &BuildCx<'_>,
        around: impl Fn(Box<dyn Graft>) -> Box<dyn Graft>,
    ) -> Result<()> {
        for (name, Planted { place, graft: spec }) in &self.0 {
            let cx = BuildCx { vars: cx.vars.pp("graft").pp(name), ..cx.clone() };
            let (data, device) = (cx.data("a graft")?, cx.vars.device().clone());
            graft::graft(net, *place, data, &device, |map| Ok(around(spec.as_ref().grow(map, &cx)?)))?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Grafting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut grafting = IndexMap::new();
        let entries: Vec<(Option<String>, Value)> = match Value::deserialize(deserializer)? {
            Value::Array(list) => list.into_iter().map(|entry| (None, entry)).collect(),
            Value::Object(table) => table.into_iter().map(|(name, entry)| (Some(name), entry)).collect(),
            other => {
                return Err(D::Error::custom(format!("expected a table of layers by place, got {other}")));
            }
        };
        for (name, entry) in entries {
            let mut fields: Map<String, Value> = typed(entry)?;
            let named = || name.clone().map(Value::String);
            let place = fields.shift_remove("place").or_else(named);
            let place = place.ok_or_else(|| D::Error::custom("missing field `place`"))?;
            let place: Place = serde_json::from_value(place.clone()).map_err(|_| {
                let expected = "`penultimate`, `intermediate` or { stage = 2, block = 0 }";
                D::Error::custom(format!("{place} is no place for a layer: expected {expected}"))
            })?;
            let planted = Planted { place, graft: typed(Value::Object(fields))? };
            let name = name.unwrap_or_else(|| place.to_string());
            if grafting.insert(name.clone(), planted).is_some() {
                return Err(D::Error::custom(format!("two layers at `{name}`")));
            }
        }
        Ok(Self(grafting))
    }
}

fn typed<T: DeserializeOwned, E: serde::de::Error>(value: Value) -> Result<T, E> {
    T::deserialize(value).map_err(E::custom)
}

impl JsonSchema for Grafting {
    fn schema_name() -> Cow<'static, str> {
        "Grafting".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let place = generator.subschema_for::<Place>();
        let mut graft = generator.subschema_for::<GraftSpec>();
        // A place stands beside the layer's own settings.
        for one in graft.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(properties) = one.get_mut("properties").and_then(Value::as_object_mut) {
                properties.insert("place".to_owned(), place.clone().to_value());
            }
        }
        json_schema!({
            "description": "Layers set into the network, by place.",
            "anyOf": [
                { "type": "array", "items": graft },
                { "type": "object", "additionalProperties": graft },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Grafting, toml::de::Error> {
        #[derive(Deserialize)]
        struct Student {
            graft: Grafting,
        }
        toml::from_str::<Student>(text).map(|student| student.graft)
    }

    #[test]
    fn a_list_and_a_table_say_the_same() {
        let list = read("graft = [{ type = \"kd-layer\", place = \"penultimate\", alpha = 0.5 }]").unwrap();
        let table = read("[graft.penultimate]\ntype = \"kd-layer\"\nalpha = 0.5").unwrap();
        assert_eq!(list, table);
        let again: Grafting = serde_json::from_value(serde_json::to_value(&table).unwrap()).unwrap();
        assert_eq!(again, table);
    }

    #[test]
    fn a_place_may_be_a_block() {
        let graft = read("graft.late = { type = \"kd-layer\", place = { stage = 3, block = 2 } }").unwrap();
        assert_eq!(graft.0["late"].place.to_string(), "stage3-block2");
    }

    #[test]
    fn what_is_no_layer_is_refused() {
        for (text, said) in [
            ("graft.late = { type = \"kd-layer\" }", "no place for a layer"),
            ("graft = [{ type = \"kd-layer\" }]", "missing field `place`"),
            ("graft.penultimate = { type = \"kd-layr\" }", "unknown variant `kd-layr`"),
            ("graft.penultimate = { type = \"kd-layer\", alfa = 1 }", "alfa"),
            ("graft = 3", "expected a table"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
