//! What a loss behind DAFA sees.

use candle::{Device, Tensor, backprop::GradStore};
use sokd_core::{
    Backbone, Build, BuildCx, Cut, DistillLoss, Key, Mode, Pair, Refined, Refiner, Result, Side, Stage, Step,
    Terms,
};
use sokd_dafa::{Dafa, Policy, Space};
use sokd_losses::LossSpec;
use sokd_nn::Params;
use sokd_tests::{data, gap, pair, same, wave};

/// Two networks that differ in width, and the weights of plug-ins.
struct Set {
    params: Params,
    student: Box<dyn Backbone>,
    teacher: Box<dyn Backbone>,
    images: Tensor,
}

const LABELS: [u32; 3] = [1, 4, 0];

impl Set {
    fn new(teacher: &str) -> Result<Self> {
        let (params, data) = (Params::new(Key::new(3)), data(5, [32, 32]));
        let network = |name, group| {
            let spec = sokd_models::named(name).expect("a network of the zoo");
            spec.build(&BuildCx::alone(params.builder(&Device::Cpu).pp(group), &data))
        };
        let frozen = Params::new(Key::new(4));
        let spec = sokd_models::named(teacher).expect("a network of the zoo");
        let teacher = spec.build(&BuildCx::alone(frozen.frozen(&Device::Cpu).pp("teacher"), &data))?;
        let images = (wave("images", &[3, 32, 32, 3], 0.5)? + 0.5)?;
        Ok(Self { student: network("resnet8", "student")?, teacher, images, params })
    }

    fn cx<R>(&self, work: impl FnOnce(&BuildCx<'_>) -> R) -> R {
        work(&BuildCx {
            vars: self.params.builder(&Device::Cpu),
            data: Some(&data(5, [32, 32])),
            student: Some(self.student.info()),
            teacher: Some(self.teacher.info()),
            preview: None,
        })
    }

    fn dafa(&self, settings: &str) -> Result<Box<dyn Refiner>> {
        self.cx(|cx| settled(settings).build(cx))
    }

    fn pair(&self, mode: Mode) -> Result<Pair<'_>> {
        let pair = pair(self.student.as_ref(), self.teacher.as_ref(), self.images.clone(), &LABELS)?;
        Ok(Pair { student: Side::new(self.student.as_ref(), mode, &self.images)?, ..pair })
    }

    /// All weights of the policy under a name, alike.
    fn set(&self, name: &str, value: f64) -> Result<()> {
        for (path, var) in self.params.group("policy") {
            if path.ends_with(name) {
                var.set(&Tensor::full(value as f32, var.shape(), &Device::Cpu)?)?;
            }
        }
        Ok(())
    }
}

fn settled(settings: &str) -> Dafa {
    serde_json::from_str(settings).expect("settings of DAFA")
}

fn steps() -> impl Iterator<Item = Step> {
    (0..30).map(|seed| Step::first(Key::new(seed)))
}

/// The policy's gradient of a value, across the cuts in its way.
fn policys(value: &Tensor, terms: &Terms) -> Result<GradStore> {
    let grads = value.backward()?;
    let found: Vec<_> = terms.cuts().iter().map(|cut| grads.get(&cut.leaf).cloned()).collect();
    Cut::across(terms.cuts(), &found)
}

fn steering(at: Step) -> Step {
    Step { steers: true, ..at }
}

#[test]
fn with_no_operation_drawn_the_pair_is_the_bare_one() -> Result<()> {
    for teacher in ["resnet14", "wrn_16_2"] {
        let set = Set::new(teacher)?;
        let bare = set.pair(Mode::Probe)?;
        let plain = &bare.teacher("the test")?.out;
        for settings in [r#"{ "stages": [1, 2] }"#, r#"{ "through": "network" }"#] {
            let dafa = set.dafa(settings)?;
            set.set("beta", 0.0)?;
            for at in steps().take(3).flat_map(|at| [at, steering(at)]) {
                let (refined, _) = dafa.refine(bare.clone(), &at)?;
                let side = refined.teacher("the test")?;
                for (stage, (before, after)) in plain.stages.iter().zip(&side.out.stages).enumerate() {
                    assert!(same(&before.map, &after.map)?, "{teacher}, {settings}, stage {stage}");
                    assert!(same(&bare.teacher("the test")?.preact(stage)?, &side.preact(stage)?)?);
                }
                assert!(same(&plain.pooled, &side.out.pooled)? && same(&plain.logits, &side.out.logits)?);
            }
        }
    }
    Ok(())
}

