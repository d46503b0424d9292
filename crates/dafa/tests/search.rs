//! The policy's gradient after an imagined step against numerical differentiation, and a search that finds what is best.

use candle::{DType, Device, Tensor};
use sokd_core::{
    Backbone, BackboneInfo, Batch, Build, BuildCx, Head, Key, Mode, PixelNorm, Refined, Result, Stage,
    StageInfo, Step,
};
use sokd_dafa::{Dafa, Draw, Lots, Policy, Relaxed, Space};
use sokd_losses::{LossSpec, fitnet::Fitnet};
use sokd_nn::{Conv2d, Hint, LrSchedule, Moment, OptimSpec, Params, init};
use sokd_ops::Conv;
use sokd_tests::{Said, data, wave};
use sokd_train::{
    Descend, Distiller, Hand, Phase, Schedule, Shown, Steps, Tally, TermOf, Through, Unroll, UpdateSpec,
};
use std::collections::BTreeMap;

const SIDE: [usize; 2] = [6, 5];

/// A stage of one convolution and a head that nobody asks.
struct Tiny {
    info: BackboneInfo,
    conv: Conv2d,
}

impl Tiny {
    fn new(params: &Params) -> Result<Self> {
        let vb = params.builder(&Device::Cpu).pp("student.conv");
        let stage = StageInfo { channels: 2, stride: 1 };
        let pixels = PixelNorm { mean: [0.0; 3], std: [1.0; 3] };
        Ok(Self {
            info: BackboneInfo { stem: stage, stages: vec![stage], features: 2, classes: 2, pixels },
            conv: Conv2d::new(3, 2, 3, Conv::same(3, 1), init::normal(0.5), None, vb)?,
        })
    }
}

impl Backbone for Tiny {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn stem(&self, images: &Tensor, _: Mode) -> Result<Tensor> {
        Ok(images.clone())
    }

    fn stage(&self, _: usize, input: &Tensor, _: Mode) -> Result<Stage> {
        Ok(Stage::new(self.conv.forward(input)?, None))
    }

    fn head(&self, map: &Tensor, _: Mode) -> Result<Head> {
        let pooled = sokd_ops::global_avg_pool(map)?;
        Ok(Head { logits: pooled.clone(), pooled, said: None })
    }
}

const BATCH: usize = 3;

fn batch() -> Result<Batch> {
    Ok(Batch {
        images: (wave("images", &[BATCH, SIDE[0], SIDE[1], 3], 0.5)? + 0.5)?,
        labels: Tensor::zeros(BATCH, DType::U32, &Device::Cpu)?,
        rows: Tensor::arange(0, BATCH as u32, &Device::Cpu)?,
    })
}

fn hand() -> Result<Hand<'static>> {
    Ok(Hand::alone(Shown::new(batch()?)))
}

/// A teacher that says one map.
fn said(map: &Tensor) -> Result<Said> {
    let logits = Tensor::zeros((BATCH, 2), DType::F32, &Device::Cpu)?;
    Said::new(logits.clone(), logits, vec![map.clone(), map.clone()], SIDE[0])
}

const HINT: Hint = Hint { stage: 0, feature: sokd_core::Feature::Map, depth: 1, relu: false };

/// `FitNet` against a teacher of one map, alone or behind DAFA.
fn distiller(params: &Params, map: &Tensor, dafa: Option<&Dafa>) -> Result<Distiller> {
    let (student, teacher, data) = (Tiny::new(params)?, said(map)?, data(2, SIDE));
    let loss = {
        let cx = BuildCx {
            vars: params.builder(&Device::Cpu),
            data: Some(&data),
            student: Some(student.info()),
            teacher: Some(teacher.info()),
            preview: None,
        };
        let loss = LossSpec::Fitnet(Fitnet(HINT)).build(&cx)?;
        match dafa {
            None => loss,
            Some(dafa) => Box::new(Refined { refiner: dafa.build(&cx)?, loss }),
        }
    };
    let terms = vec![TermOf { name: "distill".into(), weight: Schedule::default(), loss }];
    Ok(Distiller { student: Box::new(student), teacher: Some(Box::new(teacher)), lens: None, terms })
}

fn searching(params: &Params, update: &UpdateSpec, lr: f64) -> Result<Phase> {
    let optim: OptimSpec = serde_json::from_str(r#"{ "type": "adam" }"#).expect("an optimiser");
    Ok(Phase {
        toward: Some(BTreeMap::from([("distill/aug".to_owned(), 1.0)])),
        mode: Mode::Probe,
        update: match update {
            UpdateSpec::Descend(_) => Box::new(Descend {}),
            UpdateSpec::Unroll(_) => update.as_ref().start(params)?,
        },
        lr: LrSchedule { base: lr, ..LrSchedule::default() },
        ..Phase::new("policy", optim.build(params.group("policy"))?)
    })
}

fn three() -> Dafa {
    let operations = r#"[
        { "type": "rotate", "range": [0.0, 60.0] },
        { "type": "cutout", "range": [0.2, 0.8] },
        { "type": "channel-drop" }
    ]"#;
    Dafa { hint: HINT, operations: serde_json::from_str(operations).expect("operations"), ..Dafa::default() }
}

