//! What a student's page on the Hub says: for machines between two rulers, for people below.

use crate::{Model, Recipe, Result, Summary};
use serde_json::{Value, json};
use sokd_core::PixelNorm;
use sokd_data::{DataSpec, Manifest};
use std::fmt::Write;
use std::path::Path;

/// A student and what there is to say of it.
#[derive(Debug)]
pub struct Card<'a> {
    /// How it was trained.
    pub recipe: &'a Recipe,
    /// What came of it.
    pub summary: &'a Summary,
    /// What it subtracts from its images and divides them by.
    pub pixels: PixelNorm,
    /// What others may do with it, by its name on the Hub.
    pub licence: Option<&'a str>,
}

impl Card<'_> {
    /// As Markdown with front matter.
    ///
    /// # Errors
    /// None that a recipe read from TOML could raise.
    pub fn markdown(&self) -> Result<String> {
        let fields = self.matter();
        let fields = fields.as_object().into_iter().flatten();
        let matter: Vec<String> =
            fields.map(|(name, value)| format!("{name}: {}\n", in_yaml(value))).collect();
        Ok(format!("---\n{}---\n\n{}", matter.concat(), self.text()?))
    }

    fn data(&self) -> (&str, Option<&'static Manifest>) {
        let name = self.summary.data.as_str();
        (name, Manifest::named(name))
    }

    /// What the Hub reads: it finds the page by it, and shows the numbers beside others'.
    fn matter(&self) -> Value {
        let (data, manifest) = self.data();
        let hub = manifest.and_then(|manifest| manifest.hub.as_deref());
        let title = manifest.map_or(data, |manifest| &manifest.title);
        let Summary { student, last, .. } = self.summary;
        let metric =
            |name: &str, value: f64| json!({ "type": "accuracy", "name": name, "value": rounded(value) });
        let mut matter = json!({
            "license": self.licence.unwrap_or("unknown"),
            "library_name": "sokd",
            "pipeline_tag": "image-classification",
            "tags": ["knowledge-distillation", "image-classification"],
            "metrics": ["accuracy"],
            "model-index": [{
                "name": student.model,
                "results": [{
                    "task": { "type": "image-classification" },
                    "dataset": { "name": title, "type": hub.unwrap_or(data), "split": "test" },
                    "metrics": [
                        metric("top-1 (%), after the last epoch", last.top1),
                        metric("top-5 (%), after the last epoch", last.top5),
                    ],
                }],
            }],
        });
        if let Some(hub) = hub {
            matter["datasets"] = json!([hub]);
        }
        matter
    }

    fn text(&self) -> Result<String> {
        let Self { recipe, summary, pixels, licence } = self;
        let Summary { student, teacher, last, best, environment, .. } = summary;
        let (data, manifest) = self.data();
        let model = &student.model;
        let taught = teacher.as_ref().map_or_else(String::new, |teacher| {
            let digest =
                teacher.sha256.as_ref().map_or_else(String::new, |sha256| format!(", SHA-256 `{sha256}`"));
            format!(
                ", taught by {} ({:.2} % top-1) with the weights `{}`{digest}",
                teacher.network.model,
                teacher.top1,
                public(&teacher.weights)
            )
        });
        let terms: Vec<String> =
            recipe.objective.iter().map(|(name, term)| format!("{name}: {}", term.loss.name())).collect();
        let mut text = format!(
            "# {model} on {}\n\nTrained for {} epoch{}{taught}. Objective: {}. Seed {}.\n\n\
             | {data}, test images | right | top-1 (%) | top-5 (%) | cross-entropy |\n|---|---|---|---|---|\n",
            manifest.map_or(data, |manifest| &manifest.title),
            recipe.epochs,
            if recipe.epochs == 1 { "" } else { "s" },
            terms.join(", "),
            recipe.seed,
        );
        let best_when = format!("in the epoch that was best on them ({})", best.epoch);
        for (when, scores) in [("after the last epoch", last), (best_when.as_str(), &best.scores)] {
            let _ = writeln!(
                text,
                "| {when} | {} of {} | {:.2} | {:.2} | {:.4} |",
                scores.correct, scores.total, scores.top1, scores.top5, scores.loss
            );
        }
        let _ = write!(
            text,
            "\nThe weights are those after the last epoch: {} numbers, {} multiplications for an image. Their names and \
             layout are PyTorch's. Images in [0, 1] are normalised by mean {:?} and deviation {:?}.\n\n\
             ```sh\nsokd eval {} --weights model.safetensors --data {}\n```\n\n## Licence\n\n{}\n",
            student.parameters,
            student.macs,
            pixels.mean,
            pixels.std,
            named(&recipe.student.model)?,
            DataSpec::named(data).map_or("DATA", |_| data),
            licence.map_or_else(
                || "Whoever published these weights has named no licence.".to_owned(),
                |licence| format!("These weights: `{licence}`.")
            ),
        );
        if let Some(manifest) = manifest {
            let _ = writeln!(
                text,
                "\nThe images, {} ({}): {}. {}",
                manifest.title, manifest.home, manifest.licence, manifest.citation
            );
        }
        let dirty = if environment.dirty { ", with changes" } else { "" };
        let _ = write!(
            text,
            "\n## Recipe\n\nsokd {} (commit `{}`{dirty}), on {} ({}). The digest of the recipe is `{}`.\n\n```toml\n{}```\n",
            environment.version,
            environment.commit,
            environment.device,
            environment.simd,
            summary.recipe,
            public_recipe(recipe)?,
        );
        Ok(text)
    }
}