/// Maps and what stands before their ReLU, in every stage, by the draw that the step's key gives; the embedding with the
/// last map, the logits not.
#[test]
fn all_stages_are_rewritten_by_one_draw() -> Result<()> {
    let set = Set::new("resnet14")?;
    let dafa = set.dafa(r#"{ "stages": [2, 0, 1] }"#)?;
    let (space, bare) = (Space::new(Dafa::default().operations)?, set.pair(Mode::Train)?);
    let policy = Policy::new(&set.params.frozen(&Device::Cpu), &space, 0.5)?;
    let mut changed = 0;
    for at in steps() {
        let draw = policy.draw(at.key.fold("dafa"))?;
        let (bits, levels) = (draw.bits[draw.pair], draw.levels[draw.pair]);
        let of = |map: &Tensor| space.apply(map, draw.pair, bits, levels, draw.key);
        let (refined, _) = dafa.refine(bare.clone(), &at)?;
        let (before, after) = (bare.teacher("the test")?, refined.teacher("the test")?);
        for (Stage { map, preact, .. }, after) in before.out.stages.iter().zip(&after.out.stages) {
            changed += usize::from(!same(map, &after.map)?);
            assert!(same(&of(map)?, &after.map)?);
            let preact = preact.as_ref().expect("a residual network has it at hand");
            let rewritten = after.preact.as_ref().expect("rewritten too").tensor()?;
            assert!(same(&of(&preact.tensor()?)?, &rewritten)?);
        }
        let head = before.net.head(&after.out.stages[2].map, Mode::Eval)?;
        assert!(same(&head.pooled, &after.out.pooled)? && same(&before.out.logits, &after.out.logits)?);
        // Once more, and steered: the same values.
        for at in [at, steering(at)] {
            let again = dafa.refine(bare.clone(), &at)?.0;
            assert!(same(&again.teacher("the test")?.out.stages[1].map, &after.out.stages[1].map)?);
        }
    }
    assert!(changed > 10, "30 steps changed {changed} maps");
    Ok(())
}

#[test]
fn through_the_network_the_logits_are_those_of_the_refined_map() -> Result<()> {
    for teacher in ["resnet14", "wrn_16_2"] {
        let set = Set::new(teacher)?;
        let dafa = set.dafa(r#"{ "through": "network" }"#)?;
        let bare = set.pair(Mode::Train)?;
        let mut changed = 0;
        for at in steps().take(8) {
            let (refined, _) = dafa.refine(bare.clone(), &steering(at))?;
            let (before, after) = (bare.teacher("the test")?, refined.teacher("the test")?);
            let map = after.out.stages[1].map.clone();
            let resumed = before.net.resume(&before.out, 1, map, Mode::Eval)?;
            assert!(same(&resumed.logits, &after.out.logits)? && same(&resumed.pooled, &after.out.pooled)?);
            assert!(same(&before.out.stages[0].map, &after.out.stages[0].map)?);
            changed += usize::from(!same(&before.out.logits, &after.out.logits)?);
        }
        assert!(changed > 1, "{teacher}: 8 steps changed the logits {changed} times");
    }
    Ok(())
}

/// An ordinary step is on no graph of the policy, and a steered one is by the estimator's word.
#[test]
fn only_what_steers_is_on_the_policys_graph() -> Result<()> {
    let set = Set::new("resnet14")?;
    for (estimator, learns) in
        [("gumbel", &["alpha", "beta", "magnitude"][..]), ("score", &["magnitude"]), ("none", &[])]
    {
        let dafa = set.dafa(&format!(r#"{{ "estimator": "{estimator}" }}"#))?;
        for at in steps().take(4) {
            let bare = set.pair(Mode::Probe)?;
            let (plain, _) = dafa.refine(bare.clone(), &at)?;
            assert!(!plain.teacher("the test")?.out.stages[1].map.track_op());
            let (steered, terms) = dafa.refine(bare.clone(), &steering(at))?;
            let map = &steered.teacher("the test")?.out.stages[1].map;
            assert_eq!(terms.scores().len(), usize::from(estimator == "score"));
            assert_eq!(map.track_op(), !learns.is_empty(), "{estimator}");
            let aug = terms.iter().find(|term| term.name == "aug").expect("the augmentation loss");
            let grads = policys(&aug.value.mean_all()?, &terms)?;
            let reached: Vec<_> =
                set.params.group("policy").into_iter().filter(|(_, var)| grads.get(var).is_some()).collect();
            let names: Vec<_> = reached.iter().filter_map(|(name, _)| name.rsplit('.').next()).collect();
            assert_eq!(names, learns, "{estimator}");
        }
    }
    Ok(())
}

#[test]
fn the_terms_say_what_was_done() -> Result<()> {
    let set = Set::new("resnet14")?;
    let dafa = set.dafa(r#"{ "hint": { "depth": 2 } }"#)?;
    for (mode, at) in
        [(Mode::Train, Step::first(Key::new(1))), (Mode::Probe, steering(Step::first(Key::new(1))))]
    {
        let (pair, terms) = dafa.refine(set.pair(mode)?, &at)?;
        assert!(terms.iter().all(|term| term.weight == 0.0), "nothing counts before a phase says so");
        let get = |name: &str| terms.iter().find(|term| term.name == name).map(|term| term.value.clone());
        let adapted = &pair.adapted["1-deep2"];
        let teacher = &pair.teacher("the test")?.out.stages[1].map;
        let half = ((teacher - adapted)?.sqr()?.flatten_from(1)?.mean(1)? * 0.5)?;
        assert!(gap(&half, &get("aug").expect("the augmentation loss"))? < 1e-6);
        let sum = |what: &str| -> Result<f64> {
            let inside = terms.iter().filter(|term| term.name.starts_with(what));
            inside.map(|term| Ok(f64::from(term.value.to_scalar::<f32>()?))).sum()
        };
        assert!(sum("drawn/")? <= 2.0);
        assert!(get("norm-ratio").is_some());
        assert_eq!(get("entropy").is_some(), at.steers);
        assert!(get("teacher-task").is_none(), "nobody asked for it");
        // Two operations are always in the pair; each bit starts at a half.
        let policy = mode == Mode::Probe;
        assert!((sum("probability/")? - if policy { 2.0 } else { 0.0 }).abs() < 1e-5);
        assert!((sum("execution/")? - if policy { 4.5 } else { 0.0 }).abs() < 1e-5);
        assert!((sum("level/")? - if policy { 4.5 } else { 0.0 }).abs() < 1e-5);
    }
    Ok(())
}

/// What the frozen rest of the teacher says of the refined map, and that the policy can be steered by it.
#[test]
fn the_teachers_own_task_is_a_term() -> Result<()> {
    let set = Set::new("resnet14")?;
    let dafa = set.dafa(r#"{ "teacher-task": true }"#)?;
    let (pair, terms) = dafa.refine(set.pair(Mode::Probe)?, &steering(Step::first(Key::new(6))))?;
    let side = pair.teacher("the test")?;
    let logits = side.net.resume(&side.out, 1, side.out.stages[1].map.clone(), Mode::Eval)?.logits;
    let expected = sokd_losses::cross_entropy::CrossEntropy::default();
    let task = Pair {
        student: Side { out: sokd_core::Forward { logits, ..side.out.clone() }, ..side.clone() },
        ..pair.clone()
    };
    let expected = expected.terms(&task, &Step::first(Key::new(6)))?.total()?.expect("a term");
    let found =
        terms.iter().find(|term| term.name == "teacher-task").expect("a steered pass").value.mean_all()?;
    assert!(gap(&found.to_dtype(candle::DType::F64)?, &expected.to_dtype(candle::DType::F64)?)? < 1e-5);
    let grads = policys(&found, &terms)?;
    let alpha = &set.params.group("policy")[0].1;
    assert!(grads.get(alpha).expect("a gradient").sqr()?.sum_all()?.to_scalar::<f32>()? > 0.0);
    Ok(())
}

/// The host reads the refined map through the adapter that the plug-in shares with it.
#[test]
fn a_host_of_the_same_hint_shares_the_adapter() -> Result<()> {
    let set = Set::new("resnet14")?;
    let fitnet: LossSpec = serde_json::from_str(r#"{ "type": "fitnet" }"#).expect("a loss");
    let refined = Refined { refiner: set.dafa("{}")?, loss: set.cx(|cx| fitnet.build(cx))? };
    assert_eq!(set.params.group("adapter").len(), 3, "one convolution and its norm");
    for at in steps().take(5) {
        let terms = refined.terms(&set.pair(Mode::Probe)?, &steering(at))?;
        let get = |name: &str| terms.iter().find(|term| term.name == name).expect("a term").value.clone();
        assert!(gap(&get("fitnet"), &(get("aug") * 2.0)?)? < 1e-6);
        let grads = policys(&terms.total()?.expect("the host's term"), &terms)?;
        assert!(set.params.group("policy").iter().all(|(_, var)| grads.get(var).is_some()));
    }
    Ok(())
}

#[test]
fn settings_that_mean_nothing_are_refused() -> Result<()> {
    let set = Set::new("resnet14")?;
    for (settings, said) in [
        (r#"{ "operations": [] }"#, "dafa.operations"),
        (r#"{ "operations": [{ "type": "noise" }] }"#, "at least two"),
        (r#"{ "temperature": 0.0 }"#, "dafa.temperature"),
        (r#"{ "stages": [7] }"#, "stage 7"),
        (r#"{ "stages": [0] }"#, "the hint's stage"),
        (r#"{ "stages": [0, 1], "through": "network" }"#, "name one"),
        (r#"{ "stages": [2], "through": "network" }"#, "no policy could reach it"),
    ] {
        let Err(error) = set.dafa(settings) else { panic!("{settings} was taken") };
        assert!(error.to_string().contains(said), "{settings}: {error}");
    }
    let typo = serde_json::from_str::<Dafa>(r#"{ "operations": [{ "type": "noise", "rang": [0, 1] }] }"#);
    assert!(typo.expect_err("misspelt").to_string().contains("rang"));
    let alone = Dafa::default().build(&BuildCx::alone(set.params.builder(&Device::Cpu), &data(5, [32, 32])));
    assert!(matches!(alone.map(|_| ()), Err(sokd_core::Error::NoTeacher("dafa"))));
    Ok(())
}

#[test]
fn defaults_are_written_and_read_again() {
    let written = serde_json::to_string(&Dafa::default()).expect("plain data");
    assert_eq!(settled(&written), Dafa::default());
    assert_eq!(settled("{}"), Dafa::default());
}
