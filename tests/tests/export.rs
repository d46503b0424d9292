//! Exports of filled networks: their bytes are those that the programs they are for have loaded and run
//! (`golden/export.py`), and where those are installed, they do it again.

#[path = "../../experiments/tests/track/python.rs"]
#[allow(clippy::print_stdout, reason = "what is skipped is said")]
mod python;

use candle::{DType, Device, Tensor};
use serde::Deserialize;
use sokd_core::{Build as _, BuildCx, Key, Mode, file};
use sokd_experiments::export::{self, Given, Leaving, Normalise};
use sokd_experiments::{Grafting, Pixels, Result, StudentSpec};
use sokd_models::Precision;
use sokd_models::weights::{self, StateDict};
use sokd_nn::Params;
use sokd_tests::{data, fill_with, golden, images};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How far scores may be off, as a part of the largest.
const CLOSE: f64 = 1e-5;

/// What was recorded of an export.
#[derive(Deserialize)]
struct Recorded {
    /// Of its weights' file; none where it depends on the machine's instructions.
    sha256: Option<String>,
    /// The largest difference of its scores from ours, as a part of the largest score.
    off: f64,
}

/// By network, then by format.
type Record = BTreeMap<String, BTreeMap<String, Recorded>>;

/// A network as the command line names it, the layers set into it, how many classes it tells apart, the side of its images.
struct Case(&'static str, &'static str, usize, usize);

/// Every family, and layers set into one of them. mdistiller's networks for ImageNet take images of
/// 224 pixels only.
const CASES: [(&str, Case); 12] = [
    ("resnet8", Case("resnet8", "{}", 7, 32)),
    ("resnet8x4", Case("resnet8x4", "{}", 100, 32)),
    ("resnet20_a", Case("resnet20_a", "{}", 10, 32)),
    ("wrn_16_1", Case("wrn_16_1", "{}", 7, 32)),
    ("vgg8", Case("vgg8", "{}", 10, 32)),
    ("MobileNetV2", Case("MobileNetV2", "{}", 10, 32)),
    ("ShuffleV1", Case("ShuffleV1", "{}", 7, 32)),
    ("ShuffleV2", Case("ShuffleV2", "{}", 10, 32)),
    ("imagenet_resnet18", Case("imagenet_resnet18", "{}", 7, 224)),
    ("imagenet_mobilenetv1", Case("imagenet_mobilenetv1", "{}", 1000, 224)),
    (
        "thin-bottlenecks",
        Case(r#"{ type = "resnet", depth = 50, width = 8, stem = "imagenet" }"#, "{}", 7, 64),
    ),
    (
        "resnet8-with-layers",
        Case(
            "resnet8",
            r#"{ "penultimate": { "type": "kd-layer", "templates": 24, "alpha": 0.5, "learned-alpha": true },
                 "intermediate": { "type": "kd-layer", "templates": { "per-class": 3 } } }"#,
            7,
            32,
        ),
    ),
];

/// A place for exports; what the first test leaves in `export` is what `golden/export.py` records.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Weights whose bytes are the same on every machine: sines, of which waves are made, are not.
fn noise(name: &str, shape: &[usize], scale: f64, shift: f64) -> sokd_core::Result<Tensor> {
    let mut stream = Key::new(0).fold(name).stream();
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|_| stream.between(shift - scale, shift + scale) as f32).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Writes a filled network, what it says of three images, and its exports; by format, the file of its weights.
fn leave(folder: &Path, case: &Case) -> Result<BTreeMap<String, PathBuf>> {
    let &Case(model, layers, classes, side) = case;
    let graft: Grafting = serde_json::from_str(layers).expect("layers");
    let spec = StudentSpec {
        model: model.parse().expect("a network"),
        weights: None,
        graft,
        winograd: false,
        precision: Precision::Single,
    };
    let (data, params) = (data(classes, [side; 2]), Params::new(Key::new(0)));
    let net = spec.build(&BuildCx::alone(params.frozen(&Device::Cpu), &data))?;
    fill_with(&params, "", noise)?;
    std::fs::create_dir_all(folder).expect("a folder");

    let seen = images("images", side, DType::F32)?;
    let logits = net.forward(&seen, Mode::Eval)?.logits;
    let seen =
        seen.permute((0, 3, 1, 2)).and_then(|seen| seen.contiguous()).map_err(sokd_core::Error::from)?;
    let shown = StateDict::from([("images".to_owned(), seen), ("logits".to_owned(), logits)]);
    file::write(&folder.join("shown.safetensors"), &weights::safetensors(&shown, &BTreeMap::new())?)?;
    let notes = (layers != "{}").then(|| ("graft".to_owned(), layers.to_owned()));
    let weights = folder.join("weights.safetensors");
    weights::save(&params, "", &weights, &notes.into_iter().collect())?;

    let leaving = Leaving::open(&Given {
        source: model.to_owned(),
        weights: Some(weights.to_string_lossy().into_owned()),
        pixels: Some(Pixels::Given(data.pixels)),
        size: Some(side),
    })?;
    let mut left = BTreeMap::new();
    for format in export::ALL {
        // Formats of weights alone know no place.
        let places =
            [(format.name.to_owned(), Normalise::Inside), ("onnx-outside".into(), Normalise::Outside)];
        for (place, normalise) in places.into_iter().take(if format.name == "onnx" { 2 } else { 1 }) {
            match format.write(&leaving, normalise, &folder.join(&place), true) {
                Ok((paths, _)) => drop(left.insert(place, paths.last().expect("weights").clone())),
                Err(error) => {
                    assert!(error.remedy().is_some_and(|remedy| remedy.contains("onnx")), "{error}");
                }
            }
        }
    }
    Ok(left)
}

#[test]
fn exports_are_those_that_were_checked() -> Result<()> {
    // All of them first: the script that records finds what is not recorded yet.
    let left = CASES.each_ref().map(|(name, case)| (*name, leave(&scratch("export").join(name), case)));
    let record: Record = golden("export");
    assert_eq!(record.len(), CASES.len());
    for (name, left) in left {
        let (left, recorded) = (left?, &record[name]);
        assert_eq!(left.keys().collect::<Vec<_>>(), recorded.keys().collect::<Vec<_>>(), "{name}");
        for (format, file) in left {
            let Recorded { sha256, off } = &recorded[&format];
            assert!(*off <= CLOSE, "{name}, {format}: off by {off}");
            let found = sokd_hub::sha256(&file)?;
            if let Some(sha256) = sha256 {
                assert_eq!(&found, sha256, "{name}, {format}: another file than golden/export.py checked");
            }
        }
    }
    Ok(())
}

#[test]
fn the_programs_that_exports_are_for_load_them() -> Result<()> {
    let packages = ["torch", "torchvision", "timm", "safetensors", "onnx", "onnxruntime"];
    let Some(python) = python::with(&packages) else { return Ok(()) };
    let folder = scratch("export-again");
    for (name, case) in &CASES {
        leave(&folder.join(name), case)?;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/export.py");
    let answer = Command::new(&python).arg(script).arg(&folder).output().expect("Python runs");
    let said = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success(), "{said}{}", String::from_utf8_lossy(&answer.stderr));
    let record: Record = serde_json::from_str(&said).expect("a record");
    assert_eq!(record.len(), CASES.len());
    for (name, formats) in &record {
        for (format, Recorded { off, .. }) in formats {
            assert!(*off <= CLOSE, "{name}, {format}: off by {off}");
        }
    }
    Ok(())
}
