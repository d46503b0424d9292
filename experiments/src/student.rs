//! A student as it leaves its run: weights, what they are, and a card for people.

use crate::card::Card;
use crate::pixels::inscribed;
use crate::rundir::RunDir;
use crate::{Grafting, Resolved, Result, Summary};
use serde_json::json;
use sokd_core::{DatasetInfo, Error};
use sokd_models::weights;
use sokd_nn::Params;
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
    summary: &Summary,
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
    let card = Card { recipe: &resolved.recipe, summary, pixels: seen.pixels, licence: None };
    dir.write("student/README.md", card.markdown()?)?;
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
