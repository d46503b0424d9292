//! Settings that remember where they were written, and how one layer of them lies on another.

use crate::{Error, Misfit, Result};
use indexmap::IndexMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// A text that settings are read from.
#[derive(Debug, PartialEq, Eq)]
pub struct Document {
    /// How messages call it: a path, `sokd:dkd`, `command line`.
    pub name: String,
    /// The TOML itself.
    pub text: String,
    /// Where relative paths in it start, for files.
    pub folder: Option<PathBuf>,
}

impl Document {
    /// A text that is no file.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into(), folder: None })
    }

    /// A file.
    ///
    /// # Errors
    /// [`sokd_core::Error::Missing`] when it is not there.
    pub fn file(path: &Path) -> Result<Arc<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(sokd_core::Error::Missing {
                    path: path.to_owned(),
                    what: "a TOML file was expected there".into(),
                    remedy: "check the path; `sokd list` names the recipes and tables that come with sokd"
                        .into(),
                }
                .into());
            }
            Err(error) => return Err(sokd_core::Error::io(path)(error).into()),
        };
        let folder = path.parent().map(Path::to_owned);
        Ok(Arc::new(Self { name: path.display().to_string(), text, folder }))
    }
}

/// A place in a document, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which text.
    pub document: Arc<Document>,
    /// Where in it.
    pub span: Range<usize>,
}

impl Place {
    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        self.document.text[..self.span.start].matches('\n').count() + 1
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.document.text.lines().nth(1).is_some() {
            write!(out, "{}:{}", self.document.name, self.line())
        } else {
            write!(out, "{}", self.document.name)
        }
    }
}

/// One setting and what is below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Where its name stands; for an item of a list, the item.
    pub name: Place,
    /// Where its value stands.
    pub at: Place,
    /// What it says.
    pub value: Value,
}

/// What a setting says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// More settings, in the order in which they were first named.
    Table(IndexMap<String, Setting>),
    /// Several of a kind.
    List(Vec<Setting>),
    /// A number, a text, a truth value.
    Plain(toml::Value),
}

impl Setting {
    /// What a document says.
    ///
    /// # Errors
    /// [`Error::Misfit`] where the text is not TOML.
    pub fn read(document: &Arc<Document>) -> Result<Self> {
        let broken = |error: &toml::de::Error| {
            let span = error.span().unwrap_or(0..0);
            let place = Place { document: Arc::clone(document), span };
            Error::from(Misfit::new(error.message().to_owned()).at(place))
        };
        let spans = DeTable::parse(&document.text).map_err(|error| broken(&error))?;
        let values: toml::Table = toml::from_str(&document.text).map_err(|error| broken(&error))?;
        let start = Place { document: Arc::clone(document), span: 0..0 };
        let table = table(spans.into_inner(), values, document);
        Ok(Self { name: start.clone(), at: start, value: Value::Table(table) })
    }

    /// Nothing yet.
    pub fn empty(document: &Arc<Document>) -> Self {
        let start = Place { document: Arc::clone(document), span: 0..0 };
        Self { name: start.clone(), at: start, value: Value::Table(IndexMap::new()) }
    }

    /// Lays `over` on these settings: tables merge, everything else replaces, and a table whose `type` changes
    /// replaces whole, so that no field of the old part survives into the new one.
    pub fn lay(&mut self, over: Self) {
        match (&mut self.value, over.value) {
            (Value::Table(old), Value::Table(new)) if !retypes(old, &new) => {
                for (key, over) in new {
                    match old.get_mut(&key) {
                        Some(setting) => setting.lay(over),
                        None => {
                            old.insert(key, over);
                        }
                    }
                }
                self.name = over.name;
                self.at = over.at;
            }
            (_, value) => *self = Self { value, ..over },
        }
    }

    /// The settings below, if this is a table.
    pub fn table(&self) -> Option<&IndexMap<String, Self>> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Takes one setting out of this table.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        match &mut self.value {
            Value::Table(table) => table.shift_remove(key),
            _ => None,
        }
    }

    /// The setting at `path`, such as `phase.student.lr` or `refine[1].stage`; where the path leaves the settings,
    /// the last one on it.
    pub fn nearest(&self, path: &str) -> &Self {
        let mut here = self;
        for segment in path.split(['.', '[']).map(|segment| segment.trim_end_matches(']')) {
            let below = match &here.value {
                Value::Table(table) => table.get(segment),
                Value::List(list) => segment.parse().ok().and_then(|index: usize| list.get(index)),
                Value::Plain(_) => None,
            };
            match below {
                Some(setting) => here = setting,
                None => break,
            }
        }
        here
    }

    /// The same without places.
    pub fn plain(&self) -> toml::Value {
        match &self.value {
            Value::Plain(value) => value.clone(),
            Value::List(list) => toml::Value::Array(list.iter().map(Self::plain).collect()),
            Value::Table(table) => toml::Value::Table(
                table.iter().map(|(key, setting)| (key.clone(), setting.plain())).collect(),
            ),
        }
    }

    /// Every setting that is no table, with its path, in order.
    pub fn leaves(&self) -> Vec<(String, &Self)> {
        let mut found = Vec::new();
        self.gather("", &mut found);
        found
    }

    fn gather<'a>(&'a self, path: &str, found: &mut Vec<(String, &'a Self)>) {
        match &self.value {
            Value::Table(table) => {
                for (key, setting) in table {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    setting.gather(&path, found);
                }
            }
            _ => found.push((path.to_owned(), self)),
        }
    }
}