/// A value on one line. JSON is YAML, and no name of a class or a file can break out of it; plain words stand as people
/// write them.
fn in_yaml(value: &Value) -> String {
    let word = |text: &str| {
        let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
        let other = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
        letters && text.starts_with(|first: char| first.is_ascii_lowercase()) && !other.contains(&text)
    };
    match value.as_str().filter(|text| word(text)) {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

/// A network as the command line has it.
fn named(model: &Model) -> Result<String> {
    Ok(match model {
        Model::Named(name) => name.clone(),
        Model::Spec(spec) => {
            let table = toml::Value::try_from(spec);
            let table =
                table.map_err(|error| sokd_core::Error::setting("student.model", error.to_string()))?;
            format!("'{table}'")
        }
    })
}

/// As people read accuracies.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A recipe without the folders of the machine it ran on: they are nobody else's affair.
///
/// # Errors
/// None that a recipe read from TOML could raise.
pub fn public_recipe(recipe: &Recipe) -> Result<String> {
    let unwritable = |error: String| sokd_core::Error::setting("recipe", error);
    let mut value = toml::Value::try_from(recipe).map_err(|error| unwritable(error.to_string()))?;
    hide(&mut value);
    Ok(toml::to_string(&value).map_err(|error| unwritable(error.to_string()))?)
}

fn hide(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => *text = public(text),
        toml::Value::Array(values) => values.iter_mut().for_each(hide),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| hide(value)),
        _ => {}
    }
}

/// A name without the folders that lead to it, where those begin at the machine's root or at somebody's own folder.
fn public(text: &str) -> String {
    let (scheme, path) = match text.strip_prefix("run:") {
        Some(path) => ("run:", path),
        None => ("", text),
    };
    let own = Path::new(path).is_absolute() || path.starts_with(['~', '.']) || path.contains(":\\");
    let last = path.rsplit(['/', '\\']).next().filter(|_| own && !path.contains("://"));
    last.map_or_else(|| text.to_owned(), |last| format!("{scheme}{last}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_breaks_out_of_its_line() {
        for (text, said) in [
            ("apache-2.0", "apache-2.0"),
            ("no", "\"no\""),
            ("1.0", "\"1.0\""),
            ("mit\n---\n# x", "\"mit\\n---\\n# x\""),
            ("a: b", "\"a: b\""),
        ] {
            assert_eq!(in_yaml(&text.into()), said);
        }
    }

    #[test]
    fn folders_of_a_machine_stay_on_it() {
        for (text, said) in [
            ("/data/me/resnet56.th", "resnet56.th"),
            ("run:/data/me/runs/seed-0", "run:seed-0"),
            ("../x/y.pth", "y.pth"),
            ("C:\\me\\y.pth", "y.pth"),
            ("hub://o/n@main/f", "hub://o/n@main/f"),
            ("timm:resnet18", "timm:resnet18"),
            ("teachers/resnet56.th", "teachers/resnet56.th"),
            ("run:cifar10-first/0123/seed-0", "run:cifar10-first/0123/seed-0"),
        ] {
            assert_eq!(public(text), said);
        }
    }
}
