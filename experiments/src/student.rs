//! A student as it leaves its run: weights, what they are, and a card for people.

use crate::card::Card;
use crate::export::timm;
use crate::pixels::{inscribed, short};
use crate::rundir::RunDir;
use crate::{Grafting, Model, Resolved, Result, StudentSpec, Summary};
use candle::Device;
use serde::Deserialize;
use serde_json::{Value, json};
use sokd_core::{DatasetInfo, Error, PixelNorm};
use sokd_models::{Precision, Traced, weights};
use sokd_nn::Params;
use std::collections::BTreeMap;
use std::io::ErrorKind;
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
    device: &Device,
) -> Result<()> {
    let folder = dir.join("student");
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let student = &resolved.recipe.student;
    let vars = params.frozen(device).pp("student");
    // Operations between maps of two types are not told of.
    let plain = StudentSpec { precision: Precision::Single, ..student.clone() };
    let traced = Traced::new(&plain, vars, seen)?;
    dir.write_json("student/config.json", &config(student, &traced, seen, Some(&resolved.id))?)?;
    let card = Card { recipe: &resolved.recipe, summary, pixels: seen.pixels, licence: None };
    dir.write("student/README.md", card.markdown()?)?;
    let notes = notes(student, seen.pixels, Some(&resolved.id));
    Ok(weights::save(params, "student", &folder.join("model.safetensors"), &notes)?)
}

/// What `config.json` says of a network: as timm lays it out, so that timm reads it; what only we know stands under our own
/// name.
///
/// # Errors
/// None for a network that was built.
pub fn config(
    student: &StudentSpec,
    traced: &Traced,
    seen: &DatasetInfo,
    recipe: Option<&str>,
) -> Result<Value> {
    let (spec, [height, width]) = (student.model.spec()?, seen.size);
    let known = sokd_models::name(&spec).map_or_else(|| spec.name(), str::to_owned);
    let timms = timm::architecture(&spec).filter(|_| student.graft.0.is_empty());
    Ok(json!({
        "architecture": timms.unwrap_or(&known),
        "num_classes": seen.classes.len(),
        "num_features": traced.info.features,
        "label_names": seen.classes,
        "pretrained_cfg": {
            "input_size": [3, height, width],
            "interpolation": "bilinear",
            // Small images are seen whole; of large ones, the middle, as `fit` has it.
            "crop_pct": if height < 128 { 1.0 } else { 0.875 },
            "mean": short(seen.pixels.mean),
            "std": short(seen.pixels.std),
            "num_classes": seen.classes.len(),
            "first_conv": traced.first_conv(),
            "classifier": traced.classifier(),
        },
        "sokd": { "model": spec, "graft": student.graft, "recipe": recipe },
    }))
}

/// The same as far as the file of the weights says it.
pub fn notes(student: &StudentSpec, pixels: PixelNorm, recipe: Option<&str>) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::from([
        ("model".to_owned(), student.model.label()),
        ("pixels".to_owned(), json!(pixels).to_string()),
    ]);
    notes.extend(recipe.map(|recipe| ("recipe".to_owned(), recipe.to_owned())));
    if !student.graft.0.is_empty() {
        notes.insert(GRAFT.to_owned(), json!(student.graft).to_string());
    }
    notes
}

/// What a `config.json` beside weights says, as far as a network is told by it: ours say all, others some of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Noted {
    /// Of the classes.
    pub label_names: Option<Vec<String>>,
    pretrained_cfg: Option<Pretrained>,
    sokd: Option<Ours>,
}

#[derive(Clone, Debug, Deserialize)]
struct Pretrained {
    input_size: Option<[usize; 3]>,
}

#[derive(Clone, Debug, Deserialize)]
struct Ours {
    model: Model,
    recipe: Option<String>,
}

impl Noted {
    /// What stands beside a file of weights, if anything does.
    ///
    /// # Errors
    /// [`Error::File`] where it is not what it should be.
    pub fn beside(weights: &Path) -> Result<Option<Self>> {
        let path = weights.with_file_name("config.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error).into()),
        };
        let strange = |error: serde_json::Error| {
            Error::file(&path, None, error.to_string(), "move it away, or export the run once more")
        };
        Ok(Some(serde_json::from_slice(&bytes).map_err(strange)?))
    }

    /// The network, where it is one of ours.
    pub fn model(&self) -> Option<&Model> {
        Some(&self.sokd.as_ref()?.model)
    }

    /// The recipe that it was trained by.
    pub fn recipe(&self) -> Option<&str> {
        self.sokd.as_ref()?.recipe.as_deref()
    }

    /// Height and width of its images.
    pub fn size(&self) -> Option<[usize; 2]> {
        self.pretrained_cfg.as_ref()?.input_size.map(|[_, height, width]| [height, width])
    }
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
