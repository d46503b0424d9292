use crate::{Misfit, Result};
use indexmap::IndexMap;
use toml::Value;

/// A setting, and the values that it takes one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The setting's path.
    pub key: String,
    /// Its values.
    pub values: Vec<Value>,
}

/// What one row of a grid sets.
pub type Point = IndexMap<String, Value>;

impl Axis {
    /// `key=a,b,c` as the command line has it; a single value is no axis. A comma inside brackets or quotes is the
    /// value's own.
    pub fn spoken(text: &str) -> Option<Self> {
        let (key, values) = text.split_once('=')?;
        let values = split(values);
        let values: Vec<Value> = values.into_iter().map(|value| meant(value.trim())).collect();
        (values.len() > 1).then(|| Self { key: key.trim().to_owned(), values })
    }
}

/// Every combination of the axes' values, the last axis fastest.
///
/// # Errors
/// An axis without values; a value that stands twice.
pub fn points(axes: &[Axis]) -> Result<Vec<Point>> {
    let mut points = vec![Point::new()];
    for Axis { key, values } in axes {
        if values.is_empty() {
            return Err(Misfit::new(format!("vary.{key} has no values")).into());
        }
        if let Some((_, twice)) = values.iter().enumerate().find(|(at, value)| values[..*at].contains(value))
        {
            return Err(Misfit::new(format!("{key} is {} twice", said(twice))).into());
        }
        let with = |point: &Point, value: &Value| {
            let mut point = point.clone();
            point.insert(key.clone(), value.clone());
            point
        };
        points = points.iter().flat_map(|point| values.iter().map(move |value| with(point, value))).collect();
    }
    Ok(points)
}

/// How a row is called: `lr=0.1 beta=2`, by the last words of its keys where they tell them apart. Without commas, at
/// which `--rows` takes names apart.
pub fn name(point: &Point) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let short = |key: &String| {
        let alone = point.keys().filter(|other| last(other) == last(key)).count() == 1;
        // `type` says nothing without what it is the type of.
        if alone && !["type", "model", "base"].contains(&last(key).as_str()) {
            last(key)
        } else {
            key.clone()
        }
    };
    let settings = point.iter().map(|(key, value)| format!("{}={}", short(key), said(value)));
    settings.collect::<Vec<_>>().join(" ").replace(", ", " ").replace(',', " ")
}

/// A row as TOML has it: `{ key = value, ... }`.
pub fn inline(point: &Point) -> String {
    let settings = point.iter().map(|(key, value)| format!("{key} = {value}"));
    format!("{{ {} }}", settings.collect::<Vec<_>>().join(", "))
}

/// A value as the command line would say it: texts bare where that is not mistaken for something else.
pub fn said(value: &Value) -> String {
    match value {
        Value::String(text) if meant(text) == *value => text.clone(),
        other => other.to_string(),
    }
}

/// A value read as TOML, and as a plain text where that fails.
pub fn meant(text: &str) -> Value {
    let read = toml::from_str::<toml::Table>(&format!("value = {text}")).ok();
    read.filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::from(text))
}

/// At the commas that stand neither in brackets nor in quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, letter) in text.char_indices() {
        match (letter, quote) {
            (_, Some(open)) => quote = Some(open).filter(|open| *open != letter),
            ('"' | '\'', None) => quote = Some(letter),
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth = depth.saturating_sub(1),
            (',', None) if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_outside_of_brackets_and_quotes_make_lists() {
        let axis = Axis::spoken("student.model=resnet8, resnet14").expect("two values");
        assert_eq!(axis.values, [Value::from("resnet8"), Value::from("resnet14")]);
        let axis = Axis::spoken("extends=[\"sokd:kd\",\"sokd:dafa\"],sokd:kd").expect("two values");
        assert_eq!(axis.values.len(), 2);
        assert_eq!(axis.values[1], Value::from("sokd:kd"));
        let numbers = Axis::spoken("lr=0.1,0.2,1").expect("three values").values;
        assert_eq!(numbers, [Value::from(0.1), Value::from(0.2), Value::from(1)]);
        for single in ["epochs=3", "widths=[8,8]", "name='a,b'", "lr", "model={type=\"x\",depth=8}"] {
            assert_eq!(Axis::spoken(single), None, "{single}");
        }
    }

    #[test]
    fn a_grid_is_every_combination_and_names_its_rows() -> Result<()> {
        let axes =
            ["a.lr=0.1,0.2", "b.lr=1,2", "student.model=x,y"].map(|text| Axis::spoken(text).expect("a list"));
        let names: Vec<String> = points(&axes)?.iter().map(name).collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[0], "a.lr=0.1 b.lr=1 student.model=x");
        assert_eq!(names[1], "a.lr=0.1 b.lr=1 student.model=y");
        assert_eq!(names[4], "a.lr=0.2 b.lr=1 student.model=x");
        let single = points(&[Axis::spoken("loss.widths=[1,2],[3,4]").expect("a list")])?;
        assert_eq!(
            (name(&single[0]), inline(&single[1])),
            ("widths=[1 2]".into(), "{ loss.widths = [3, 4] }".into())
        );
        assert!(points(&[Axis::spoken("a=1,1").expect("a list")]).is_err());
        Ok(())
    }

    #[test]
    fn a_text_that_looks_like_a_number_keeps_its_quotes() {
        assert_eq!(said(&Value::from("2")), "\"2\"");
        assert_eq!(said(&Value::from("resnet8")), "resnet8");
        assert_eq!(said(&Value::from(2)), "2");
    }
}
