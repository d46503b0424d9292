//! Checkpoints as trainers of the field leave them, and as nobody should.

use candle::{DType, Device, Tensor};
use serde::Deserialize;
use sokd_core::{Build as _, BuildCx, Error, Key, Result};
use sokd_models::weights;
use sokd_nn::Params;
use sokd_tests::{data, golden, same, wave};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a reader must find in a file.
#[derive(Deserialize)]
struct Facts {
    /// Behind the path and two colons, if anything.
    key: Option<String>,
    path: String,
    tensors: BTreeMap<String, Vec<usize>>,
    foreign: Vec<String>,
    /// Part of what the reader must say instead.
    error: Option<String>,
}

fn files() -> BTreeMap<String, Vec<Facts>> {
    golden("weights")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/weights")
}

/// A place for a test's own files.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// By the rules of the script.
fn expected(name: &str, shape: &[usize]) -> Result<Tensor> {
    let ints = |values: [i64; 5]| Tensor::new(&values, &Device::Cpu);
    let long = wave("a", &[24], 1.0)?;
    let name = name.trim_start_matches("student.").trim_start_matches("teacher.");
    Ok(match name {
        "part" => long.narrow(0, 5, 6)?,
        "rows" => long.reshape((4, 6))?,
        "turned" => long.reshape((4, 6))?.t()?,
        "every.other" => long.reshape((12, 2))?.narrow(1, 0, 1)?.squeeze(1)?,
        "again" => long.broadcast_as((2, 24))?,
        "f16" => wave(name, shape, 1.0)?.to_dtype(DType::F16)?.to_dtype(DType::F32)?,
        "bf16" => wave(name, shape, 1.0)?.to_dtype(DType::BF16)?.to_dtype(DType::F32)?,
        "i64" | "i32" | "i16" | "i8" => ints([-2, -1, 0, 1, 2])?,
        "u8" => ints([0, 1, 2, 3, 4])?,
        "flag" => ints([1, 0, 1, 1, 0])?,
        "zero" | "layer1.0.num_batches_tracked" => Tensor::zeros(shape, DType::I64, &Device::Cpu)?,
        name => wave(name, shape, 1.0)?,
    })
}

fn check(file: &str, facts: &Facts) -> Result<()> {
    let mut path = folder().join(file).into_os_string();
    if let Some(key) = &facts.key {
        path.push(format!("::{key}"));
    }
    let read = weights::read(Path::new(&path));
    if let Some(part) = &facts.error {
        let error = read.expect_err(file).to_string();
        assert!(error.contains(part) && error.contains(file) && error.contains("remedy"), "{error}");
        return Ok(());
    }
    let found = read?;
    assert_eq!(found.path, facts.path, "{file}");
    assert_eq!(found.foreign, facts.foreign, "{file}");
    let shapes: BTreeMap<_, _> =
        found.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
    assert_eq!(shapes, facts.tensors, "{file}");
    let numbers = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    for (name, tensor) in found.tensors {
        let expected = expected(&name, tensor.dims())?;
        assert_eq!(tensor.dtype(), expected.dtype(), "{file}: {name}");
        if tensor.elem_count() > 0 {
            assert_eq!(numbers(&tensor)?, numbers(&expected)?, "{file}: {name}");
        }
    }
    Ok(())
}

#[test]
fn files_of_many_trainers_are_read() -> Result<()> {
    for (file, all) in files() {
        all.iter().try_for_each(|facts| check(&file, facts))?;
    }
    Ok(())
}

/// A legacy file around a pickle of our own making.
fn legacy(object: &[u8]) -> Vec<u8> {
    let header = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    [&header[..], object, b"\x80\x02]."].concat()
}

/// Opcodes that rebuild a tensor of a hundred numbers out of a storage that holds none, under `size` and `stride`.
fn tensor(size: &[u8], stride: &[u8]) -> Vec<u8> {
    let storage = b"ctorch._utils\n_rebuild_tensor_v2\n(\
        (X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x00NtQ";
    let object = [b"\x80\x02}X\x01\0\0\0w", &storage[..], b"K\0", size, stride, b"\x89NtRs."].concat();
    let mut file = legacy(&object);
    file.truncate(file.len() - 4);
    file.extend(b"\x80\x02]X\x01\0\0\x000a.");
    file.extend([0; 8]);
    file
}

