//! What must hold whatever the numbers.

use candle::{Device, Tensor};
use sokd_core::{
    Backbone, Build as _, BuildCx, DistillLoss as _, Error, Forward, Key, Mode, Pair, Refined, Refiner,
    Result, Side, Step, Terms,
};
use sokd_losses::{
    LossSpec,
    dkd::Split,
    functional::{kl, soften},
};
use sokd_models::ModelSpec;
use sokd_nn::Params;
use sokd_ops::{Backend, with_backend};
use sokd_tests::{data, first, gap, networks, pair, same, wave};
use std::collections::BTreeMap;

/// Images on which every network of the zoo runs, higher than wide.
fn images(batch: usize) -> Result<Tensor> {
    Ok((wave("images", &[batch, 40, 32, 3], 0.5)? + 0.5)?)
}

fn network(spec: &ModelSpec, params: &Params) -> Result<Box<dyn Backbone>> {
    spec.build(&BuildCx::alone(params.builder(&Device::Cpu).pp("student"), &data(5, [40, 32])))
}

#[test]
fn resuming_with_the_same_map_changes_nothing() -> Result<()> {
    for spec in networks() {
        let net = network(&spec, &Params::new(Key::new(0)))?;
        for mode in [Mode::Eval, Mode::Probe] {
            let out = net.forward(&images(2)?, mode)?;
            for stage in 0..out.stages.len() {
                let again = net.resume(&out, stage, out.stage(stage)?.map.clone(), mode)?;
                assert!(same(&again.logits, &out.logits)?, "{}, stage {stage}, {mode:?}", spec.name());
                assert!(same(&again.pooled, &out.pooled)?, "{}, stage {stage}, {mode:?}", spec.name());
            }
        }
    }
    Ok(())
}

#[test]
fn a_network_is_entered_at_its_own_stages_with_its_own_maps() -> Result<()> {
    for spec in networks() {
        let net = network(&spec, &Params::new(Key::new(0)))?;
        let out = net.forward(&images(2)?, Mode::Eval)?;
        let stages = out.stages.len();
        let beyond = net.resume(&out, stages, out.stem.clone(), Mode::Eval);
        assert!(matches!(beyond, Err(Error::NoStage { stage, .. }) if stage == stages), "{}", spec.name());
        let foreign = net.resume(&out, 0, out.stage(stages - 1)?.map.clone(), Mode::Eval);
        assert!(matches!(foreign, Err(Error::Shape { .. })), "{}", spec.name());
    }
    Ok(())
}

#[test]
fn a_look_teaches_nothing_and_a_lesson_does() -> Result<()> {
    for spec in networks() {
        let params = Params::new(Key::new(0));
        let net = network(&spec, &params)?;
        let unchanged = |before: &BTreeMap<String, Tensor>| -> Result<bool> {
            let after = params.tensors("")?;
            before.iter().try_fold(true, |all, (name, tensor)| Ok(all && same(tensor, &after[name])?))
        };
        let before = params.tensors("")?;
        let out = net.forward(&images(3)?, Mode::Probe)?;
        for stage in 0..out.stages.len() {
            net.preact(stage, out.stage(stage)?, Mode::Probe)?;
        }
        assert!(unchanged(&before)?, "{}: Probe", spec.name());
        net.forward(&images(3)?, Mode::Eval)?;
        assert!(unchanged(&before)?, "{}: Eval", spec.name());

        let side = Side::new(net.as_ref(), Mode::Train, &images(3)?)?;
        assert!(!unchanged(&before)?, "{}: Train", spec.name());
        let before = params.tensors("")?;
        let map = side.out.stage(0)?.map.clone();
        side.rewrite(0, map)?.preact(1)?;
        assert!(unchanged(&before)?, "{}: a rewrite during training", spec.name());
        assert!(before.keys().any(|name| name.ends_with("running_var")));
    }
    Ok(())
}

/// No backward pass through the graph that made it takes anything from what was cut off.
#[test]
fn what_is_cut_off_stands_by_itself() -> Result<()> {
    for spec in networks() {
        let net = network(&spec, &Params::new(Key::new(0)))?;
        let out = net.forward(&images(2)?, Mode::Train)?;
        let preacts = |out: &Forward| -> Result<Vec<Tensor>> {
            let stages = out.stages.iter().enumerate();
            stages.map(|(index, stage)| net.preact(index, stage, Mode::Probe)).collect()
        };
        let (cut, before) = (out.detach()?, preacts(&out)?);
        out.logits.sum_all()?.backward()?;
        for (before, after) in before.iter().zip(preacts(&cut)?) {
            assert!(same(before, &after)?, "{}", spec.name());
        }
    }
    Ok(())
}

/// Weights that learn nothing stand in no gradient's way: a search for images goes through a teacher at rest.
#[test]
fn a_network_at_rest_hands_gradients_to_its_images() -> Result<()> {
    for spec in networks() {
        // A draw in which no unit is so near to zero that another order of its sum opens its gate.
        let params = Params::new(Key::new(1));
        let leaf = candle::Var::from_tensor(&images(2)?)?;
        let slope = |vars| -> Result<Tensor> {
            let net = spec.build(&BuildCx::alone(vars, &data(5, [40, 32])))?;
            let logits = net.forward(&leaf, Mode::Eval)?.logits;
            let grads = (logits * wave("logits", &[2, 5], 1.0)?)?.sum_all()?.backward()?;
            Ok(grads.get(&leaf).expect("images are tracked").clone())
        };
        let frozen = slope(params.frozen(&Device::Cpu))?;
        let tracked = slope(params.builder(&Device::Cpu))?;
        let composed = with_backend(Backend::Composed, || slope(params.frozen(&Device::Cpu)))?;
        let most = gap(&frozen, &frozen.zeros_like()?)?;
        assert!(most > 0.0, "{}", spec.name());
        for other in [tracked, composed] {
            assert!(
                gap(&frozen, &other)? <= 1e-3 * most,
                "{}: {} of {most}",
                spec.name(),
                gap(&frozen, &other)?
            );
        }
    }
    Ok(())
}

