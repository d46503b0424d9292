use super::Format;
use crate::environment::Environment;
use crate::network::{self, Arithmetic, Frozen, Weights};
use crate::student::{self, Noted};
use crate::{Error, Layers, Misfit, Model, Pixels, Result, StudentSpec, pixels, rundir};
use candle::Device;
use serde_json::{Value, json};
use sokd_core::{DatasetInfo, Error as Part, Key, PixelNorm};
use sokd_models::weights::{StateDict, state_dict};
use sokd_models::{ModelSpec, Stem, Traced, mobilenet_v1, resnet};
use sokd_nn::Params;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A network that leaves, and what is known of it.
pub struct Leaving {
    /// What it sees: its classes, the size of its images, what it normalises them by.
    pub data: DatasetInfo,
    /// What it does.
    pub traced: Traced,
    spec: StudentSpec,
    params: Params,
    /// The digest of the file that its weights come from.
    sha256: String,
    /// Whether its classes have names, or numbers only.
    labelled: bool,
    /// The recipe that it was trained by.
    recipe: Option<String>,
    /// The sources that it was trained by.
    commit: Option<String>,
}

/// What the command line says of a network.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// A run's directory, a student's, or the name of a network with `weights`.
    pub source: String,
    /// Where its weights are, for a network that is given by name.
    pub weights: Option<String>,
    /// What they were trained under, where nothing else says.
    pub pixels: Option<Pixels>,
    /// The side of its images, where nothing else says.
    pub size: Option<usize>,
}

impl Leaving {
    /// The network that is meant.
    ///
    /// # Errors
    /// A directory without a student, a name that no network has, weights of another one, and what nobody says of them.
    pub fn open(given: &Given) -> Result<Self> {
        let path = match &given.weights {
            Some(weights) => network::find(weights)?,
            None => student(&given.source)?,
        };
        let noted = Noted::beside(&path)?;
        let ours = noted.as_ref().and_then(Noted::model).cloned();
        let model = match &given.weights {
            Some(_) => model(&given.source)?,
            None => ours.ok_or_else(|| nameless(given))?,
        };
        let data = data(given, &model, &path, noted.as_ref())?;
        let from = path.to_string_lossy();
        let weights = Weights { from: &from, sha256: None, pixels: given.pixels.as_ref() };
        let Frozen { params, sha256, spec, .. } =
            Frozen::load(&model, weights, &data, Key::new(0), &Device::Cpu, Arithmetic::default())?;
        let traced = Traced::new(&spec, params.frozen(&Device::Cpu), &data)?;
        Ok(Self {
            data,
            traced,
            spec,
            params,
            sha256: sha256.unwrap_or_default(),
            labelled: noted.as_ref().is_some_and(|noted| noted.label_names.is_some()),
            recipe: noted.and_then(|noted| noted.recipe().map(str::to_owned)),
            commit: commit(&path),
        })
    }

    /// The field's name for it, or else its family's.
    pub fn name(&self) -> String {
        self.known().map_or_else(|| self.spec.model.label(), str::to_owned)
    }

    /// The field's name for it.
    pub fn known(&self) -> Option<&'static str> {
        sokd_models::name(&self.spec.model.spec().ok()?)
    }

    /// Its settings, for a format of others' classes: nothing may be set into it.
    ///
    /// # Errors
    /// Layers that are set into it.
    pub fn plain(&self, who: &str) -> Result<ModelSpec> {
        if let Some(layer) = self.spec.graft.0.keys().next() {
            let problem = format!("{who} has no network with the layer `{layer}` that is set into this one");
            return Err(elsewhere(problem));
        }
        Ok(self.spec.model.spec()?)
    }

    /// What to say of a network that the readers of a format do not have.
    pub fn stranger(&self, who: &str, theirs: &str) -> Error {
        elsewhere(format!("{who} has no {} like this one: it takes {theirs}", self.name()))
    }

    /// Its weights under PyTorch's names.
    ///
    /// # Errors
    /// What copying raises.
    pub fn weights(&self) -> Result<StateDict> {
        Ok(state_dict(&self.params, "")?)
    }

    /// What `config.json` says of it.
    ///
    /// # Errors
    /// None that a network which was built raises.
    pub fn config(&self) -> Result<Value> {
        let mut config = student::config(&self.spec, &self.traced, &self.data, self.recipe.as_deref())?;
        if let Some(fields) = config.as_object_mut().filter(|_| !self.labelled) {
            fields.shift_remove("label_names");
        }
        Ok(config)
    }

    /// What a file of its weights says of it.
    pub fn notes(&self) -> BTreeMap<String, String> {
        student::notes(&self.spec, self.data.pixels, self.recipe.as_deref())
    }

    /// The same for people who have nothing but a graph.
    pub fn about(&self) -> BTreeMap<String, String> {
        let PixelNorm { mean, std } = self.data.pixels;
        let mut about = self.notes();
        // What follows says the same in two words.
        about.remove("pixels");
        about.extend([
            ("model".to_owned(), self.name()),
            ("mean".to_owned(), json!(pixels::short(mean)).to_string()),
            ("std".to_owned(), json!(pixels::short(std)).to_string()),
            ("weights-sha256".to_owned(), self.sha256.clone()),
        ]);
        if self.labelled {
            about.insert("classes".to_owned(), json!(self.data.classes).to_string());
        }
        about.extend(self.commit.clone().map(|commit| ("commit".to_owned(), commit)));
        about
    }

    /// A page for people.
    pub fn card(&self, format: &Format, python: &str) -> String {
        let PixelNorm { mean, std } = self.data.pixels;
        let [height, width] = self.data.size;
        let recipe = self.recipe.as_ref().map_or_else(String::new, |recipe| format!("Recipe `{recipe}`. "));
        let commit = self.commit.as_ref().map_or_else(String::new, |commit| format!("Sources `{commit}`. "));
        format!(
            "---\ntags:\n- image-classification\n---\n\n# {} for {}\n\n{} classes, images of {height} × {width} \
             pixels. Pixels in [0, 1] are normalised by mean {mean:?} and deviation {std:?}.\n\n\
             ```python\n{python}```\n\n{recipe}{commit}Written by `sokd export` from weights of SHA-256 `{}`.\n",
            self.name(),
            format.name,
            self.data.classes.len(),
            self.sha256,
        )
    }
}

