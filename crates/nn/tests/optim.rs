//! Optimisers, schedules, clipping and averaging against what PyTorch did (`tests/golden/optim.py`).

use candle::{Device, Tensor, Var, backprop::GradStore};
use serde::Deserialize;
use serde_json::{Value, json};
use sokd_core::{Key, Result};
use sokd_nn::schedule::{Cosine, Decay, MultiStep};
use sokd_nn::{Ema, Moment, OptimSpec, Optimizer, Params, clip_grad_norm, from_torch, init};
use sokd_ops::{Backend, with_backend};
use std::collections::BTreeMap;

type Table = BTreeMap<String, Vec<f32>>;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Recorded {
    shapes: BTreeMap<String, Vec<usize>>,
    lr: Vec<f64>,
    weights: Table,
    grads: Vec<Table>,
    optimisers: Vec<Walk>,
    multi_step: Vec<f64>,
    cosine: Vec<f64>,
    clip: Vec<Clip>,
    ema: Average,
}

#[derive(Deserialize)]
struct Walk {
    #[serde(rename = "type")]
    kind: String,
    settings: serde_json::Map<String, Value>,
    after: Vec<Table>,
    state: Table,
}

#[derive(Deserialize)]
struct Clip {
    max: f64,
    norm: f64,
    grads: Table,
}

#[derive(Deserialize)]
struct Average {
    decay: f64,
    average: Table,
}

impl Recorded {
    fn read() -> Self {
        let text = include_str!("../../../tests/golden/optim.json");
        serde_json::from_str(text).expect("what the script records is what the test reads")
    }

    /// Recorded values as PyTorch holds them.
    fn torch(&self, values: &Table) -> Result<BTreeMap<String, Tensor>> {
        let read = |(name, values): (&String, &Vec<f32>)| {
            Ok((name.clone(), Tensor::from_slice(values, self.shapes[name].as_slice(), &Device::Cpu)?))
        };
        values.iter().map(read).collect()
    }

    fn params(&self) -> Result<Params> {
        let params = Params::new(Key::new(0));
        let vb = params.builder(&Device::Cpu).pp("student");
        for (name, shape) in &self.shapes {
            match shape[..] {
                [to, from, height, width] => {
                    vb.get_with_hints((height, width, from, to), name, init::ZERO)?
                }
                _ => vb.get_with_hints(shape.as_slice(), name, init::ZERO)?,
            };
        }
        params.load("student", &self.torch(&self.weights)?)?;
        Ok(params)
    }

    fn grads(&self, vars: &[(String, Var)], values: &Table) -> Result<GradStore> {
        let mut grads = GradStore::default();
        for (name, value) in self.torch(values)? {
            let (_, var) =
                vars.iter().find(|(path, _)| path.ends_with(&name)).expect("a weight for the gradient");
            grads.insert(var, from_torch(&value)?);
        }
        Ok(grads)
    }
}

/// To three millionths of the largest: both sides round each operation, in orders of their own, and seven of Adam's
/// first steps are each as large as a weight.
fn near(what: &str, got: &BTreeMap<String, Tensor>, recorded: &Table) -> Result<()> {
    for (name, recorded) in recorded {
        let got = got[name].flatten_all()?.to_vec1::<f32>()?;
        let largest = recorded.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        for (got, recorded) in got.iter().zip(recorded) {
            assert!((got - recorded).abs() <= 3e-6 * largest, "{what}, {name}: {got} instead of {recorded}");
        }
    }
    Ok(())
}

fn built(walk: &Walk, vars: Vec<(String, Var)>) -> Result<Box<dyn Optimizer>> {
    let mut spec = json!({ "type": walk.kind });
    for (name, value) in &walk.settings {
        spec[name.replace('_', "-")] = value.clone();
    }
    serde_json::from_value::<OptimSpec>(spec).expect("PyTorch's settings are ours").build(vars)
}

#[test]
fn optimisers_walk_as_pytorchs_do() -> Result<()> {
    [Backend::Fast, Backend::Composed].into_iter().try_for_each(|backend| with_backend(backend, walk_all))
}

fn walk_all() -> Result<()> {
    let recorded = Recorded::read();
    for walk in &recorded.optimisers {
        let what = format!("{} with {:?}", walk.kind, walk.settings);
        let params = recorded.params()?;
        let mut optimizer = built(walk, params.group("student"))?;
        for ((lr, grads), after) in recorded.lr.iter().zip(&recorded.grads).zip(&walk.after) {
            let grads = recorded.grads(optimizer.vars(), grads)?;
            optimizer.step(&grads, *lr)?;
            near(&what, &params.tensors("student")?, after)?;
        }
        let state: BTreeMap<_, _> = optimizer
            .state()?
            .into_iter()
            .map(|(name, value)| (name.replace("student.", ""), value))
            .collect();
        near(&what, &state, &walk.state)?;
        assert!(
            walk.settings["weight_decay"] != json!(5e-4) || !walk.state.is_empty(),
            "momentum was recorded"
        );
    }
    Ok(())
}