const AHEAD: f64 = 0.3;

/// `outer(θ − ξ ∇inner(θ, inner map), outer map)`: the student and the adapter are left where they were.
fn after(params: &Params, inner: &Tensor, outer: &Tensor) -> Result<f64> {
    let weights: Vec<_> = ["student", "adapter"].iter().flat_map(|group| params.group(group)).collect();
    let here: Vec<_> = weights.iter().map(|(_, var)| var.copy()).collect::<Result<_, _>>()?;
    let total = |map: &Tensor| -> Result<Tensor> {
        let at = Step::first(Key::new(0));
        let terms = distiller(params, map, None)?.terms(&Shown::new(batch()?), Mode::Probe, &None, &at)?;
        Ok(terms.total()?.expect("FitNet's term"))
    };
    let grads = total(inner)?.backward()?;
    for ((_, var), here) in weights.iter().zip(&here) {
        var.set(&(here - (grads.get(var).expect("every weight has a part in it") * AHEAD)?)?)?;
    }
    // The augmentation loss is half of FitNet's.
    let value = f64::from(total(outer)?.to_scalar::<f32>()?) / 2.0;
    weights.iter().zip(&here).try_for_each(|((_, var), here)| var.set(here))?;
    Ok(value)
}

/// The refined map around the draw, to first order in what is softened.
struct Around {
    space: Space,
    draw: Draw,
    policy: Policy,
    map: Tensor,
    soft: [Vec<f32>; 3],
}

fn soft(policy: &Policy, space: &Space, draw: &Draw) -> Result<[Vec<f32>; 3]> {
    let Relaxed { choice, bits, levels } = policy.relaxed(&Lots::new(space, draw, &Device::Cpu)?)?;
    Ok([choice.to_vec1()?, bits.to_vec1()?, levels.to_vec1()?])
}

impl Around {
    /// With the policy's weights as they are now.
    fn map(&self) -> Result<Tensor> {
        let Draw { pair, bits, levels, key, .. } = &self.draw;
        let of = |pair: usize, bits| self.space.apply(&self.map, pair, bits, levels[pair], *key);
        let [choice, soft_bits, soft_levels] = soft(&self.policy, &self.space, &self.draw)?;
        let mut sum = of(*pair, bits[*pair])?;
        for (at, choice) in choice.into_iter().enumerate() {
            sum = (sum + (of(at, bits[at])? * f64::from(choice - self.soft[0][at]))?)?;
        }
        for place in 0..2 {
            let with = |bit| {
                let mut bits = bits[*pair];
                bits[place] = bit;
                of(*pair, bits)
            };
            let gained = f64::from(soft_bits[place] - self.soft[1][place]);
            sum = (sum + ((with(true)? - with(false)?)? * gained)?)?;
            if bits[*pair][place] {
                sum = (sum + f64::from(soft_levels[place] - self.soft[2][place]))?;
            }
        }
        Ok(sum)
    }
}

