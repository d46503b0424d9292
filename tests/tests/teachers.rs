//! The published CIFAR-10 networks, where their files are found.

use candle::{Device, Tensor};
use serde::Deserialize;
use sokd_core::{
    Backbone, Batches as _, Build as _, BuildCx, Dataset, DatasetInfo, Error, Key, Mode, PixelNorm, Result,
    Split,
};
use sokd_data::{DataSpec, Locations, Sequential};
use sokd_models::weights;
use sokd_nn::{Params, with_winograd};
use sokd_tests::{Wave, data, golden, near};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Deserialize)]
struct Recorded {
    teachers: BTreeMap<String, Teacher>,
}

/// What PyTorch says with a file's weights.
#[derive(Deserialize)]
struct Teacher {
    model: String,
    mean: [f32; 3],
    std: [f32; 3],
    logits: Vec<f64>,
}

/// A file that may be absent.
fn find(file: &str) -> Option<PathBuf> {
    let found = Locations::from_env().teacher(Path::new(file));
    found.inspect_err(|error| eprintln!("skipped, because {error}")).ok()
}

/// A network with a file's weights, which expects these pixels.
fn load(model: &str, file: &Path, pixels: PixelNorm, info: DatasetInfo) -> Result<Box<dyn Backbone>> {
    let params = Params::new(Key::new(0));
    let vars = params.frozen(&Device::Cpu).pp("teacher");
    let spec = sokd_models::named(model).expect("a network of the zoo");
    let net = spec.build(&BuildCx::alone(vars, &DatasetInfo { pixels, ..info }))?;
    weights::load(&params, "teacher", file)?;
    Ok(net)
}

#[test]
fn published_weights_say_what_they_say_in_pytorch() -> Result<()> {
    let images =
        Wave { shape: vec![3, 32, 32, 3], scale: 0.5, shift: 0.5, dead: Vec::new() }.draw("images")?;
    for (file, Teacher { model, mean, std, logits }) in golden::<Recorded>("zoo").teachers {
        let Some(path) = find(&file) else { continue };
        let net = load(&model, &path, PixelNorm { mean, std }, data(10, [32, 32]))?;
        near(&file, &net.forward(&images, Mode::Eval)?.logits, &logits, 1e-5)?;
        // Beside the original may lie a copy as safetensors.
        let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split(".th").next());
        let copy = path.with_file_name(format!("{}.safetensors", stem.unwrap_or_default()));
        let copy = PathBuf::from(copy.to_string_lossy().replace(".pth.tar", ""));
        if copy.exists() {
            let net = load(&model, &copy, PixelNorm { mean, std }, data(10, [32, 32]))?;
            near(&file, &net.forward(&images, Mode::Eval)?.logits, &logits, 1e-5)?;
        }
    }
    Ok(())
}

/// How many of the test images a network names rightly.
fn correct(net: &dyn Backbone, cifar: &Arc<dyn Dataset>) -> Result<u64> {
    let mut correct = 0;
    for batch in Sequential::new(cifar.clone(), Split::Test, 250)?.epoch(0, 0) {
        let batch = batch?;
        let said: Tensor = net.forward(&batch.images, Mode::Eval)?.logits.argmax(1)?;
        let hits = said.to_vec1::<u32>()?.into_iter().zip(batch.labels.to_vec1::<u32>()?);
        correct += hits.filter(|(said, label)| said == label).count() as u64;
    }
    Ok(correct)
}

/// Their authors' numbers, to the last image.
#[test]
fn published_weights_are_as_good_as_published() -> Result<()> {
    let cifar = match DataSpec::named("cifar10").expect("a data set of ours").open(&Locations::from_env()) {
        Err(error @ Error::Missing { .. }) => {
            println!("skipped, because {error}");
            return Ok(());
        }
        opened => opened?,
    };
    for (model, file, right) in
        [("resnet20_a", "resnet20-12fca82f.th", 9173), ("resnet56_a", "resnet56-4bfd9763.th", 9339)]
    {
        let Some(path) = find(file) else { continue };
        let pixels = sokd_models::pixels(model).expect("these networks bring their own statistics");
        // As it is judged, and as it teaches.
        for winograd in [false, true] {
            let net = with_winograd(winograd, || load(model, &path, pixels, cifar.info().clone()))?;
            assert_eq!(correct(net.as_ref(), &cifar)?, right, "{model}, by Winograd: {winograd}");
        }
    }
    Ok(())
}

/// The teacher that comes with the repository is as good as its page says.
#[test]
fn our_own_weights_are_as_good_as_recorded() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments/results/teachers");
    let page = std::fs::read_to_string(folder.join("cifar100-resnet32-20-epochs.json")).expect("its page");
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let cifar = match DataSpec::named("cifar100").expect("a data set of ours").open(&Locations::from_env()) {
        Err(error @ Error::Missing { .. }) => {
            println!("skipped, because {error}");
            return Ok(());
        }
        opened => opened?,
    };
    let (model, file) = ("resnet32", folder.join("cifar100-resnet32-20-epochs.safetensors"));
    let net = load(model, &file, cifar.info().pixels, cifar.info().clone())?;
    assert_eq!(Some(correct(net.as_ref(), &cifar)?), page["test"]["correct"].as_u64());
    Ok(())
}