fn elsewhere(problem: String) -> Error {
    Misfit::new(problem).help("--to safetensors and --to onnx take every network").into()
}

fn nameless(given: &Given) -> Error {
    let problem =
        format!("no config.json in {} says which network of ours its weights are for", given.source);
    Misfit::new(problem).help("name it: sokd export NETWORK --weights FILE").into()
}

/// The file of a student's weights, in a run's directory or its own.
fn student(source: &str) -> Result<PathBuf> {
    const FILE: &str = "model.safetensors";
    let places = [PathBuf::from(source), rundir::root().join(source)];
    let run = places.iter().find(|folder| folder.join("config.toml").exists());
    if let Some(run) = run {
        return network::find(&format!("run:{}", run.display()));
    }
    if let Some(folder) = places.iter().find(|folder| folder.join(FILE).exists()) {
        return Ok(folder.join(FILE));
    }
    if Model::named(source).is_ok() {
        let misfit = Misfit::new(format!("which weights of {source}?"));
        return Err(misfit.help(format!("sokd export {source} --weights FILE, or a run's directory")).into());
    }
    let what = "a run's directory, or a folder with a student's config.json and model.safetensors".to_owned();
    let remedy = "name one, or a network and its weights: sokd export NETWORK --weights FILE".to_owned();
    Err(Part::Missing { path: source.into(), what, remedy }.into())
}

/// The network of that name, or a recipe's student.
fn model(source: &str) -> Result<Model> {
    source.parse().or_else(|problem: String| match Layers::open(source) {
        Ok(recipe) => Ok(recipe.resolve()?.recipe.student.model),
        Err(_) => Err(Misfit::new(problem).into()),
    })
}

/// The sources that a run was trained by.
fn commit(weights: &Path) -> Option<String> {
    let run = weights.parent()?.parent()?;
    Environment::read(run).map(|environment| environment.commit)
}

/// What the network saw: as noted beside the weights, as told, as its family does.
fn data(given: &Given, model: &Model, path: &Path, noted: Option<&Noted>) -> Result<DatasetInfo> {
    let usual = usual(&model.spec()?);
    let size = given.size.map(|side| [side; 2]).or(noted.and_then(Noted::size)).unwrap_or(usual);
    let pixels = pixels::known(given.pixels.as_ref(), Some(path), model).ok_or_else(|| {
        let problem = format!("nothing beside {} says what its pixels are normalised by", path.display());
        let help = "say it: --pixels imagenet, half, cifar10, cifar100, or MEAN/STD";
        Error::from(Misfit::new(problem).help(help))
    })?;
    let blank = |classes: Vec<String>| DatasetInfo {
        name: "config.json beside them".into(),
        classes,
        size,
        pixels,
        train: 0,
        search: 0,
        test: 0,
    };
    if let Some(labels) = noted.and_then(|noted| noted.label_names.clone()) {
        return Ok(blank(labels));
    }
    let features = sokd_models::info(model, &blank(vec!["0".into()]))?.features;
    let classes = network::classes(path, features)?.ok_or_else(|| {
        let problem = format!("no classifier of {features} features is among these weights");
        let remedy = format!("take weights of {}", model.label());
        Error::from(Part::file(path, None, problem, &remedy))
    })?;
    Ok(blank((0..classes).map(|class| class.to_string()).collect()))
}

/// Height and width of the images that a family is for.
fn usual(spec: &ModelSpec) -> [usize; 2] {
    match spec {
        ModelSpec::MobilenetV1(mobilenet_v1::MobilenetV1 { .. })
        | ModelSpec::Resnet(resnet::Resnet { stem: Stem::Imagenet, .. }) => [224; 2],
        _ => [32; 2],
    }
}
