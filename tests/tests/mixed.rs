//! Networks in mixed precision: maps in bfloat16 inside, single precision to whoever looks from outside.

use candle::{DType, Device, Tensor};
use sokd_core::{Backbone, Build as _, BuildCx, Forward, Graft, Key, Mode, Place, Result, graft};
use sokd_models::{Precision, named};
use sokd_nn::Params;
use sokd_ops::{Backend, with_backend};
use sokd_tests::{Wave, data};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Of each family the smallest.
const NETWORKS: [&str; 9] = [
    "resnet8",
    "resnet20_a",
    "wrn_16_2",
    "vgg8",
    "MobileNetV2",
    "ShuffleV1",
    "ShuffleV2",
    "imagenet_resnet18",
    "imagenet_mobilenetv1",
];

/// How each is run: by running statistics, and by a batch's where its maps are not so small that those of a channel are of a few
/// numbers, whose rounding they make large.
fn ways() -> impl Iterator<Item = (&'static str, Mode)> {
    let of_batches = NETWORKS[..4].iter().map(|name| (*name, Mode::Probe));
    NETWORKS.iter().map(|name| (*name, Mode::Eval)).chain(of_batches)
}

fn network(name: &str, precision: Precision) -> Result<(Params, Box<dyn Backbone>)> {
    let (params, data) = (Params::new(Key::new(3)), data(100, [32; 2]));
    let cx = BuildCx::alone(params.builder(&Device::Cpu).pp("student"), &data);
    let net = named(name).expect("a network of the zoo").build(&cx)?;
    Ok((params, precision.of(net)))
}

fn images() -> Result<Tensor> {
    let wave = Wave { shape: vec![6, 32, 32, 3], scale: 0.5, shift: 0.5, dead: Vec::new() };
    Ok(wave.draw("images")?.to_dtype(DType::F32)?)
}

/// What a network shows, by name.
fn shown(net: &dyn Backbone, out: &Forward, mode: Mode) -> Result<Vec<(String, Tensor)>> {
    let mut all = vec![("stem".to_owned(), out.stem.clone()), ("pooled".to_owned(), out.pooled.clone())];
    for (index, stage) in out.stages.iter().enumerate() {
        all.push((format!("map {index}"), stage.map.clone()));
        all.push((format!("map {index} before its last non-linearity"), net.preact(index, stage, mode)?));
    }
    all.push(("logits".to_owned(), out.logits.clone()));
    Ok(all)
}

/// By how much of its length one differs from the other.
fn apart(a: &Tensor, b: &Tensor) -> Result<f32> {
    let length = |x: &Tensor| Ok::<_, candle::Error>(x.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt());
    Ok(length(&(a - b)?)? / length(b)?)
}

#[test]
fn it_shows_what_it_would_without_but_for_rounding() -> Result<()> {
    for (name, mode) in ways() {
        let (_, plain) = network(name, Precision::Single)?;
        let plain_out = plain.forward(&images()?, mode)?;
        let plain = shown(plain.as_ref(), &plain_out, mode)?;
        for backend in [Backend::Fast, Backend::Mirror, Backend::Composed] {
            let (_, net) = network(name, Precision::Mixed)?;
            let out = with_backend(backend, || net.forward(&images()?, mode))?;
            let mixed = with_backend(backend, || shown(net.as_ref(), &out, mode))?;
            for ((what, mixed), (_, plain)) in mixed.iter().zip(&plain) {
                assert_eq!((mixed.dtype(), mixed.dims()), (DType::F32, plain.dims()), "{name}: {what}");
                let apart = apart(mixed, plain)?;
                assert!(apart < 0.03, "{name}, {mode:?}, {backend:?}: {what} is {apart} off");
                assert!(apart > 0.0 || what != "stem", "{name}, {backend:?}: nothing is rounded");
            }
        }
    }
    Ok(())
}

/// Of all weights, in single precision, and as they would be without, but for rounding.
#[test]
fn gradients_are_those_without_but_for_rounding() -> Result<()> {
    let gradients = |name: &str, mode, precision, backend| -> Result<BTreeMap<String, Tensor>> {
        let (params, net) = network(name, precision)?;
        let store = with_backend(backend, || {
            let out = net.forward(&images()?, mode)?;
            let loss = (out.logits.sqr()?.mean_all()? + out.stages[1].map.sqr()?.mean_all()?)?;
            Ok::<_, sokd_core::Error>(loss.backward()?)
        })?;
        let of = |(name, var): (String, candle::Var)| Some((name, store.get(&var)?.clone()));
        Ok(params.group("student").into_iter().filter_map(of).collect())
    };
    for (name, mode) in ways() {
        let plain = gradients(name, mode, Precision::Single, Backend::Fast)?;
        for backend in [Backend::Fast, Backend::Mirror] {
            let mixed = gradients(name, mode, Precision::Mixed, backend)?;
            assert_eq!(mixed.keys().collect::<Vec<_>>(), plain.keys().collect::<Vec<_>>(), "{name}");
            let flat = |all: &BTreeMap<String, Tensor>| {
                let parts = all.values().map(Tensor::flatten_all).collect::<candle::Result<Vec<_>>>()?;
                assert!(parts.iter().all(|part| part.dtype() == DType::F32), "{name}");
                Tensor::cat(&parts, 0)
            };
            let apart = apart(&flat(&mixed)?, &flat(&plain)?)?;
            assert!(apart > 0.0 && apart < 0.15, "{name}, {mode:?}, {backend:?}: gradients are {apart} off");
        }
    }
    Ok(())
}

/// Tells of which type the maps are that it sees.
struct Witness(Arc<Mutex<Vec<DType>>>);

impl Graft for Witness {
    fn forward(&self, map: &Tensor, _: Mode) -> Result<(Tensor, Tensor)> {
        self.0.lock().expect("no one panicked").push(map.dtype());
        Ok((map.clone(), map.clone()))
    }
}

#[test]
fn maps_between_layers_are_in_bfloat16_and_what_is_said_of_them_is_not() -> Result<()> {
    for name in NETWORKS {
        let (_, mut net) = network(name, Precision::Mixed)?;
        let seen: Arc<Mutex<Vec<DType>>> = Arc::default();
        for place in [Place::Penultimate, Place::Intermediate] {
            let witness = Box::new(Witness(Arc::clone(&seen)));
            graft::graft(net.as_mut(), place, &data(100, [32; 2]), &Device::Cpu, |_| Ok(witness))?;
        }
        // Who grafts shows the network an image.
        seen.lock().expect("no one panicked").clear();
        let out = net.forward(&images()?, Mode::Train)?;
        assert_eq!(*seen.lock().expect("no one panicked"), [DType::BF16; 2], "{name}");
        for place in [Place::Penultimate, Place::Intermediate] {
            assert_eq!(out.said(place)?.dtype(), DType::F32, "{name}");
        }
    }
    Ok(())
}

/// A network that goes on from a map that it showed says the same to the bit.
#[test]
fn it_can_be_entered_at_any_stage() -> Result<()> {
    for name in NETWORKS {
        let (_, net) = network(name, Precision::Mixed)?;
        let out = net.forward(&images()?, Mode::Probe)?;
        for stage in 0..out.stages.len() {
            let again = net.resume(&out, stage, out.stages[stage].map.clone(), Mode::Probe)?;
            assert_eq!(again.logits.to_vec2::<f32>()?, out.logits.to_vec2::<f32>()?, "{name}, stage {stage}");
        }
    }
    Ok(())
}