/// Files that were made to hurt: what they claim is not what they hold.
#[test]
fn hostile_files_are_refused() {
    let deep = |opcode: &[u8]| legacy(&[&b"\x80\x02"[..], &opcode.repeat(2_000_000), b"."].concat());
    let laughs = {
        let mut object = b"\x80\x02}X\x01\0\0\0a]q\0".to_vec();
        for level in 0u8..60 {
            object.extend([b"](h".as_slice(), &[level], b"h", &[level], b"eq", &[level + 1]].concat());
        }
        object.extend(b"s.");
        legacy(&object)
    };
    let cycle = legacy(b"\x80\x02}q\0X\x01\0\0\0ah\0s.");
    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f".repeat(2);
    let mut long = 1_000_000_000_000_000_000u64.to_le_bytes().to_vec();
    long.extend(b"{\"w\":{}}");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("a web page", b"<!DOCTYPE html><html>404</html>".to_vec()),
        ("a pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec()),
        ("nested lists", deep(b"]")),
        ("nested tuples", deep(b"N\x85")),
        ("marks", deep(b"(")),
        ("reduced on and on", deep(b"cos\nsystem\n)R")),
        ("lists in lists in lists", laughs),
        ("a dictionary in itself", cycle),
        ("a trillion numbers", tensor(&[&huge[..], b"\x86"].concat(), b"K\x01K\x01\x86")),
        (
            "a trillion times one",
            tensor(&[b"J\xff\xff\xff\x7f".repeat(2).as_slice(), b"\x86"].concat(), b"K\0K\0\x86"),
        ),
        ("a number from nowhere", tensor(b"K\x64\x85", b"K\x01\x85")),
        ("sizes below zero", tensor(b"J\xff\xff\xff\xff\x85", b"K\x01\x85")),
        ("a string of 2 GiB", legacy(b"\x80\x02X\xff\xff\xff\x7fabc.")),
        ("a string of 2^63 bytes", legacy(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.")),
        ("a memo at 2^32", legacy(b"\x80\x02]r\xff\xff\xff\xff.")),
        ("nothing below the mark", legacy(b"\x80\x02](a.")),
        ("another pickle", b"\x80\x04\x95\x02\0\0\0\0\0\0\0].".to_vec()),
        ("a header of 2^60 bytes", long),
        ("a zip archive of nothing", b"PK\x03\x04".to_vec()),
    ];
    for (what, bytes) in cases {
        let path = scratch("hostile");
        std::fs::write(&path, bytes).expect("room for a small file");
        let error = weights::read(&path).expect_err(what);
        assert!(matches!(error, Error::File { .. }), "{what}: {error}");
        println!("{what}: {error}");
    }
    let absent = weights::read(&scratch("absent.pth")).expect_err("no such file");
    assert!(matches!(absent, Error::Missing { .. }), "{absent}");
}

fn network(name: &str, seed: u64) -> Result<Params> {
    let params = Params::new(Key::new(seed));
    let spec = sokd_models::named(name).expect("a network of the zoo");
    spec.build(&BuildCx::alone(params.builder(&Device::Cpu).pp("student"), &data(10, [32, 32])))?;
    Ok(params)
}

#[test]
fn what_is_saved_is_loaded() -> Result<()> {
    let path = scratch("saved.safetensors");
    let notes =
        BTreeMap::from([("model".to_owned(), "resnet8".to_owned()), ("epoch".to_owned(), "3".to_owned())]);
    let (one, other) = (network("resnet8", 1)?, network("resnet8", 2)?);
    weights::save(&one, "student", &path, &notes)?;
    weights::load(&other, "student", &path)?;
    let (one, other) = (one.tensors("student")?, other.tensors("student")?);
    for (name, weight) in &one {
        assert!(same(weight, &other[name])?, "{name}");
    }
    let bytes = std::fs::read(&path).expect("the file");
    weights::save(&network("resnet8", 1)?, "student", &path, &notes)?;
    assert_eq!(std::fs::read(&path).expect("the file"), bytes, "the same weights give the same bytes");
    let names = weights::read(&path)?.tensors;
    assert_eq!(names.len(), 56, "with PyTorch's counters");
    assert_eq!(names["layer3.0.bn2.num_batches_tracked"].dtype(), DType::I64);
    Ok(())
}

#[test]
fn what_does_not_fit_is_listed_and_changes_nothing() -> Result<()> {
    let path = scratch("other.safetensors");
    weights::save(&network("resnet14", 1)?, "student", &path, &BTreeMap::new())?;
    let params = network("resnet8", 2)?;
    let before = params.tensors("student")?;
    let error = weights::load(&params, "student", &path).expect_err("resnet14 is deeper");
    let Error::Unfit { what, missing, unexpected, misshapen } = &error else { panic!("{error}") };
    assert!(what.contains("other.safetensors"), "{what}");
    assert!(missing.is_empty() && misshapen.is_empty(), "{error}");
    // Three blocks of two convolutions and two normalisations of four; the counters are nobody's business.
    assert_eq!(unexpected.len(), 3 * (2 + 2 * 4), "{error}");
    assert_eq!(unexpected[0], "layer1.1.bn1.bias");
    for (name, weight) in params.tensors("student")? {
        assert!(same(&weight, &before[&name])?, "{name}");
    }
    Ok(())
}

/// A classifier and projections go by several names.
#[test]
fn synonyms_are_understood() -> Result<()> {
    let path = scratch("translated.safetensors");
    let (one, other) = (network("resnet20_a", 1)?, network("resnet20_a", 2)?);
    let translated = Params::new(Key::new(0));
    let vars = translated.builder(&Device::Cpu);
    let renamed: BTreeMap<_, _> = one
        .tensors("student")?
        .into_iter()
        .map(|(name, weight)| (name.replace("linear", "fc"), weight))
        .collect();
    for (name, weight) in &renamed {
        match *weight.dims() {
            [to, from, height, width] => vars.get((height, width, from, to), name)?,
            _ => vars.get(weight.shape(), name)?,
        };
    }
    translated.load("", &renamed)?;
    weights::save(&translated, "", &path, &BTreeMap::new())?;
    weights::load(&other, "student", &path)?;
    assert!(same(&one.tensors("student")?["linear.weight"], &other.tensors("student")?["linear.weight"])?);
    Ok(())
}
