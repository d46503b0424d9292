use crate::{Whole, survives};
use candle::Device;
use sokd_core::{Build as _, BuildCx, Key, Result};
use sokd_models::weights;
use sokd_nn::Params;
use sokd_tests::data;
use std::collections::BTreeMap;
use std::path::Path;

/// As trainers of the field leave them: PyTorch's two formats, and what they hold nested, turned and renamed.
#[test]
fn checkpoints_of_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/weights");
    let entries = std::fs::read_dir(folder).expect("the recorded files");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        // Some are recorded for what is said of them.
        if weights::read(&path).is_ok() {
            let whole: [Whole; 1] = [(name.clone(), std::fs::read(&path).expect("a file"))];
            survives(&name, 250, &whole, |folder| weights::read(&folder.join(&name)));
        }
    }
}

#[test]
fn weights_of_ours() -> Result<()> {
    let params = Params::new(Key::new(3));
    let spec = sokd_models::named("resnet8").expect("a network of the zoo");
    spec.build(&BuildCx::alone(params.builder(&Device::Cpu).pp("student"), &data(10, [32, 32])))?;
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("model.safetensors");
    weights::save(&params, "student", &path, &BTreeMap::new())?;
    let whole = [("model.safetensors".to_owned(), std::fs::read(&path).expect("the file"))];
    survives("safetensors", 250, &whole, |folder| {
        weights::load(&params, "student", &folder.join("model.safetensors"))
    });
    Ok(())
}