/// `key=value` as the command line has it: the value is tried as TOML, and taken as a bare text otherwise.
///
/// # Errors
/// [`Error::Misfit`] without a key or an equals sign.
pub fn spoken(text: &str) -> Result<Setting> {
    let name = "command line";
    let place = || Place { document: Document::new(name, text), span: 0..text.len() };
    let remedy = "write an override as key=value, for example `epochs=10` or `objective.distill.loss.beta=6`";
    let Some((key, value)) = text.split_once('=') else {
        return Err(Misfit::new(format!("`{text}` is no setting")).at(place()).help(remedy).into());
    };
    if let Ok(setting) = Setting::read(&Document::new(name, text)) {
        return Ok(setting);
    }
    let quoted = format!("{}={}", key.trim(), toml::Value::from(value));
    Setting::read(&Document::new(name, quoted))
        .map_err(|_| Misfit::new(format!("`{key}` is no path to a setting")).at(place()).help(remedy).into())
}

fn retypes(old: &IndexMap<String, Setting>, new: &IndexMap<String, Setting>) -> bool {
    new.get("type").is_some_and(|new| old.get("type").is_none_or(|old| old.value != new.value))
}

fn table(spans: DeTable<'_>, mut values: toml::Table, document: &Arc<Document>) -> IndexMap<String, Setting> {
    let mut table = IndexMap::new();
    for (key, inner) in spans {
        let name = Place { document: Arc::clone(document), span: key.span() };
        if let Some(value) = values.remove(key.get_ref().as_ref()) {
            let at = Place { document: Arc::clone(document), span: inner.span() };
            let value = placed(inner.into_inner(), value, document);
            table.insert(key.into_inner().into_owned(), Setting { name, at, value });
        }
    }
    table
}

/// The places of one parse and the values of the other.
fn placed(spans: DeValue<'_>, value: toml::Value, document: &Arc<Document>) -> Value {
    match (spans, value) {
        (DeValue::Table(spans), toml::Value::Table(values)) => Value::Table(table(spans, values, document)),
        (DeValue::Array(spans), toml::Value::Array(values)) => {
            let item = |(spanned, value): (toml::Spanned<DeValue<'_>>, toml::Value)| {
                let at = Place { document: Arc::clone(document), span: spanned.span() };
                Setting { name: at.clone(), at, value: placed(spanned.into_inner(), value, document) }
            };
            Value::List(spans.into_iter().zip(values).map(item).collect())
        }
        (_, value) => Value::Plain(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Setting {
        Setting::read(&Document::new("test", text)).expect("TOML of the test")
    }

    fn laid(base: &str, over: &[&str]) -> toml::Value {
        let mut base = read(base);
        for over in over {
            base.lay(spoken(over).expect("an override of the test"));
        }
        base.plain()
    }

    #[test]
    fn tables_merge_and_lists_replace() {
        let got = laid("[lr]\nbase = 0.1\nmilestones = [1, 2]", &["lr.milestones=[3]", "lr.gamma=0.5"]);
        assert_eq!(got, read("lr = { base = 0.1, milestones = [3], gamma = 0.5 }").plain());
    }

    #[test]
    fn a_new_type_replaces_its_table() {
        let got = laid("loss = { type = 'kd', temperature = 4.0 }", &["loss.type=dkd", "loss.beta=8.0"]);
        assert_eq!(got, read("loss = { type = 'dkd', beta = 8.0 }").plain());
        let same = laid("loss = { type = 'kd', temperature = 4.0 }", &["loss.type=kd"]);
        assert_eq!(same, read("loss = { type = 'kd', temperature = 4.0 }").plain());
    }

    #[test]
    fn what_is_not_toml_is_a_text() {
        let got =
            laid("", &["model=resnet8x4", "weights=hub://a/b@main/c", "quoted=say \"so\"", "rate=5e-4"]);
        let table = "model = 'resnet8x4'\nweights = 'hub://a/b@main/c'\nquoted = 'say \"so\"'\nrate = 5e-4";
        assert_eq!(got, read(table).plain());
        assert!(spoken("epochs").is_err());
        assert!(spoken("=3").is_err());
    }

    #[test]
    fn every_setting_knows_its_line_through_a_merge() {
        let mut base = read("seed = 1\n[lr]\nbase = 0.1\ngamma = 0.2\n");
        base.lay(spoken("lr.gamma=0.5").expect("an override"));
        let place = |path: &str| base.nearest(path).at.to_string();
        assert_eq!(place("lr.base"), "test:3");
        assert_eq!(place("lr.gamma"), "command line");
        assert_eq!(base.nearest("lr.gamma.deeper").at.to_string(), "command line");
        assert_eq!(read("a = [{ b = 1 }, { b = 2 }]").nearest("a[1].b").plain(), toml::Value::Integer(2));
    }
}