#[test]
fn the_gradient_after_an_imagined_step_is_the_numerical_one() -> Result<()> {
    let map = wave("teacher", &[BATCH, SIDE[0], SIDE[1], 4], 1.5)?;
    let params = Params::new(Key::new(1));
    let dafa = three();
    let bilevel = distiller(&params, &map, Some(&dafa))?;
    for (name, var) in params.group("policy") {
        let drawn = wave(&name, var.dims(), if name.ends_with("alpha") { 1.0 } else { 0.3 })?;
        var.set(&if name.ends_with("alpha") { drawn } else { (drawn + 0.5)? })?;
    }
    let space = Space::new(dafa.operations.clone())?;
    let mut both = 0;
    for seed in 0..4 {
        let policy = Policy::new(&params.builder(&Device::Cpu), &space, 0.5)?;
        let at = Step::first(Key::new(seed));
        let draw = policy.draw(at.key.fold("distill").fold("dafa"))?;
        both += usize::from(draw.bits[draw.pair] == [true; 2]);
        let soft = soft(&policy, &space, &draw)?;
        let around = Around { space: space.clone(), draw, policy, map: map.clone(), soft };
        let here = around.map()?;
        for through in [Through::Direct, Through::Implicit, Through::Both] {
            let unroll =
                Unroll { lookahead: AHEAD, weight_decay: 0.0, through, radius: 0.02, ..Unroll::default() };
            let phase = searching(&params, &UpdateSpec::Unroll(unroll), 0.1)?;
            let (_, grads) = phase.update.grads(&bilevel, &phase, &hand()?, &at)?;
            for (name, var) in params.group("policy") {
                let weights = var.flatten_all()?.to_vec1::<f32>()?;
                let beside = |place: usize, step: f32| -> Result<f64> {
                    let mut moved = weights.clone();
                    moved[place] += step;
                    var.set(&Tensor::new(moved, &Device::Cpu)?.reshape(var.shape())?)?;
                    let there = around.map()?;
                    var.set(&Tensor::new(&weights[..], &Device::Cpu)?.reshape(var.shape())?)?;
                    match through {
                        Through::Direct => after(&params, &here, &there),
                        Through::Implicit => after(&params, &there, &here),
                        Through::Both => after(&params, &there, &there),
                    }
                };
                let slope = |place| Ok((beside(place, 5e-3)? - beside(place, -5e-3)?) / 1e-2);
                let expected: Vec<f64> = (0..weights.len()).map(slope).collect::<Result<_>>()?;
                let found = grads.get(&var).expect("a steered weight");
                let largest = expected.iter().fold(0.0, |largest: f64, one| largest.max(one.abs()));
                let found = found.flatten_all()?.to_vec1::<f32>()?;
                for (found, expected) in found.iter().zip(&expected) {
                    let gap = (f64::from(*found) - expected).abs();
                    assert!(
                        gap < 1e-3 * largest + 2e-5,
                        "{name}, {through:?}, seed {seed}: {found} for {expected} of {largest}"
                    );
                }
            }
        }
    }
    assert!(both > 0, "some draw executed both operations");
    Ok(())
}

/// The teacher's map is what the student gives, one cell to the right: to move it back is best, noise the worst.
#[test]
fn a_search_finds_the_operation_that_helps() -> Result<()> {
    let operations = r#"[
        { "type": "translate-x", "range": [0.2, 0.2] },
        { "type": "noise", "range": [1.0, 1.0] },
        { "type": "channel-drop", "range": [0.5, 0.5] }
    ]"#;
    let operations = serde_json::from_str(operations).expect("operations");
    let dafa = Dafa { hint: HINT, operations, ..Dafa::default() };
    for update in [UpdateSpec::default(), UpdateSpec::Unroll(Unroll::default())] {
        let params = Params::new(Key::new(1));
        let adapted = {
            let blank = Tensor::zeros((BATCH, SIDE[0], SIDE[1], 4), DType::F32, &Device::Cpu)?;
            let (student, teacher) = (Tiny::new(&params)?, said(&blank)?);
            let cx = BuildCx {
                vars: params.builder(&Device::Cpu),
                data: None,
                student: Some(student.info()),
                teacher: Some(teacher.info()),
                preview: None,
            };
            let adapter = HINT.build(&cx, "the test")?;
            let pair = sokd_tests::pair(&student, &teacher, batch()?.images, &[0; BATCH])?;
            let quiet = sokd_core::Side { mode: Mode::Probe, ..pair.student.clone() };
            adapter.adapted(&sokd_core::Pair { student: quiet, ..pair })?.detach()
        };
        let right = adapted.narrow(2, 0, SIDE[1] - 1)?.pad_with_zeros(2, 1, 0)?;
        let distiller = distiller(&params, &right, Some(&dafa))?;
        let mut phases = [searching(&params, &update, 0.02)?];
        let (hand, mut tally, mut steps) = (hand()?, Tally::default(), Steps::new(params.clone()));
        for index in 0..300 {
            let at = Step { index, ..Step::first(Key::new(5)) };
            let now = Moment { epoch: 0, step: 0, steps: 300, epochs: 1 };
            steps.take(&distiller, &mut phases, &hand, (at, now), &mut tally, &mut [])?;
        }
        let group = params.group("policy");
        let alpha = group[0].1.to_vec1::<f32>()?;
        let beta = group[1].1.to_vec2::<f32>()?;
        // Pairs: (move, noise), (move, drop), (noise, drop).
        assert!(alpha[1] > alpha[2] + 0.3, "{alpha:?}");
        assert!(beta[0][0] > 0.7 && beta[1][0] > 0.7, "to move is executed: {beta:?}");
        assert!(beta[0][1] < 0.3 && beta[2][0] < 0.3, "noise is not: {beta:?}");
        let space = Space::new(dafa.operations.clone())?;
        let policy = Policy::new(&params.frozen(&Device::Cpu), &space, 0.5)?;
        let moved = (0..100).filter(|&seed| {
            let draw = policy.draw(Key::new(seed)).expect("a draw");
            space.pairs()[draw.pair][0] == 0 && draw.bits[draw.pair][0]
        });
        let moved = moved.count();
        assert!(moved > 45, "{moved} draws of 100 move the map, of 33 at first");
    }
    Ok(())
}
