//! A network's scores for every image, written down for others to compare with.

use crate::{Misfit, Result};
use candle::{Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use sokd_core::{Backbone, BackboneInfo, Batches, Error, Head, Mode, Stage, file};
use sokd_train::{Evaluation, evaluate};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A network that remembers the scores it gave, in order.
struct Recorded<'a> {
    net: &'a dyn Backbone,
    logits: Mutex<Vec<Tensor>>,
}

impl Backbone for Recorded<'_> {
    fn info(&self) -> &BackboneInfo {
        self.net.info()
    }

    fn stem(&self, images: &Tensor, mode: Mode) -> sokd_core::Result<Tensor> {
        self.net.stem(images, mode)
    }

    fn stage(&self, index: usize, input: &Tensor, mode: Mode) -> sokd_core::Result<Stage> {
        self.net.stage(index, input, mode)
    }

    fn head(&self, map: &Tensor, mode: Mode) -> sokd_core::Result<Head> {
        let head = self.net.head(map, mode)?;
        self.logits.lock().unwrap_or_else(PoisonError::into_inner).push(head.logits.clone());
        Ok(head)
    }
}

/// How a written file is laid out, which the name of the file decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Npy,
    Safetensors,
}

fn form(path: &Path) -> Result<Form> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => Ok(Form::Npy),
        Some("safetensors") => Ok(Form::Safetensors),
        _ => {
            let misfit = Misfit::new(format!("--logits {}: no form that is written here", path.display()));
            Err(misfit.help("end the name in .npy or .safetensors").into())
        }
    }
}

/// Judges a network, and writes its scores down if a file is named.
///
/// # Shapes
/// In the file: `logits`: `(images, classes)`, f32; `labels`, in safetensors only: `(images,)`, u32.
///
/// # Errors
/// A name that ends in no known form, before anything runs; whatever the network, the data or the system refuse.
pub fn judge(net: &dyn Backbone, images: &dyn Batches, write: Option<&Path>) -> Result<Evaluation> {
    let Some(path) = write else { return Ok(evaluate(net, images, None)?) };
    let form = form(path)?;
    let recorded = Recorded { net, logits: Mutex::default() };
    let evaluation = evaluate(&recorded, images, None)?;
    let logits = recorded.logits.into_inner().unwrap_or_else(PoisonError::into_inner);
    let labels = images.epoch(0, 0).map(|batch| Ok(batch?.labels)).collect::<Result<Vec<_>>>()?;
    let bytes = match form {
        Form::Npy => npy(&whole(&logits)?)?,
        Form::Safetensors => safetensors(&whole(&logits)?, &whole(&labels)?, path)?,
    };
    file::write(path, &bytes)?;
    Ok(evaluation)
}

fn whole(parts: &[Tensor]) -> Result<Tensor> {
    Ok(Tensor::cat(parts, 0).and_then(|whole| whole.to_device(&Device::Cpu)).map_err(Error::from)?)
}

fn floats(tensor: &Tensor) -> Result<Vec<u8>> {
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).map_err(Error::from)?;
    Ok(values.into_iter().flat_map(f32::to_le_bytes).collect())
}

fn safetensors(logits: &Tensor, labels: &Tensor, path: &Path) -> Result<Vec<u8>> {
    let values = floats(logits)?;
    let classes = labels.to_vec1::<u32>().map_err(Error::from)?;
    let classes: Vec<u8> = classes.into_iter().flat_map(u32::to_le_bytes).collect();
    let refused =
        |error: safetensors::SafeTensorError| Error::file(path, None, error.to_string(), "report this bug");
    let views = [
        ("labels", TensorView::new(Dtype::U32, labels.dims().to_vec(), &classes).map_err(refused)?),
        ("logits", TensorView::new(Dtype::F32, logits.dims().to_vec(), &values).map_err(refused)?),
    ];
    Ok(safetensors::serialize(views, None).map_err(refused)?)
}

/// Version 1.0 of numpy's format: magic, version, length and text of a header, then the numbers.
fn npy(tensor: &Tensor) -> Result<Vec<u8>> {
    let (rows, columns) = tensor.dims2().map_err(Error::from)?;
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Numbers begin at a multiple of 64 bytes, and the header ends in a line feed.
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 11;
    header = format!("{header:padded$}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.into_bytes());
    bytes.extend(floats(tensor)?);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candle_reads_the_numbers_back() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io(Path::new("a folder for the test")))?;
        let path = dir.path().join("logits.npy");
        let tensor =
            Tensor::new(&[[1f32, -2.5, 3.0], [0.0, 1e-8, 7.0]], &Device::Cpu).map_err(Error::from)?;
        file::write(&path, &npy(&tensor)?)?;
        let back = Tensor::read_npy(&path).map_err(Error::from)?;
        assert_eq!(
            back.to_vec2::<f32>().map_err(Error::from)?,
            tensor.to_vec2::<f32>().map_err(Error::from)?
        );
        Ok(())
    }

    #[test]
    fn another_ending_is_refused() {
        assert!(form(Path::new("scores.csv")).is_err());
    }
}
