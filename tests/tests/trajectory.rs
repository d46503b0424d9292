//! Twenty SGD steps of two networks against PyTorch's, recorded in double precision.

use candle::{DType, Device, Tensor};
use serde::Deserialize;
use sokd_core::{Build as _, BuildCx, Key, Mode, Result};
use sokd_losses::functional::{cross_entropy, soften};
use sokd_models::Precision;
use sokd_nn::{Params, optim::Rule as _, optim::Sgd};
use sokd_ops::{Backend, with_backend};
use sokd_tests::{Wave, data, golden, near};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Recorded {
    /// At the field's learning rate, for double precision.
    exact: Vec<Run>,
    /// At a hundredth of it, where rounding stays small.
    gentle: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    network: String,
    side: usize,
    lr: f64,
    losses: Vec<f64>,
    /// Mean, root mean square and first value of every weight and buffer after the last step.
    state: BTreeMap<String, [f64; 3]>,
}

const BATCH: usize = 8;
const CLASSES: usize = 100;

/// A weight before the first step, by the rules of the script.
fn start(name: &str, weight: &Tensor) -> Result<Tensor> {
    let wave =
        |scale, shift| Wave { shape: weight.dims().to_vec(), scale, shift, dead: Vec::new() }.draw(name);
    match *weight.dims() {
        [to, _, kernel, _] => wave((6.0 / (kernel * kernel * to) as f64).sqrt(), 0.0),
        _ if name.starts_with("fc.") => wave(0.1, 0.0),
        _ if name.ends_with("running_mean") => wave(0.0, 0.0),
        _ if name.ends_with("running_var") => wave(0.0, 1.0),
        _ if name.ends_with("weight") => wave(0.2, 1.0),
        _ => wave(0.2, 0.0),
    }
}

/// The losses of the steps, and the weights after the last.
fn train(run: &Run, dtype: DType, precision: Precision) -> Result<(Vec<f64>, BTreeMap<String, Tensor>)> {
    let (params, data) = (Params::new(Key::new(0)), data(CLASSES, [run.side; 2]));
    let vars = params.builder(&Device::Cpu).to_dtype(dtype).pp("student");
    let spec = sokd_models::named(&run.network).expect("a network of the zoo");
    let network = precision.of(spec.build(&BuildCx::alone(vars, &data))?);
    let weights = params.tensors("student")?;
    assert_eq!(weights.keys().collect::<Vec<_>>(), run.state.keys().collect::<Vec<_>>());
    let weights = weights.iter().map(|(name, weight)| Ok((name.clone(), start(name, weight)?)));
    params.load("student", &weights.collect::<Result<_>>()?)?;

    let mut sgd = Sgd::default().start(params.group("student"))?;
    let mut losses = Vec::new();
    for step in 0..run.losses.len() {
        let images =
            Wave { shape: vec![BATCH, 3, run.side, run.side], scale: 0.5, shift: 0.5, dead: Vec::new() };
        let images = images.draw(&format!("images {step}"))?.permute((0, 2, 3, 1))?.contiguous()?;
        let labels: Vec<_> = (0..BATCH).map(|row| ((11 * row + 7 * step) % CLASSES) as u32).collect();
        let logits = network.forward(&images.to_dtype(dtype)?, Mode::Train)?.logits;
        let loss =
            cross_entropy(&soften(&logits, 1.0)?, &Tensor::new(labels, &Device::Cpu)?, 0.0)?.mean_all()?;
        sgd.step(&loss.backward()?, run.lr)?;
        losses.push(loss.to_scalar()?);
    }
    Ok((losses, params.tensors("student")?))
}

/// Losses to the one share of what was recorded, the weights that result to the other.
fn compare(run: &Run, dtype: DType, of_losses: f64, of_weights: f64) -> Result<()> {
    hold(run, train(run, dtype, Precision::Single)?, of_losses, of_weights)
}

fn hold(
    run: &Run,
    (losses, state): (Vec<f64>, BTreeMap<String, Tensor>),
    of_losses: f64,
    of_weights: f64,
) -> Result<()> {
    for (step, (ours, theirs)) in losses.iter().zip(&run.losses).enumerate() {
        let off = (ours / theirs - 1.0).abs();
        assert!(off < of_losses, "{}, step {step}: {ours} instead of {theirs}", run.network);
    }
    for (name, recorded) in &run.state {
        let flat = state[name].to_dtype(DType::F64)?.flatten_all()?;
        let summary = [flat.mean(0)?, flat.sqr()?.mean(0)?.sqrt()?, flat.get(0)?];
        near(&format!("{}: {name}", run.network), &Tensor::stack(&summary, 0)?, recorded, of_weights)?;
    }
    Ok(())
}

/// In double precision nothing hides: the same rules give the same digits.
#[test]
fn twenty_steps_in_double_precision() -> Result<()> {
    let runs = golden::<Recorded>("trajectory").exact;
    runs.iter().try_for_each(|run| with_backend(Backend::Composed, || compare(run, DType::F64, 1e-7, 1e-6)))
}

#[test]
fn twenty_steps_of_the_kernels() -> Result<()> {
    golden::<Recorded>("trajectory").gentle.iter().try_for_each(|run| compare(run, DType::F32, 1e-4, 1e-3))
}

/// A GPU's, as their mirror runs them here.
#[test]
fn twenty_steps_of_a_gpus_kernels() -> Result<()> {
    let runs = golden::<Recorded>("trajectory").gentle;
    runs.iter().try_for_each(|run| with_backend(Backend::Mirror, || compare(run, DType::F32, 1e-4, 1e-3)))
}

/// With maps in bfloat16, here and as a GPU has them: weights stay in single precision, and what they learn is what they would learn
/// without, but for rounding.
#[test]
fn twenty_steps_in_mixed_precision() -> Result<()> {
    for run in golden::<Recorded>("trajectory").gentle {
        for backend in [Backend::Fast, Backend::Mirror] {
            let came = with_backend(backend, || train(&run, DType::F32, Precision::Mixed))?;
            assert!(came.1.values().all(|weight| weight.dtype() == DType::F32), "{}", run.network);
            hold(&run, came, 1e-2, 2e-2)?;
        }
    }
    Ok(())
}