#[test]
fn a_new_layer_moves_no_other_weight() -> Result<()> {
    for spec in networks() {
        let (plain, extended) = (Params::new(Key::new(7)), Params::new(Key::new(7)));
        let vars = extended.builder(&Device::Cpu).pp("student.aaa");
        sokd_nn::Linear::new(3, 4, sokd_nn::init::normal(1.0), None, vars)?;
        network(&spec, &plain)?;
        network(&spec, &extended)?;
        let extended = extended.tensors("")?;
        for (name, weight) in plain.tensors("")? {
            assert!(same(&weight, &extended[&name])?, "{}: {name}", spec.name());
        }
    }
    Ok(())
}

/// KD = TCKD + (1 - p(label)) NCKD, example by example.
///
/// # Source
/// Zhao et al., 2022 (arXiv:2203.08679), equation (6).
#[test]
fn decoupling_takes_nothing_away() -> Result<()> {
    for classes in [2, 5, 100] {
        let (teacher, student) = (wave("t", &[7, classes], 8.0)?, wave("s", &[7, classes], 3.0)?);
        let labels = Tensor::from_iter((0..7).map(|row| row * 3 % classes as u32), &Device::Cpu)?;
        let whole = kl(&soften(&teacher, 4.0)?, &soften(&student, 4.0)?)?;
        let (teacher, student) = (Split::new(&teacher, &labels, 4.0)?, Split::new(&student, &labels, 4.0)?);
        let miss = teacher.target.narrow(1, 1, 1)?.squeeze(1)?.exp()?;
        let parts =
            (kl(&teacher.target, &student.target)? + (miss * kl(&teacher.others, &student.others)?)?)?;
        assert!(gap(&whole, &parts)? < 1e-13, "{classes} classes: {whole} {parts}");
    }
    Ok(())
}

/// A plug-in that rewrites nothing and asks nothing.
struct Identity;

impl Refiner for Identity {
    fn refine<'a>(&self, pair: Pair<'a>, _: &Step) -> Result<(Pair<'a>, Terms)> {
        Ok((pair, Terms::default()))
    }
}

/// A plug-in that rewrites a stage of both networks with what the stage gave.
struct Again(usize);

impl Refiner for Again {
    fn refine<'a>(&self, pair: Pair<'a>, _: &Step) -> Result<(Pair<'a>, Terms)> {
        let again = |side: Side<'a>| {
            let map = side.out.stage(self.0)?.map.clone();
            side.rewrite(self.0, map)
        };
        let (student, teacher) = (again(pair.student)?, pair.teacher.map(again).transpose()?);
        Ok((Pair { student, teacher, ..pair }, Terms::default()))
    }
}

#[test]
fn a_loss_behind_a_plug_in_that_changes_nothing_is_the_bare_loss() -> Result<()> {
    let params = Params::new(Key::new(3));
    let data = data(5, [40, 32]);
    let vars = params.builder(&Device::Cpu);
    let spec = sokd_models::named("resnet8").expect("a network of the zoo");
    let student = spec.build(&BuildCx::alone(vars.pp("student"), &data))?;
    let teacher = spec.build(&BuildCx::alone(vars.pp("teacher"), &data))?;
    let cx = BuildCx {
        vars,
        data: Some(&data),
        student: Some(student.info()),
        teacher: Some(teacher.info()),
        preview: None,
    };
    let mut pair = pair(student.as_ref(), teacher.as_ref(), images(3)?, &[1, 4, 0])?;
    for mode in [Mode::Probe, Mode::Eval, Mode::Train] {
        pair.student = Side::new(student.as_ref(), mode, &pair.images)?;
        for spec in LossSpec::examples() {
            let loss = spec.build(&cx)?;
            // What a lesson leaves behind, such as CRD's memories, is taken back before the next one.
            let before = params.tensors("")?;
            let bare = loss.terms(&pair, &first())?;
            for refiner in [Box::new(Identity) as Box<dyn Refiner>, Box::new(Again(0)), Box::new(Again(2))] {
                let behind = Refined { refiner, loss: spec.build(&cx)? };
                params.load("", &before)?;
                let refined = behind.terms(&pair, &first())?;
                let names = |terms: &Terms| terms.iter().map(|term| term.name.clone()).collect::<Vec<_>>();
                assert_eq!(names(&bare), names(&refined));
                for (bare, refined) in bare.iter().zip(&refined) {
                    let case = format!("{}, {mode:?}: {}", spec.name(), bare.name);
                    // A lesson moves the running mean, around which the next batch's variance is summed.
                    assert!(mode == Mode::Train || same(&bare.value, &refined.value)?, "{case}");
                    assert!(gap(&bare.value, &refined.value)? < 1e-5, "{case}");
                }
            }
        }
    }
    Ok(())
}
