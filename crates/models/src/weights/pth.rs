//! PyTorch's own format, written: a zip archive of a pickle, which names the tensors, and of each tensor's numbers.

use super::write::{StateDict, numbers};
use candle::{DType, Layout, Tensor};
use sokd_core::{Error, Result};
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

/// Weights as `torch.save` writes them since 2020, alone or as the value of `key` in a dictionary. The same weights give
/// the same bytes, and `torch.load(weights_only=True)` reads them.
///
/// # Errors
/// What copying raises.
pub fn pth(weights: &StateDict, key: Option<&str>) -> Result<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    // At multiples of 64 bytes, so that they can be mapped into memory; of no day, so that bytes say what is in them.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(64)
        .last_modified_time(DateTime::default());
    let mut add = |name: &str, bytes: &[u8]| -> Result<()> {
        archive.start_file(format!("archive/{name}"), options).map_err(refused)?;
        archive.write_all(bytes).map_err(Error::io(Path::new("archive")))
    };
    add("data.pkl", &pickle(weights, key))?;
    add("byteorder", b"little")?;
    for (place, tensor) in weights.values().enumerate() {
        add(&format!("data/{place}"), &numbers(tensor)?.1)?;
    }
    add("version", b"3\n")?;
    Ok(archive.finish().map_err(refused)?.into_inner())
}

fn refused(error: zip::result::ZipError) -> Error {
    Error::io(Path::new("archive"))(error.into())
}

/// A program for the unpickler's stack, in protocol 2, which every Python that runs PyTorch reads.
fn pickle(weights: &StateDict, key: Option<&str>) -> Vec<u8> {
    let mut code = Pickle(b"\x80\x02".to_vec());
    if let Some(key) = key {
        code.op("}").text(key);
    }
    code.ordered_dict().op("(");
    for (place, (name, tensor)) in weights.iter().enumerate() {
        code.text(name).tensor(tensor, place);
    }
    code.op("u");
    if key.is_some() {
        code.op("s");
    }
    code.op(".");
    code.0
}

/// The bytes so far.
struct Pickle(Vec<u8>);

impl Pickle {
    fn op(&mut self, code: &str) -> &mut Self {
        self.0.extend(code.as_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.op(text)
    }

    /// Of eight bytes, whatever its size.
    fn whole(&mut self, number: usize) -> &mut Self {
        self.0.extend(b"\x8a\x08");
        self.0.extend((number as u64).to_le_bytes());
        self
    }

    fn tuple(&mut self, numbers: &[usize]) -> &mut Self {
        self.op("(");
        for &number in numbers {
            self.whole(number);
        }
        self.op("t")
    }

    fn ordered_dict(&mut self) -> &mut Self {
        self.op("ccollections\nOrderedDict\n)R")
    }

    /// A call of `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`.
    fn tensor(&mut self, tensor: &Tensor, place: usize) -> &mut Self {
        let storage = if tensor.dtype() == DType::I64 { "LongStorage" } else { "FloatStorage" };
        self.op("ctorch._utils\n_rebuild_tensor_v2\n((").text("storage");
        self.op("ctorch\n").op(storage).op("\n");
        self.text(&place.to_string()).text("cpu").whole(tensor.elem_count());
        self.op("tQ").whole(0).tuple(tensor.dims()).tuple(Layout::contiguous(tensor.shape()).stride());
        self.0.push(0x89);
        self.ordered_dict().op("tR")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::read;
    use candle::Device;

    /// What is written here is read here; that PyTorch reads it too is for `experiments/tests/export.rs`.
    #[test]
    fn what_is_written_is_read() -> Result<()> {
        let kernel = Tensor::arange(0f32, 24.0, &Device::Cpu)?.reshape((2, 3, 2, 2))?;
        let counter = Tensor::new(7i64, &Device::Cpu)?;
        let weights =
            StateDict::from([("bn1.num_batches_tracked".into(), counter), ("conv1.weight".into(), kernel)]);
        let folder = tempfile::tempdir().map_err(Error::io(Path::new("a folder")))?;
        let path = folder.path().join("model.pth");
        for key in [None, Some("model")] {
            sokd_core::file::write(&path, &pth(&weights, key)?)?;
            let found = read(&path)?;
            assert_eq!(found.path, key.unwrap_or_default());
            assert_eq!(found.tensors.len(), 2);
            assert_eq!(found.tensors["bn1.num_batches_tracked"].to_scalar::<i64>()?, 7);
            let (kernel, same) = (&weights["conv1.weight"], &found.tensors["conv1.weight"]);
            assert_eq!(same.dims(), kernel.dims());
            assert_eq!(same.flatten_all()?.to_vec1::<f32>()?, kernel.flatten_all()?.to_vec1::<f32>()?);
        }
        assert_eq!(pth(&weights, None)?, pth(&weights, None)?);
        Ok(())
    }
}
