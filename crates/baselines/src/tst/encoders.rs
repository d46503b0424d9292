use super::affine::Affine;
use super::color::Color;
use super::{Kind, LEVELS, Operation};
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

/// Encoders that learn nothing any more, in the order of their operations.
pub fn frozen(from: &str, device: &Device) -> Result<Vec<Encoder>> {
    let params = Params::new(Key::new(0));
    let vars = params.frozen(device);
    let encoder = |&operation: &Operation| Encoder::new(operation, vars.pp(operation.name())).transpose();
    let encoders = Operation::ALL[..LEVELS].iter().filter_map(encoder).collect::<Result<_>>()?;
    params.load("", &find(from)?)?;
    Ok(encoders)
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
