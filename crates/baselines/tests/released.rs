//! The encoders that TST's authors released: what they say is what they say here.
//!
//! Their files carry no licence and are not here. Stand-ins say the same of what was recorded; where `SOKD_TST_RELEASED`
//! names the folder of the files, they are asked themselves.

use candle::{DType, Device, Tensor, Var};
use serde::Deserialize;
use sokd_baselines::tst::encoders::{Encoder, released, write};
use sokd_baselines::tst::{Gate, LEVELS, Operation};
use sokd_baselines::{Tst, tst};
use sokd_core::{BuildCx, Key, Result};
use sokd_models::weights;
use sokd_nn::Params;
use sokd_tests::{data, golden, near, same, weighed};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

type Weights = BTreeMap<String, Tensor>;

const CPU: Device = Device::Cpu;

#[derive(Deserialize)]
struct Recorded {
    color: Vec<Grey>,
}

/// An encoder of colours, and what it makes of a grey image at a strength of 0.5.
#[derive(Deserialize)]
struct Grey {
    operation: Operation,
    gate: f64,
    scale: f32,
    logits: [f32; 2],
    line: [f64; 2],
    sums: [[f32; 3]; 3],
    pixel: [f64; 3],
}

#[derive(Deserialize)]
struct Places {
    affine: Vec<Moved>,
}

/// An encoder of places: the sum and four pixels of what it makes of a ramp, and the slope over the strength.
#[derive(Deserialize)]
struct Moved {
    operation: Operation,
    constant: Vec<f32>,
    slope: Vec<f32>,
    known: Vec<f64>,
    gradient: f64,
}

/// The weights of another encoder that says the same of the same images, as the released files name them.
fn stand_ins() -> Result<Vec<(Operation, Weights)>> {
    let named = |weights: Vec<(&str, Tensor)>| -> Weights {
        weights.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
    };
    let mut all = Vec::new();
    for Grey { operation, gate, scale, logits, sums, .. } in golden::<Recorded>("released").color {
        let mut feature = [0.0_f32; 10];
        feature[0] = 1.0;
        let map = logits.map(|logit| {
            let mut row = [0.0; 11];
            row[0] = logit;
            row
        });
        let taps = Tensor::new(&sums, &CPU)?.reshape((3, 3, 1, 1))?.broadcast_as((3, 3, 5, 5))?;
        let weights = named(vec![
            ("feature", Tensor::new(&feature, &CPU)?),
            ("scale", Tensor::new(&[scale], &CPU)?),
            ("logits", Tensor::new(&[(gate / (1.0 - gate)).ln() as f32], &CPU)?),
            ("n_regress.weight", Tensor::new(&map, &CPU)?),
            ("c_regress.weight", Tensor::zeros((2, 11), DType::F32, &CPU)?),
            ("conv.weight", (taps / 25.0)?),
        ]);
        all.push((operation, weights));
    }
    for Moved { operation, constant, slope, .. } in golden::<Places>("tst").affine {
        let rows: Vec<f32> = slope.iter().flat_map(|&slope| [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, slope]).collect();
        let weights = named(vec![
            ("H", Tensor::zeros(6, DType::F32, &CPU)?),
            ("logits", Tensor::new(&[4.0_f32], &CPU)?),
            ("i_matrix", Tensor::new(&tst::affine::IDENTITY, &CPU)?.reshape((1, 2, 3))?),
            ("fc.weight", Tensor::from_vec(rows, (6, 7), &CPU)?),
            ("fc.bias", Tensor::new(constant, &CPU)?),
        ]);
        all.push((operation, weights));
    }
    Ok(all)
}

/// The encoders in a folder of released files, under the names that they have here.
fn converted(folder: &Path) -> Result<Weights> {
    let mut all = Weights::new();
    for &operation in &Operation::ALL[..LEVELS] {
        let read = weights::read(&folder.join(format!("{operation:?}.pth")))?;
        all.extend(released(operation, &read.tensors)?);
    }
    Ok(all)
}

/// A folder of stand-ins.
fn folder() -> Result<TempDir> {
    let folder = tempfile::tempdir().expect("a folder");
    for (operation, weights) in stand_ins()? {
        let bytes = weights::pth(&weights, None)?;
        std::fs::write(folder.path().join(format!("{operation:?}.pth")), bytes).expect("a file");
    }
    Ok(folder)
}

/// x[c, i, j] = (64 c + 8 i + j) / 192, channels last.
fn ramp() -> Result<Tensor> {
    let ramp = (Tensor::arange(0.0_f32, 192.0, &CPU)? / 192.0)?;
    Ok(ramp.reshape((1, 3, 8, 8))?.permute((0, 2, 3, 1))?.contiguous()?)
}

