//! SKD (reference design after the abstract) through recipes: from the file to the student that is left.

#![allow(clippy::unwrap_used, reason = "a test that fails")]

mod folder;

use candle::{DType, Device, Tensor, safetensors::load};
use folder::Folder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{read, read_to_string, write};
use std::path::PathBuf;

/// A narrow student beside a teacher on drawn weights; 2 epochs of 2 steps.
const PAIR: &str = r#"
epochs = 2
batch = 16
data = { train = 32, test = 24 }
student = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 8, 8] } }
teacher = { model = { type = "cifar-resnet", depth = 8, widths = [4, 8, 8, 8] }, weights = "drawn" }
"#;

/// A folder of runs, each by a name.
struct Runs(Folder);

impl Runs {
    fn new() -> Self {
        Self(Folder::with(&[]))
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Trains under a name, with those presets, and a recipe's text below.
    fn train(&self, name: &str, extends: &str, text: &str) {
        let recipe = self.join(&format!("{name}.toml"));
        write(&recipe, format!("extends = [\"shapes-alone\", {extends}]\n{PAIR}{text}")).unwrap();
        let recipe = recipe.to_str().unwrap();
        self.0.says(&["train", recipe, "--run-dir", name, "--no-studies", "--quiet"], 0);
    }

    fn student(&self, name: &str) -> PathBuf {
        self.join(name).join("student/model.safetensors")
    }

    /// The student's weights in bits, PyTorch's counters left out.
    fn bits(&self, name: &str) -> BTreeMap<String, Vec<u32>> {
        let tensors: BTreeMap<String, Tensor> =
            load(self.student(name), &Device::Cpu).unwrap().into_iter().collect();
        let weights = tensors.into_iter().filter(|(_, tensor)| tensor.dtype() == DType::F32);
        weights
            .map(|(name, tensor)| (name, numbers(&tensor).into_iter().map(f32::to_bits).collect()))
            .collect()
    }

    /// The largest weight of a layer of the simplifier, after the run.
    fn largest(&self, name: &str, layer: &str) -> f32 {
        let weights = load(self.join(name).join("checkpoints/last/model.safetensors"), &Device::Cpu).unwrap();
        let weight = &weights[&format!("adapter.skd.{layer}.weight")];
        numbers(weight).into_iter().fold(0.0, |most, one| most.max(one.abs()))
    }
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// What a file of weights says of its tensors, and how long it is.
fn layout(path: PathBuf) -> (Value, usize) {
    let bytes = read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    header.as_object_mut().unwrap().shift_remove("__metadata__");
    (header, bytes.len())
}

#[test]
fn a_student_after_skd_is_laid_out_as_after_kd() {
    let runs = Runs::new();
    for host in ["kd", "dkd"] {
        let (bare, simplified) = (format!("bare-{host}"), format!("skd-{host}"));
        runs.train(&bare, &format!("\"sokd:{host}\""), "");
        runs.train(&simplified, &format!("\"sokd:{host}\", \"sokd:skd\""), "");
        assert_eq!(layout(runs.student(&bare)), layout(runs.student(&simplified)), "{host}");
        assert_ne!(runs.bits(&bare), runs.bits(&simplified), "{host}: the simplifier did nothing");
    }
    let metrics = read_to_string(runs.join("skd-kd/metrics.jsonl")).unwrap();
    for told in ["anchor", "task", "agreement", "accuracy", "entropy", "diagonal"] {
        assert!(metrics.contains(&format!("distill/{told}")), "{told} is not among {metrics}");
    }
}

#[test]
fn the_identity_trains_the_student_of_the_bare_host_to_the_bit() {
    let runs = Runs::new();
    runs.train("bare", "\"sokd:kd\"", "");
    runs.train(
        "identity",
        "\"sokd:kd\", \"sokd:skd\"",
        "[objective.distill.refine.skd]\nsimplifier = 'identity'",
    );
    assert_eq!(runs.bits("bare"), runs.bits("identity"));
}

/// The simplifier begins as nothing. Held still it stays that, and the student is that of the bare host: the steep gradients
/// of what stands apart do not shorten its steps.
#[test]
fn a_simplifier_moves_at_a_rate_of_its_own() {
    let runs = Runs::new();
    let apart = |lr: &str| {
        format!(
            "[phase.student.apart.'adapter.skd']\nlr = {lr}\noptim = {{ type = 'sgd', weight-decay = 0.0 }}"
        )
    };
    let clip = "[phase.student]\nclip = 0.1\n";
    runs.train("bare", "\"sokd:kd\"", clip);
    runs.train("still", "\"sokd:kd\", \"sokd:skd\"", &format!("{clip}{}", apart("0.0")));
    runs.train("moves", "\"sokd:kd\", \"sokd:skd\"", &format!("{clip}{}", apart("10.0")));
    runs.train("robust", "\"sokd:kd\", \"sokd:skd-robust\"", clip);
    assert_eq!((runs.largest("still", "out"), runs.bits("still")), (0.0, runs.bits("bare")));
    let moved = ["moves", "robust"].map(|name| runs.largest(name, "out"));
    assert!(moved[0] > 100.0 * moved[1] && moved[1] > 0.0, "{moved:?}");
    assert!(runs.largest("still", "value") > 0.0);
}
