use candle::{DType, Device, Tensor};
use serde_json::{Map, Value, json};
use sokd_core::Result;
use sokd_nn::Params;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes the weights under `prefix` as safetensors, in PyTorch's layout and names: the file is there whole, or not
/// at all. The same weights and metadata give the same bytes.
///
/// PyTorch's normalisations want a counter `num_batches_tracked` to load strictly. Nothing reads it where a momentum
/// is given, as everywhere in the zoo, so it is written as 0.
///
/// # Errors
/// [`sokd_core::Error::Io`], with what was there before untouched.
pub fn save(params: &Params, prefix: &str, path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
    let weights = params.tensors(prefix)?;
    let norms = weights.keys().filter_map(|name| name.strip_suffix("running_mean"));
    let counter =
        |norm| Ok((format!("{norm}num_batches_tracked"), Tensor::zeros((), DType::I64, &Device::Cpu)?));
    let counters = norms.map(counter).collect::<Result<BTreeMap<_, _>>>()?;
    sokd_core::file::write(path, &safetensors(counters, weights, metadata)?)
}

/// The library's writer keeps metadata in a `HashMap`, so that it writes other bytes each time; ours does not.
/// Eight-byte counters come first, so that everything is aligned.
fn safetensors(
    counters: BTreeMap<String, Tensor>,
    weights: BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let mut notes = metadata.clone();
    // What transformers and timm ask for.
    notes.insert("format".into(), "pt".into());
    let (mut header, mut data) = (Map::from_iter([("__metadata__".into(), json!(notes))]), Vec::new());
    for (name, tensor) in counters.into_iter().chain(weights) {
        let start = data.len();
        let numbers = tensor.flatten_all()?;
        let kind = if tensor.dtype() == DType::I64 {
            data.extend(numbers.to_vec1::<i64>()?.into_iter().flat_map(i64::to_le_bytes));
            "I64"
        } else {
            data.extend(
                numbers.to_dtype(DType::F32)?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes),
            );
            "F32"
        };
        header.insert(
            name,
            json!({ "dtype": kind, "shape": tensor.dims(), "data_offsets": [start, data.len()] }),
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
