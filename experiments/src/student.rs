//! A student as it leaves its run: weights, what they are, and a card for people.

use crate::rundir::RunDir;
use crate::{Resolved, Result};
use serde_json::json;
use sokd_core::{DatasetInfo, Error};
use sokd_models::weights;
use sokd_nn::Params;
use sokd_train::Progress;
use std::collections::BTreeMap;

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
    let model = &resolved.recipe.student.model;
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
        "sokd": { "model": model.spec()?, "recipe": resolved.id },
    });
    dir.write_json("student/config.json", &config)?;
    dir.write("student/README.md", card(resolved, seen, progress))?;
    let metadata = BTreeMap::from([
        ("model".to_owned(), model.label()),
        ("recipe".to_owned(), resolved.id.clone()),
        ("pixels".to_owned(), json!(seen.pixels).to_string()),
    ]);
    Ok(weights::save(params, "student", &folder.join("model.safetensors"), &metadata)?)
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
