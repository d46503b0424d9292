//! A student as it leaves its run: weights, what they are, and a card for people.

use crate::pixels::inscribed;
use crate::rundir::RunDir;
use crate::{Grafting, Resolved, Result};
use serde_json::json;
use sokd_core::{DatasetInfo, Error};
use sokd_models::weights;
use sokd_nn::Params;
use sokd_train::Progress;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes `student/{config.json, README.md, model.safetensors}`; the weights come last.
///
/// # Errors
/// Whatever the system refuses.
pub fn save(
    dir: &RunDir,
    resolved: &Resolved,
    params: &Params,
    seen: &DatasetInfo,
    progress: &Progress,
) -> Result<()> {
    let folder = dir.join("student");
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let (model, graft) = (&resolved.recipe.student.model, &resolved.recipe.student.graft);
    let [height, width] = seen.size;
    // As timm lays it out, so that timm reads it; what only we know stands under our own name.
    let config = json!({
        "architecture": model.label(),
        "num_classes": seen.classes.len(),
        "label_names": seen.classes,
        "pretrained_cfg": {
            "input_size": [3, height, width],
            "mean": seen.pixels.mean,
            "std": seen.pixels.std,
            "num_classes": seen.classes.len(),
        },
        "sokd": { "model": model.spec()?, "graft": graft, "recipe": resolved.id },
    });
    dir.write_json("student/config.json", &config)?;
    dir.write("student/README.md", card(resolved, seen, progress))?;
    let mut metadata = BTreeMap::from([
        ("model".to_owned(), model.label()),
        ("recipe".to_owned(), resolved.id.clone()),
        ("pixels".to_owned(), json!(seen.pixels).to_string()),
    ]);
    if !graft.0.is_empty() {
        metadata.insert(GRAFT.to_owned(), json!(graft).to_string());
    }
    Ok(weights::save(params, "student", &folder.join("model.safetensors"), &metadata)?)
}

/// Under which name the weights' file says what was set into the network.
const GRAFT: &str = "graft";

/// What the file of a student's weights says was set into its network: nothing, where it says nothing.
///
/// # Errors
/// [`Error::File`] where it says what this program does not know.
pub fn noted(weights: &Path) -> Result<Grafting> {
    let Some(text) = inscribed(weights, GRAFT) else { return Ok(Grafting::default()) };
    serde_json::from_str(&text).map_err(|error| {
        let problem = format!("the layers set into its network: {error}");
        Error::file(weights, None, problem, "read it with the program that wrote it").into()
    })
}

fn card(resolved: &Resolved, seen: &DatasetInfo, progress: &Progress) -> String {
    let recipe = &resolved.recipe;
    let model = recipe.student.model.label();
    let taught = recipe.teacher.as_ref().map_or_else(String::new, |teacher| {
        format!(", taught by {} with the weights `{}`", teacher.model.label(), teacher.weights)
    });
    let terms: Vec<String> =
        recipe.objective.iter().map(|(name, term)| format!("{name}: {}", term.loss.name())).collect();
    let test = progress.latest.get("test");
    let scores = test.map_or_else(String::new, |test| {
        format!(
            "| images | right | top-1 (%) | top-5 (%) | cross-entropy |\n|---|---|---|---|---|\n\
             | {} (test), after the last epoch | {} of {} | {:.2} | {:.2} | {:.4} |\n",
            seen.name, test.correct, test.total, test.top1, test.top5, test.loss
        )
    });
    format!(
        "---\ntags:\n- knowledge-distillation\n- image-classification\n---\n\n# {model} on {}\n\n\
         Trained for {} epochs{taught}. Objective: {}. Seed {}.\n\n{scores}\n\
         Weights and names are PyTorch's. Images in [0, 1] are normalised by mean {:?} and deviation {:?}.\n\n\
         ```sh\nsokd eval {model} --weights model.safetensors --data {}\n```\n\nRecipe `{}`.\n",
        seen.name,
        recipe.epochs,
        terms.join(", "),
        recipe.seed,
        seen.pixels.mean,
        seen.pixels.std,
        seen.name,
        resolved.id,
    )
}
