use super::entries::{Entry, Kind, entries, part, parts, settings};
use super::{Session, print, print_json};
use crate::misfit::closest;
use crate::table::{Cell, Choice, Table};
use crate::{LensSpec, LossSpec, Misfit, RefinerSpec, Result, shipped, table};
use clap::Args;
use serde_json::{Value, json};
use sokd_baselines::GraftSpec;
use sokd_data::DataSpec;
use sokd_models::ModelSpec;
use sokd_models::published::{Origin, Published};
use std::fmt::Write;

/// Tells what is known of a network, loss, plug-in, lens, data set, preset, recipe or table.
///
/// Paper and formula, every setting with its default, and the pairs for which values are published.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd describe dkd
  sokd describe resnet8x4
  sokd describe sokd:cifar100-240
  sokd describe cifar100-pairs --json")]
pub struct Describe {
    /// A name that `sokd list` knows.
    name: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// All that is known of a name.
struct Known {
    entry: Entry,
    /// Prose: paper, formula, remarks.
    text: String,
    /// Name, default and meaning of each setting.
    settings: Vec<[String; 3]>,
    /// Published values, a line each.
    published: Vec<String>,
}

impl Describe {
    pub fn run(&self, _: &Session) -> Result<()> {
        let all: Vec<Entry> = Kind::ALL.into_iter().flat_map(entries).collect();
        let meant: Vec<&Entry> = all.iter().filter(|entry| entry.name == self.name).collect();
        if meant.is_empty() {
            let near = closest(&self.name, all.iter().map(|entry| entry.name.as_str()));
            let help = near
                .map_or("`sokd list` names everything".to_owned(), |near| format!("did you mean `{near}`?"));
            return Err(Misfit::new(format!("nothing is called `{}`", self.name)).help(help).into());
        }
        let known = meant.into_iter().map(|entry| Known::of(entry.clone())).collect::<Result<Vec<_>>>()?;
        if self.json {
            return print_json(&known.iter().map(Known::json).collect::<Vec<_>>());
        }
        print(known.iter().map(Known::text).collect::<Vec<_>>().join("\n\n").trim_end())
    }
}

impl Known {
    fn of(entry: Entry) -> Result<Self> {
        let name = entry.name.clone();
        let mut known = Self { entry, text: String::new(), settings: Vec::new(), published: Vec::new() };
        match known.entry.kind {
            Kind::Models => {
                if let Some(spec) = sokd_models::named(&name) {
                    known.learn(&parts::<ModelSpec>(), &spec.name());
                    let _ = write!(
                        known.text,
                        "\n\nIn a recipe: model = \"{name}\", which is {}",
                        settings(&spec)
                    );
                }
            }
            Kind::Teachers => {
                let found = Published::named(&name).ok().flatten();
                known.text = found.map(|found| about(&found)).unwrap_or_default();
            }
            Kind::Losses => {
                known.learn(&parts::<LossSpec>(), &name);
                known.published = published(&name)?;
            }
            Kind::Plugins => known.learn(&parts::<RefinerSpec>(), &name),
            Kind::Lenses => known.learn(&parts::<LensSpec>(), &name),
            Kind::Layers => known.learn(&parts::<GraftSpec>(), &name),
            Kind::Datasets => {
                let spec = DataSpec::named(&name).map_or_else(|| name.clone(), |spec| spec.name());
                known.learn(&parts::<DataSpec>(), &spec);
            }
            Kind::Presets => {
                let preset = name.trim_start_matches("sokd:");
                known.text = sokd_baselines::preset(preset).unwrap_or_default().into();
            }
            Kind::Recipes => known.text = shipped::recipe(&name).unwrap_or_default().into(),
            Kind::Tables => known.text = shipped::table(&name).unwrap_or_default().into(),
        }
        Ok(known)
    }

    /// What the part's documentation and schema say.
    fn learn(&mut self, parts: &[Value], name: &str) {
        let Some(part) = part(parts, name) else { return };
        let text =
            |value: &Value| value.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.text = readable(&text(part));
        let properties = part.get("properties").and_then(Value::as_object);
        let required = part.get("required").and_then(Value::as_array);
        for (field, schema) in properties.into_iter().flatten().filter(|(field, _)| *field != "type") {
            let default = match schema.get("default") {
                Some(Value::Null) => "none".to_owned(),
                Some(Value::Array(parts)) if parts.len() > 3 => format!("{} parts", parts.len()),
                Some(default) => default.to_string(),
                None if required.is_some_and(|names| names.contains(&Value::from(field.as_str()))) => {
                    "required".to_owned()
                }
                None => "none".to_owned(),
            };
            self.settings.push([field.clone(), default, readable(&text(schema)).replace('\n', " ")]);
        }
    }

