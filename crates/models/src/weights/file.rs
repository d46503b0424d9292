//! From a file's bytes to a network's weights.

use super::Checkpoint;
use super::bytes::{Fault, shown};
use super::group::{self, Group, Views};
use super::torch::{self, Saved};
use super::view::{Scalar, View};
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet};

/// What wrappers put in front of all names: `DataParallel`, `torch.compile`, Lightning, SWA and the peers' trainers.
const WRAPPERS: [&str; 9] =
    ["module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.", "student.", "teacher."];

/// The network that a file holds, or the one of its networks that `key` names.
pub(super) fn decode(bytes: &[u8], key: Option<&str>) -> Result<Checkpoint, Fault> {
    let (groups, foreign) = match bytes {
        // First of all: the eight bytes before it are a length, which may begin as any other format does.
        [_, _, _, _, _, _, _, _, b'{', ..] => (vec![safe(bytes)?], Vec::new()),
        [b'P', b'K', 3, 4, ..] => pickled(&torch::zip(bytes)?, bytes.len())?,
        [0x80, ..] => pickled(&torch::legacy(bytes)?, bytes.len())?,
        _ => return Err(neither(bytes)),
    };
    let Group { path, views } = group::choose(groups, key)?;
    let views = unwrapped(views);
    afford(&views, bytes.len())?;
    let mut tensors = BTreeMap::new();
    for (name, view) in views {
        let tensor = view.and_then(|view| view.read()).map_err(|fault| fault.about(&name))?;
        tensors.insert(name, tensor);
    }
    Ok(Checkpoint { tensors, path, foreign })
}

fn pickled<'f>(saved: &Saved<'f>, bytes: usize) -> Result<(Vec<Group<'f>>, Vec<String>), Fault> {
    let foreign: BTreeSet<_> =
        saved.foreign().map(|(module, name)| shown(&format!("{module}.{name}"))).collect();
    Ok((group::all(saved, bytes)?, foreign.into_iter().collect()))
}

/// The one dictionary of a safetensors file.
fn safe(bytes: &[u8]) -> Result<Group<'_>, Fault> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| Fault::broken(None, format!("a damaged safetensors file: {error}")))?;
    let mut views = Views::new();
    for (name, tensor) in file.tensors() {
        let scalar = match tensor.dtype() {
            Dtype::F64 => Some(Scalar::F64),
            Dtype::F32 => Some(Scalar::F32),
            Dtype::F16 => Some(Scalar::F16),
            Dtype::BF16 => Some(Scalar::Bf16),
            Dtype::I64 => Some(Scalar::I64),
            Dtype::I32 => Some(Scalar::I32),
            Dtype::I16 => Some(Scalar::I16),
            Dtype::I8 => Some(Scalar::I8),
            Dtype::U8 => Some(Scalar::U8),
            Dtype::BOOL => Some(Scalar::Bool),
            _ => None,
        };
        let view = scalar.map(|scalar| View::whole(scalar, tensor.data(), tensor.shape().to_vec()));
        views.insert(group::name(&name)?, view.ok_or_else(Fault::unknown_type));
    }
    Ok(Group { path: String::new(), views })
}

/// Names without what a wrapper put in front of all of them.
fn unwrapped(mut views: Views<'_>) -> Views<'_> {
    // The counter that `AveragedModel` puts beside its `module.`.
    views.remove("n_averaged");
    while let Some(wrapper) =
        WRAPPERS.iter().find(|wrapper| views.keys().all(|name| name.starts_with(**wrapper)))
    {
        if views.is_empty() {
            break;
        }
        views = views.into_iter().map(|(name, view)| (name[wrapper.len()..].to_owned(), view)).collect();
    }
    views
}

/// Refuses views that repeat their storages far beyond the file's size: no trainer saves those, and a file of a
/// hundred bytes could ask for terabytes.
fn afford(views: &Views<'_>, bytes: usize) -> Result<(), Fault> {
    let mut left = (1 << 20) + 4 * bytes;
    for (name, view) in views {
        let Ok(view) = view else { continue };
        let numbers = view.numbers().map_err(|fault| fault.about(name))?;
        let wide = numbers.checked_mul(view.scalar.wide()).and_then(|wide| left.checked_sub(wide));
        left = wide.ok_or_else(|| {
            Fault::broken(None, "its tensors repeat a few numbers over and over").about(name)
        })?;
    }
    Ok(())
}

fn neither(bytes: &[u8]) -> Fault {
    let (problem, remedy) = if bytes.is_empty() {
        ("it is empty", "fetch it again")
    } else if bytes.starts_with(b"version https://git-lfs") {
        ("a pointer of Git LFS, not the file that it points to", "run `git lfs pull` where it came from")
    } else if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<') {
        ("a web page, not a checkpoint", "download the file itself, not the page about it")
    } else {
        (
            "neither safetensors nor a file that torch.save wrote",
            "give a .safetensors, .pth, .pt, .bin or .th file",
        )
    };
    Fault { offset: Some(0), problem: problem.into(), remedy }
}