/// Steps 0–3 and 4–6 by two optimisers, the second given the first one's state, are steps 0–6 by one, bit for bit.
#[test]
fn what_is_remembered_can_be_handed_on() -> Result<()> {
    let recorded = Recorded::read();
    for walk in &recorded.optimisers {
        let whole = recorded.params()?;
        let parted = recorded.params()?;
        let mut one = built(walk, whole.group("student"))?;
        let mut two = built(walk, parted.group("student"))?;
        for (step, (lr, grads)) in recorded.lr.iter().zip(&recorded.grads).enumerate() {
            if step == 4 {
                let state = two.state()?;
                two = built(walk, parted.group("student"))?;
                two.load_state(&state)?;
                assert!(two.load_state(&BTreeMap::new()).is_err(), "a state without its tensors is refused");
            }
            one.step(&recorded.grads(one.vars(), grads)?, *lr)?;
            two.step(&recorded.grads(two.vars(), grads)?, *lr)?;
        }
        for (whole, parted) in [(whole.tensors("")?, parted.tensors("")?), (one.state()?, two.state()?)] {
            for (name, value) in whole {
                let bytes = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
                match value.rank() {
                    0 => assert_eq!(value.to_scalar::<i64>()?, parted[&name].to_scalar::<i64>()?),
                    _ => assert_eq!(bytes(&value)?, bytes(&parted[&name])?, "{name} of {}", walk.kind),
                }
            }
        }
    }
    Ok(())
}

#[test]
fn rates_are_pytorchs() {
    let recorded = Recorded::read();
    let now = |epoch| Moment { epoch, step: 3, steps: 9, epochs: recorded.cosine.len() };
    let multi_step = MultiStep { milestones: vec![4, 7, 10], gamma: 0.1 };
    let cosine = Cosine { min: 1e-3, ..Cosine::default() };
    for (decay, rates) in [(&multi_step as &dyn Decay, &recorded.multi_step), (&cosine, &recorded.cosine)] {
        for (epoch, rate) in rates.iter().enumerate() {
            let ours = decay.at(0.05, &now(epoch));
            assert!((ours / rate - 1.0).abs() < 1e-12, "epoch {epoch}: {ours} instead of {rate}");
        }
    }
}

#[test]
fn gradients_are_clipped_as_pytorch_clips_them() -> Result<()> {
    let recorded = Recorded::read();
    for clip in &recorded.clip {
        let vars = recorded.params()?.group("student");
        let mut grads = recorded.grads(&vars, &recorded.grads[2])?;
        let norm = f64::from(clip_grad_norm(&vars, &mut grads, clip.max)?.to_scalar::<f32>()?);
        assert!((norm / clip.norm - 1.0).abs() < 1e-6, "{norm} instead of {}", clip.norm);
        let left = vars.iter().map(|(name, var)| {
            let grad = grads.get(var).expect("every weight has a gradient");
            Ok((name.replace("student.", ""), sokd_nn::to_torch(grad)?))
        });
        near("clipping", &left.collect::<Result<_>>()?, &clip.grads)?;
    }
    Ok(())
}

#[test]
fn an_average_is_pytorchs() -> Result<()> {
    let recorded = Recorded::read();
    let params = recorded.params()?;
    let average = Ema::new(&params, "student", recorded.ema.decay)?;
    for after in &recorded.optimisers[2].after {
        params.load("student", &recorded.torch(after)?)?;
        average.update()?;
    }
    near("the average", &average.state()?, &recorded.ema.average)?;

    let again = Ema::new(&params, "student", recorded.ema.decay)?;
    again.load_state(&average.state()?)?;
    near("the average, handed on", &again.state()?, &recorded.ema.average)?;
    assert!(Ema::new(&params, "student", 1.0).is_err(), "an average that takes nothing in is refused");
    Ok(())
}

#[test]
fn settings_that_exclude_each_other_are_refused() {
    for text in [
        r#"{ "type": "sgd", "nesterov": true, "dampening": 0.1 }"#,
        r#"{ "type": "sgd", "nesterov": true, "momentum": 0.0 }"#,
    ] {
        let spec: OptimSpec = serde_json::from_str(text).expect("each setting is valid by itself");
        let Err(error) = spec.build(Vec::new()) else { panic!("{text} was built") };
        assert!(error.to_string().contains("nesterov"), "{error}");
    }
}