/// Whether encoders say what was recorded of the released ones.
fn hold(weights: &Weights) -> Result<()> {
    let encoder = |operation: Operation| -> Result<(Encoder, f64)> {
        let params = Params::new(Key::new(0));
        let encoder = Encoder::new(operation, params.frozen(&CPU))?.expect("it has an encoder");
        let prefix = format!("{}.", operation.name());
        let of = weights
            .iter()
            .filter_map(|(name, of)| Some((name.strip_prefix(&prefix)?.to_owned(), of.clone())));
        let mut of: Weights = of.collect();
        let gate = f64::from(of.remove("gate").expect("it has a gate").squeeze(0)?.to_scalar::<f32>()?);
        params.load("", &of)?;
        Ok((encoder, 1.0 / (1.0 + (-gate).exp())))
    };
    let level = Tensor::new(&[[0.5_f32]], &CPU)?;
    let still = (Key::new(0), 0.0);
    for Grey { operation, gate, line, pixel, .. } in golden::<Recorded>("released").color {
        let (Encoder::Color(encoder), own) = encoder(operation)? else {
            panic!("{operation:?} is of colours")
        };
        assert!((own - gate).abs() < 1e-5, "{operation:?}: {own} instead of {gate}");
        for (got, known) in encoder.line(&level, still, None)?.iter().zip(line) {
            near(operation.name(), got, &[known], 1e-5)?;
        }
        let grey = Tensor::full(0.5_f32, (1, 8, 8, 3), &CPU)?;
        let out = encoder.forward(&grey, &level, still, None)?;
        near(operation.name(), &out.get(0)?.get(4)?.get(4)?, &pixel, 1e-5)?;
        let black = grey.zeros_like()?;
        assert!(same(&encoder.forward(&black, &level, still, None)?, &black)?);
    }
    for Moved { operation, known, gradient, .. } in golden::<Places>("tst").affine {
        let (Encoder::Affine(encoder), _) = encoder(operation)? else { panic!("{operation:?} is of places") };
        let level = Var::from_tensor(&level)?;
        let out = encoder.forward(&ramp()?, &level, None)?;
        let at = |channel: usize, row: usize, column: usize| out.get(0)?.get(row)?.get(column)?.get(channel);
        let sum = out.sum_all()?;
        for (got, known) in [sum, at(0, 3, 3)?, at(1, 0, 0)?, at(2, 7, 7)?, at(2, 4, 2)?].iter().zip(known) {
            let got = f64::from(got.to_scalar::<f32>()?);
            assert!((got - known).abs() < 1e-5 * known.max(1.0), "{operation:?}: {got} instead of {known}");
        }
        let slope = weighed(&out)?.backward()?;
        near(operation.name(), slope.get(&level).expect("it depends on the level"), &[gradient], 1e-4)?;
    }
    Ok(())
}

#[test]
fn released_encoders_say_what_was_recorded() -> Result<()> {
    hold(&converted(folder()?.path())?)
}

/// To the same numbers, from the files themselves.
#[test]
fn released_files_say_what_was_recorded() -> Result<()> {
    let Some(folder) = std::env::var_os("SOKD_TST_RELEASED") else {
        eprintln!("SOKD_TST_RELEASED names no folder of released encoders: skipped");
        return Ok(());
    };
    hold(&converted(Path::new(&folder))?)
}

/// Encoders act with their own gates where one asks for those and they have some.
#[test]
fn encoders_have_gates_of_their_own() -> Result<()> {
    let folder = folder()?;
    let path = folder.path().join("released.safetensors");
    let mut weights = converted(folder.path())?;
    for operation in &Operation::ALL[..LEVELS] {
        weights.insert(format!("{}.gate", operation.name()), Tensor::new(&[-4.0_f32], &CPU)?);
    }
    write(&path, &weights)?;
    let build = |encoders: &str, gate: Gate| {
        let params = Params::new(Key::new(4));
        let tst = Tst { encoders: encoders.into(), gate, ..Tst::default() };
        tst.module(&BuildCx::alone(params.builder(&CPU), &data(3, [8, 8])))
    };
    let images = Tensor::full(0.7_f32, (64, 8, 8, 3), &CPU)?;
    let changed = |gate: Gate| build(&path.to_string_lossy(), gate)?.change(&images, Key::new(1), true);
    let own = changed(Gate::Own)?;
    assert!(same(&own, &changed(Gate::Logit(-4.0))?)? && !same(&own, &changed(Gate::Logit(4.0))?)?);
    let refused = build("cifar100", Gate::Own).err().expect("they have none").to_string();
    assert!(refused.contains("tst.gate") && refused.contains("cifar100"), "{refused}");
    Ok(())
}

/// What is not an encoder of the operation is refused, with what is wrong.
#[test]
fn other_files_are_refused() -> Result<()> {
    let all = stand_ins()?;
    let (_, color) = &all[0];
    let refused = released(Operation::Rotate, color).expect_err("it is of colours").to_string();
    assert!(refused.contains("rotate") && refused.contains("hidden"), "{refused}");
    Ok(())
}
