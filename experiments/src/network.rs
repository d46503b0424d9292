//! Networks with weights from somewhere.

use crate::pixels::{self, Pixels};
use crate::progress::Stage;
use crate::recipe::StudentSpec;
use crate::student::noted;
use crate::{Grafting, Misfit, Model, Result, hub, rundir, shipped};
use candle::Device;
use sokd_core::{Backbone, Build, BuildCx, DatasetInfo, Error, Key};
use sokd_data::Locations;
use sokd_models::{Precision, Published, weights};
use sokd_nn::Params;
use std::path::{Path, PathBuf};

/// A network that learns nothing any more.
pub struct Frozen {
    /// The network.
    pub net: Box<dyn Backbone>,
    /// The digest of its weights' file; none for drawn ones.
    pub sha256: Option<String>,
    /// Its weights.
    pub params: Params,
    /// The network as it was built, with what is noted among its weights to be set into it.
    pub spec: StudentSpec,
}

/// How a network computes, as recipes say it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arithmetic {
    /// Whether convolutions of 3 × 3 go by Winograd where that is faster.
    pub winograd: bool,
    /// In which numbers.
    pub precision: Precision,
}

/// Where weights come from, and how they are to be read.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// A file, `hub://owner/repository@revision/file`, `timm:<name>`, `torchvision:<name>`, `run:<directory>`, or `drawn`.
    pub from: &'a str,
    /// The digest that the file must have.
    pub sha256: Option<&'a str>,
    /// What the weights were trained under, where the file and the network do not say.
    pub pixels: Option<&'a Pixels>,
}

impl Frozen {
    /// A network with weights from somewhere, for the images of `data`.
    ///
    /// # Errors
    /// A file that is missing, torn or another than its digest says, weights of another network, and weights for
    /// other classes than the data has.
    pub fn load(
        model: &Model,
        weights: Weights<'_>,
        data: &DatasetInfo,
        key: Key,
        device: &Device,
        Arithmetic { winograd, precision }: Arithmetic,
    ) -> Result<Self> {
        let params = Params::new(key);
        let mut spec = StudentSpec {
            model: model.clone(),
            weights: None,
            graft: Grafting::default(),
            winograd,
            precision,
        };
        let build = |spec: &StudentSpec, pixels| {
            let data = DatasetInfo { pixels, ..data.clone() };
            spec.build(&BuildCx::alone(params.frozen(device), &data))
        };
        if weights.from == "drawn" {
            let net = build(&spec, pixels::expected(weights.pixels, None, model, data))?;
            return Ok(Self { net, params, sha256: None, spec });
        }
        let path = find(weights.from)?;
        spec.graft = noted(&path)?;
        let net = build(&spec, pixels::expected(weights.pixels, Some(&path), model, data))?;
        let sha256 = sokd_hub::sha256(&path)?;
        if let Some(expected) = weights.sha256.filter(|expected| !expected.eq_ignore_ascii_case(&sha256)) {
            let problem = format!("its SHA-256 is {sha256}, and {expected} was asked for");
            return Err(Error::file(&path, None, problem, "fetch the right file, or correct `sha256`").into());
        }
        fill(&params, "", &path, net.as_ref(), data)?;
        Ok(Self { net, params, sha256: Some(sha256), spec })
    }
}

/// Fills weights from a file.
///
/// # Errors
/// As [`weights::load`]; weights for other classes than the data has are called so.
pub fn fill(
    params: &Params,
    prefix: &str,
    path: &Path,
    net: &dyn Backbone,
    data: &DatasetInfo,
) -> Result<()> {
    let Err(error) = weights::load(params, prefix, path) else { return Ok(()) };
    let info = net.info();
    if matches!(error, Error::Unfit { .. })
        && let Some(classes) = classes(path, info.features)?.filter(|classes| *classes != info.classes)
    {
        let (known, wanted) = (info.classes, &data.name);
        let problem = format!("these weights tell {classes} classes apart, and {wanted} has {known}");
        return Err(Error::setting(
            path.display().to_string(),
            format!("{problem}: take others, or other data"),
        )
        .into());
    }
    Err(error.into())
}

/// How many classes weights tell apart, for a network of so many features; none, where they are another's.
///
/// # Errors
/// As [`weights::read`].
pub fn classes(path: &Path, features: usize) -> Result<Option<usize>> {
    // Layers that are set into a network may have as many columns.
    let own = weights::read(path)?.tensors.into_iter().filter(|(name, _)| !name.starts_with("graft."));
    let classifier = own
        .map(|(_, weight)| weight.dims().to_vec())
        .find(|dims| matches!(dims[..], [_, from] if from == features));
    Ok(classifier.map(|dims| dims[0]))
}

/// The file that a recipe or the command line means.
///
/// # Errors
/// [`Error::Missing`] with the places that were tried; what the hub answers.
pub fn find(weights: &str) -> Result<PathBuf> {
    // Whoever shows progress has fetched them before.
    let quiet = Stage::new(true);
    if let Some(address) = weights.strip_prefix(hub::SCHEME) {
        return Ok(hub::weights(&address.parse()?, &quiet)?.path);
    }
    if let Some(published) = Published::named(weights).map_err(Misfit::new)? {
        return hub::published(&published, &quiet);
    }
    if let Some(run) = weights.strip_prefix("run:") {
        // As a path, or below the folder of all runs.
        let inside = |folder: PathBuf| folder.join("student").join("model.safetensors");
        let places = [inside(PathBuf::from(run)), inside(rundir::root().join(run))];
        let [_, below] = &places;
        let missing = || {
            let what = "a finished run keeps its student's weights there".to_owned();
            Error::Missing { path: below.clone(), what, remedy: format!("finish the run: sokd resume {run}") }
        };
        return match places.iter().find(|path| path.exists()) {
            Some(path) => Ok(path.clone()),
            None => shipped::trained(run).ok_or_else(missing)?.file(),
        };
    }
    Ok(Locations::from_env().teacher(Path::new(weights))?)
}