    fn text(&self) -> String {
        let mut out =
            format!("{} ({})\n\n{}\n", self.entry.name, singular(self.entry.kind), self.text.trim());
        if !self.settings.is_empty() {
            out.push_str("\nSettings:\n");
            let wide = |at: usize| {
                self.settings.iter().map(|setting| setting[at].chars().count()).max().unwrap_or(0)
            };
            let (name, default) = (wide(0), wide(1));
            for [field, value, what] in &self.settings {
                let _ = writeln!(out, "  {field:name$}  {value:default$}  {what}");
            }
        }
        if !self.published.is_empty() {
            out.push_str("\nPublished (top-1, %):\n");
            for line in &self.published {
                let _ = writeln!(out, "  {line}");
            }
        }
        out
    }

    fn json(&self) -> Value {
        let setting =
            |[name, default, what]: &[String; 3]| json!({ "name": name, "default": default, "what": what });
        json!({
            "name": self.entry.name,
            "kind": self.entry.kind,
            "text": self.text,
            "settings": self.settings.iter().map(setting).collect::<Vec<_>>(),
            "published": self.published,
        })
    }
}

fn singular(kind: Kind) -> &'static str {
    match kind {
        Kind::Models => "a network",
        Kind::Losses => "a loss",
        Kind::Layers => {
            "a layer: `[student.graft.penultimate]` with this `type` sets it in front of the pool"
        }
        Kind::Plugins => "a plug-in: `refine = [{ type = \"...\" }]` puts it in front of a loss",
        Kind::Lenses => "a lens: `lens = { type = \"...\" }` puts it between the images and both networks",
        Kind::Teachers => "weights that others publish: `teacher.weights`, `sokd eval`, `sokd pull`",
        Kind::Datasets => "a data set",
        Kind::Presets => "a preset: `extends = [\"...\"]` lays it under a recipe",
        Kind::Recipes => "a recipe: `sokd train`",
        Kind::Tables => "a table: `sokd table`",
    }
}

/// Where published weights are to be had, and how a recipe names them.
fn about(Published { name, model, origin }: &Published) -> String {
    let from = match origin {
        Origin::Hub(address) => format!("hub://{address}"),
        Origin::Makers { url, sha256, .. } => format!("{url}, whose SHA-256 begins with {sha256}"),
    };
    format!(
        "Weights of {model} for the 1000 classes of ImageNet, from {from}. Their names of weights are those of the network here, \
         and all of them must be there.\n\nIn a recipe: teacher = {{ model = \"{model}\", weights = \"{name}\" }}"
    )
}

/// Rustdoc as a terminal shows it: headings without signs, formulas indented, links without brackets.
fn readable(text: &str) -> String {
    let (mut out, mut formula) = (String::new(), false);
    for line in text.lines() {
        match line.trim() {
            "```text" | "```" => formula = !formula,
            "# Formula" => out.push_str("Formula:\n"),
            "# Source" => out.push_str("Source: "),
            _ if formula => _ = writeln!(out, "  {line}"),
            _ => _ = writeln!(out, "{line}"),
        }
    }
    out.replace("[`", "`").replace("`]", "`").trim().to_owned()
}

/// The values that the tables which come with sokd cite for arms with this loss, source by source.
fn published(loss: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for name in table::names() {
        let table = Table::open(name)?;
        let values = table.published();
        if values.is_empty() {
            continue;
        }
        let choice = Choice { tier: "full".to_owned(), seeds: Some(vec![0]), ..Choice::default() };
        let cells = table.cells(&choice)?;
        let with_loss =
            |cell: &&Cell| cell.resolved.recipe.objective.values().any(|term| term.loss.name() == loss);
        // Every arm asks for cross-entropy; its own values are those of the student alone.
        let cells = cells
            .iter()
            .filter(with_loss)
            .filter(|cell| loss != "cross-entropy" || cell.resolved.recipe.teacher.is_none());
        let mut source = String::new();
        for cell in cells {
            for value in values.iter().filter(|value| value.row == cell.row && value.column == cell.column) {
                let said =
                    format!("{}: {}; {} (table {name})", value.source, value.score.name(), value.protocol);
                if said != source {
                    lines.push(said.clone());
                    source = said;
                }
                let top1 = value.top1.map_or("not public".to_owned(), |top1| format!("{top1:.2}"));
                lines.push(format!("  {top1}  {}", value.column));
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_with_its_paper_and_every_setting() {
        let known =
            Known::of(Entry { name: "dkd".into(), kind: Kind::Losses, what: String::new() }).expect("dkd");
        let text = known.text();
        for part in ["2203.08679", "temperature", "4.0", "beta", "8.0"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn what_a_method_computes_is_told_with_a_formula_and_a_source() {
        let page = include_str!("../../../docs/src/formulas.md");
        for kind in [Kind::Losses, Kind::Plugins, Kind::Lenses, Kind::Layers] {
            for entry in entries(kind) {
                let heading = format!("### `{}`\n", entry.name);
                assert!(page.contains(&heading), "docs/src/formulas.md has no {heading}");
                let text = Known::of(entry).expect("an entry").text();
                assert!(text.contains("\nFormula:\n  ") && text.contains("\nSource: "), "{text}");
            }
        }
    }
}
