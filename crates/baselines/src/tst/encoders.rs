use super::affine::Affine;
use super::color::Color;
use super::{Gate, Kind, LEVELS, Operation};
use candle::{Device, Tensor};
use candle_nn::VarBuilder;
use sokd_core::{Error, Key, Result, file};
use sokd_nn::Params;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Encoders that come with the program, by name: trained here, as the page beside each says.
const SHIPPED: &[(&str, &[u8])] = &[("cifar100", include_bytes!("../../encoders/cifar100.safetensors"))];

/// One encoder.
pub enum Encoder {
    /// Of places.
    Affine(Affine),
    /// Of colours.
    Color(Color),
}

impl Encoder {
    /// The encoder of an operation, with weights under `vars`; none for an exact one.
    pub fn new(operation: Operation, vars: VarBuilder<'_>) -> Result<Option<Self>> {
        Ok(match operation.kind() {
            Kind::Affine => Some(Self::Affine(Affine::new(vars)?)),
            Kind::Color => Some(Self::Color(Color::new(vars)?)),
            Kind::Exact => None,
        })
    }
}

/// An encoder that learns nothing any more, and the logit with which it acts.
pub struct Frozen {
    /// The network.
    pub encoder: Encoder,
    /// Its logit.
    pub gate: f64,
}

/// The encoders of a name or a file, in the order of their operations.
pub fn frozen(from: &str, gate: Gate, device: &Device) -> Result<Vec<Frozen>> {
    let mut weights = find(from)?;
    let params = Params::new(Key::new(0));
    let vars = params.frozen(device);
    let mut encoders = Vec::new();
    for &operation in &Operation::ALL[..LEVELS] {
        let own = weights.remove(&format!("{}.gate", operation.name()));
        let gate = match (gate, own) {
            (Gate::Logit(gate), _) => gate,
            (Gate::Own, Some(own)) => f64::from(own.squeeze(0)?.to_scalar::<f32>()?),
            (Gate::Own, None) => {
                let problem = format!("the encoders `{from}` have none of their own: give a number");
                return Err(Error::setting("tst.gate", problem));
            }
        };
        if let Some(encoder) = Encoder::new(operation, vars.pp(operation.name()))? {
            encoders.push(Frozen { encoder, gate });
        }
    }
    params.load("", &weights)?;
    Ok(encoders)
}

/// The weights of an encoder that was released with TST's code, by the names that they have here.
///
/// # Errors
/// [`Error::Unfit`] where they are not those of the operation's encoder.
pub fn released(
    operation: Operation,
    weights: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let name = |name| match name {
        "H" => "hidden",
        "n_regress.weight" => "n.weight",
        "c_regress.weight" => "c.weight",
        "logits" => "gate",
        same => same,
    };
    // The map that moves nothing is no weight.
    let weights = weights.iter().filter(|(key, _)| *key != "i_matrix");
    let mut weights: BTreeMap<_, _> =
        weights.map(|(key, tensor)| (name(key.as_str()).to_owned(), tensor.clone())).collect();
    let gate = weights.remove("gate");
    let params = Params::new(Key::new(0));
    let _ = Encoder::new(operation, params.builder(&Device::Cpu).pp(operation.name()))?;
    params.load(operation.name(), &weights)?;
    weights.extend(gate.map(|gate| ("gate".to_owned(), gate)));
    Ok(weights.into_iter().map(|(key, tensor)| (format!("{}.{key}", operation.name()), tensor)).collect())
}

/// Encoders by the name of some that come with the program, or by their file.
fn find(from: &str) -> Result<BTreeMap<String, Tensor>> {
    match SHIPPED.iter().find(|(name, _)| *name == from) {
        Some((_, bytes)) => Ok(candle::safetensors::load_buffer(bytes, &Device::Cpu)?.into_iter().collect()),
        None => read(Path::new(from)),
    }
}

/// The weights in a file of encoders.
///
/// # Errors
/// [`Error::Missing`] where there is none, [`Error::File`] where it is no safetensors.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    if !path.exists() {
        let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
        return Err(Error::Missing {
            path: path.to_owned(),
            what: "the encoders of TST's operations".into(),
            remedy: format!(
                "train them: sokd tst pretrain-encoders; or take some that are here: {}",
                names.join(", ")
            ),
        });
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let tensors = candle::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|error| Error::file(path, None, error.to_string(), "train the encoders again"))?;
    Ok(tensors.into_iter().collect())
}

/// Writes the weights of encoders.
pub fn write(path: &Path, weights: &BTreeMap<String, Tensor>) -> Result<()> {
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(weights, Some(format)).map_err(candle::Error::from)?;
    file::write(path, &bytes)
}
