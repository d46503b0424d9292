use candle::{DType, Device, Tensor};
use serde_json::{Map, Value, json};
use sokd_core::Result;
use sokd_nn::Params;
use std::collections::BTreeMap;
use std::path::Path;

/// A network's weights by name, in PyTorch's layout, counters among them: what its `load_state_dict(strict=True)` takes.
pub type StateDict = BTreeMap<String, Tensor>;

/// The weights under `prefix`, and what PyTorch's normalisations want beside them to load strictly.
///
/// That is a counter `num_batches_tracked`. Nothing reads it where a momentum is given, as everywhere in the zoo, so it
/// is 0.
///
/// # Errors
/// What copying raises.
pub fn state_dict(params: &Params, prefix: &str) -> Result<StateDict> {
    let mut weights = params.tensors(prefix)?;
    let norms: Vec<String> =
        weights.keys().filter_map(|name| Some(name.strip_suffix("running_mean")?.to_owned())).collect();
    for norm in norms {
        weights.insert(format!("{norm}num_batches_tracked"), Tensor::zeros((), DType::I64, &Device::Cpu)?);
    }
    Ok(weights)
}

/// Writes the weights under `prefix` as safetensors, in PyTorch's layout and names: the file is there whole, or not
/// at all.
///
/// # Errors
/// [`sokd_core::Error::Io`], with what was there before untouched.
pub fn save(params: &Params, prefix: &str, path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
    sokd_core::file::write(path, &safetensors(&state_dict(params, prefix)?, metadata)?)
}

/// Weights as safetensors has them. The same weights and metadata give the same bytes.
///
/// The library's writer keeps metadata in a `HashMap`, so that it writes other bytes each time; ours does not.
/// Eight-byte counters come first, so that everything is aligned.
///
/// # Errors
/// What copying raises.
pub fn safetensors(weights: &StateDict, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut notes = metadata.clone();
    // What transformers and timm ask for.
    notes.insert("format".into(), "pt".into());
    let (mut header, mut data) = (Map::from_iter([("__metadata__".into(), json!(notes))]), Vec::new());
    let (counters, floats): (Vec<_>, Vec<_>) =
        weights.iter().partition(|(_, tensor)| tensor.dtype() == DType::I64);
    for (name, tensor) in counters.into_iter().chain(floats) {
        let start = data.len();
        let (kind, bytes) = numbers(tensor)?;
        data.extend(bytes);
        let (kind, shape) = (if kind == DType::I64 { "I64" } else { "F32" }, tensor.dims());
        header.insert(
            name.clone(),
            json!({ "dtype": kind, "shape": shape, "data_offsets": [start, data.len()] }),
        );
    }
    let mut header = Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.into_bytes());
    file.extend(data);
    Ok(file)
}

/// A tensor's numbers as every format has them, counters as `i64` and all others as `f32`, in little-endian order.
pub(super) fn numbers(tensor: &Tensor) -> Result<(DType, Vec<u8>)> {
    let flat = tensor.flatten_all()?;
    if tensor.dtype() == DType::I64 {
        let bytes = flat.to_vec1::<i64>()?.into_iter().flat_map(i64::to_le_bytes).collect();
        return Ok((DType::I64, bytes));
    }
    let bytes = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect();
    Ok((DType::F32, bytes))
}
