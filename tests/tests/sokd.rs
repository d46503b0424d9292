//! SoKD is a plug-in around any method: with nothing drawn and no boxes asked, each host is itself, bit for bit; and
//! with something drawn, each host sees it.

use candle::{Device, Tensor, Var};
use sokd_core::{
    Backbone, Batch, Build as _, BuildCx, Cut, DistillLoss, Key, Mode, Pair, Result, Step, Terms,
};
use sokd_experiments::Refine;
use sokd_losses::LossSpec;
use sokd_nn::{LrSchedule, Moment, OptimSpec, Params};
use sokd_ops::{Backend, with_backend};
use sokd_tests::{Diary, data, first, gap, pair, same, wave};
use sokd_train::{
    Distiller, Hand, Observer, Phase, Schedule, Shown, Steps, Sums, Tally, TermOf, Unroll, UpdateSpec,
};
use std::collections::BTreeMap;

const HOSTS: [&str; 6] = ["fitnet", "at", "crd", "review-kd", "kd", "dkd"];
const LABELS: [u32; 4] = [0, 3, 1, 3];

/// A thin student and a teacher of twice its width, the same at every call.
fn networks(params: &Params) -> Result<(Box<dyn Backbone>, Box<dyn Backbone>)> {
    let net = |name: &str, vars| {
        let spec = sokd_models::named(name).expect("it is in the zoo");
        spec.build(&BuildCx::alone(vars, &data(5, [32, 32])))
    };
    let teacher = net("resnet8x4", Params::new(Key::new(4)).frozen(&Device::Cpu))?;
    Ok((net("resnet8", params.builder(&Device::Cpu).pp("student"))?, teacher))
}

struct Scene {
    params: Params,
    student: Box<dyn Backbone>,
    teacher: Box<dyn Backbone>,
    images: Tensor,
}

impl Scene {
    fn new() -> Result<Self> {
        let params = Params::new(Key::new(3));
        let (student, teacher) = networks(&params)?;
        let images = (wave("images", &[LABELS.len(), 32, 32, 3], 0.5)? + 0.5)?;
        Ok(Self { params, student, teacher, images })
    }

    fn host(&self, host: &str, refine: &str) -> Result<Box<dyn DistillLoss>> {
        let spec: LossSpec = serde_json::from_value(serde_json::json!({ "type": host })).expect("a loss");
        let refine: Refine = serde_json::from_str(refine).expect("plug-ins");
        let data = data(5, [32, 32]);
        let cx = BuildCx {
            vars: self.params.builder(&Device::Cpu),
            data: Some(&data),
            teacher: Some(self.teacher.info()),
            student: Some(self.student.info()),
            preview: None,
        };
        refine.wrap(spec.build(&cx)?, &cx)
    }

    fn pair(&self) -> Result<Pair<'_>> {
        pair(self.student.as_ref(), self.teacher.as_ref(), self.images.clone(), &LABELS)
    }

    /// Every operation is executed with this probability.
    fn execute(&self, probability: f64) -> Result<()> {
        for (name, var) in self.params.group("policy") {
            if name.ends_with("beta") {
                var.set(&(var.ones_like()? * probability)?)?;
            }
        }
        Ok(())
    }
}

/// Terms that count, by name and value.
fn counted(terms: &Terms) -> Result<Vec<(String, f64, Vec<f64>)>> {
    let numbers = |tensor: &Tensor| -> Result<Vec<f64>> {
        Ok(tensor.to_dtype(candle::DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let counts = terms.iter().filter(|term| term.weight != 0.0);
    counts.map(|term| Ok((term.name.clone(), term.weight, numbers(&term.value)?))).collect()
}

/// DAFA as each host reads it, and a detector of which nothing is asked.
fn idle(host: &str) -> String {
    let reach = match host {
        "kd" | "dkd" => r#""through": "network""#,
        "fitnet" => r#""stages": "hint""#,
        _ => r#""stages": "all""#,
    };
    format!(
        r#"[{{ "type": "dafa", {reach} }},
            {{ "type": "dam", "peaks": 0, "agreement": 0.0, "area": 0.0 }}]"#
    )
}

#[test]
fn an_identity_policy_and_no_boxes_leave_every_host_as_it_is() -> Result<()> {
    for host in HOSTS {
        let (bare, refined) = (Scene::new()?, Scene::new()?);
        let plain = bare.host(host, "[]")?.terms(&bare.pair()?, &first())?;
        let loss = refined.host(host, &idle(host))?;
        refined.execute(0.0)?;
        let behind = loss.terms(&refined.pair()?, &first())?;
        assert_eq!(counted(&behind)?, counted(&plain)?, "{host}");

        let grads = |terms: &Terms| -> Result<_> { Ok(terms.total()?.expect("a host").backward()?) };
        let (plain, behind) = (grads(&plain)?, grads(&behind)?);
        let (before, after) = (bare.params.group("student"), refined.params.group("student"));
        for ((name, var), (_, twin)) in before.iter().zip(&after) {
            match (plain.get(var), behind.get(twin)) {
                (Some(plain), Some(behind)) => assert!(same(plain, behind)?, "{host}: {name}"),
                (None, None) => {}
                _ => panic!("{host}: {name} has a gradient on one side only"),
            }
        }
    }
    Ok(())
}

#[test]
fn every_host_sees_what_is_drawn() -> Result<()> {
    for host in HOSTS {
        let (bare, refined) = (Scene::new()?, Scene::new()?);
        let plain = counted(&bare.host(host, "[]")?.terms(&bare.pair()?, &first())?)?;
        let loss = refined.host(host, &idle(host))?;
        refined.execute(1.0)?;
        for (name, var) in refined.params.group("policy") {
            // Full magnitude: whatever is drawn changes the map.
            if name.ends_with("magnitude") {
                var.set(&var.ones_like()?)?;
            }
        }
        let behind = counted(&loss.terms(&refined.pair()?, &first())?)?;
        assert_eq!(plain.len(), behind.len(), "{host}");
        assert_ne!(plain, behind, "{host} reads something that the policy does not rewrite");
    }
    Ok(())
}

const BOTH: &str = r#"[{ "type": "dafa" }, { "type": "dam" }]"#;

/// Who has been said by a plug-in need not be asked of those behind it; what is said is the same.
#[test]
fn whoever_is_not_needed_is_not_asked() -> Result<()> {
    let scene = Scene::new()?;
    let (loss, mut pair) = (scene.host("fitnet", BOTH)?, scene.pair()?);
    // Running statistics, about which batch norm centres its sums, stay as they are.
    pair.student.mode = Mode::Probe;
    let value = |terms: &Terms, name: &str| -> Result<Option<Vec<f32>>> {
        let term = terms.iter().find(|term| term.name == name);
        term.map(|term| Ok(term.value.flatten_all()?.to_vec1()?)).transpose()
    };
    let all = loss.terms(&pair, &first())?;
    for (wanted, said) in
        [(vec!["aug"], 1), (vec!["aug", "agreement"], 2), (vec!["fitnet"], 3), (vec!["aug", "nobody"], 3)]
    {
        let some = loss.named(&pair, &first(), &wanted)?;
        for (at, name) in ["aug", "agreement", "fitnet"].into_iter().enumerate() {
            let found = value(&some, name)?;
            assert_eq!(found.is_some(), at < said, "{wanted:?}: {name}");
            assert!(found.is_none() || found == value(&all, name)?, "{wanted:?}: {name}");
        }
    }
    Ok(())
}

/// A pass that holds the student still says the same, and pulls at the policy's cuts the same, to the bit.
#[test]
fn a_still_student_changes_nothing_for_the_policy() -> Result<()> {
    let scene = Scene::new()?;
    scene.execute(1.0)?;
    for host in HOSTS {
        let (student, teacher) = networks(&scene.params)?;
        let distiller = Distiller {
            student,
            teacher: Some(teacher),
            lens: None,
            terms: vec![TermOf {
                name: "distill".into(),
                weight: Schedule::default(),
                loss: scene.host(host, BOTH)?,
            }],
        };
        let shown = Shown::new(Batch {
            images: scene.images.clone(),
            labels: Tensor::new(&LABELS, &Device::Cpu)?,
            rows: Tensor::arange(0, LABELS.len() as u32, &Device::Cpu)?,
        });
        let pass = |learns| -> Result<_> {
            let at = Step { steers: true, learns, ..first() };
            let terms = distiller.terms(&shown, Mode::Probe, &None, &at)?;
            let grads = terms.total()?.expect("terms").backward()?;
            Ok((terms, grads))
        };
        let ((moving, moved), (still, stood)) = (pass(true)?, pass(false)?);
        assert_eq!(counted(&moving)?, counted(&still)?, "{host}");
        assert!(!moving.cuts().is_empty(), "{host}");
        for (moving, still) in moving.cuts().iter().zip(still.cuts()) {
            let (moved, stood) = (moved.get(&moving.leaf), stood.get(&still.leaf));
            match moved.zip(stood) {
                Some((moved, stood)) => assert!(same(moved, stood)?, "{host}"),
                None => assert!(moved.is_none() && stood.is_none(), "{host}"),
            }
        }
        let students = scene.params.group("student");
        assert!(students.iter().any(|(_, var)| moved.get(var).is_some()), "{host}");
        assert!(students.iter().all(|(_, var)| stood.get(var).is_none()), "{host}");
    }
    Ok(())
}

/// As `sokd:sokd-robust` has it.
const ROBUST: &str = r#"[
    { "type": "dafa", "hint": { "stage": 1, "depth": 3 } },
    { "type": "dam", "output": "softplus-sizes", "over": "area", "agreement": 1.0, "area": 100.0, "anchor": { "weight": 1.0 } }]"#;

/// The gradient of a policy, across the cuts in its way.
fn policys(scene: &Scene, terms: &Terms) -> Result<Vec<Tensor>> {
    let grads = terms.total()?.expect("a host").backward()?;
    let found: Vec<_> = terms.cuts().iter().map(|cut| grads.get(&cut.leaf).cloned()).collect();
    let grads = Cut::across(terms.cuts(), &found)?;
    let found = |(_, var): (String, Var)| Ok(grads.get(&var).expect("a policy's weight").clone());
    scene.params.group("policy").into_iter().map(found).collect()
}

/// On a GPU a draw is laid where kernels read it. They make of it what this machine does, to what rounding costs; and say the same of
/// a policy that is steered.
#[test]
fn what_is_drawn_ahead_is_what_is_drawn() -> Result<()> {
    for (host, plug_ins) in [("fitnet", ROBUST), ("at", &idle("at")), ("kd", &idle("kd"))] {
        let (here, there) = (Scene::new()?, Scene::new()?);
        let losses = [here.host(host, plug_ins)?, there.host(host, plug_ins)?];
        for seed in 0..16 {
            let at = Step { steers: seed % 2 == 1, ..Step::first(Key::new(seed)) };
            let mut pair = here.pair()?;
            pair.student.mode = Mode::Probe;
            let due = losses[0].terms(&pair, &at)?;
            with_backend(Backend::Mirror, || -> Result<()> {
                let mut pair = there.pair()?;
                // Running statistics, about which batch norm centres its sums, stay as they are.
                pair.student.mode = Mode::Probe;
                let found = losses[1].terms(&pair, &at)?;
                assert_eq!(found.iter().count(), due.iter().count());
                for (found, due) in found.iter().zip(&due) {
                    assert_eq!((&found.name, found.weight.to_bits()), (&due.name, due.weight.to_bits()));
                    let apart = gap(&found.value, &due.value)?;
                    assert!(apart < 2e-5, "{host}, {seed}: {} is off by {apart}", found.name);
                }
                // Another draw lies there, then this one's again; who steers may not have said so.
                losses[1].draw(&Step { key: Key::new(seed + 1), ..at })?;
                losses[1].draw(&Step { steers: at.steers && seed % 4 == 1, ..at })?;
                let again = losses[1].terms(&pair, &Step { drawn: true, ..at })?;
                for (again, found) in again.iter().zip(&found) {
                    assert!(same(&again.value, &found.value)?, "{host}, {seed}: {}", again.name);
                }
                if at.steers {
                    let largest = |tensor: &Tensor| tensor.sqr()?.max_all()?.sqrt()?.to_scalar::<f32>();
                    for (found, due) in policys(&there, &again)?.iter().zip(&policys(&here, &due)?) {
                        let apart = largest(&(found - due)?)? / largest(due)?.max(1e-12);
                        assert!(apart < 1e-3, "{host}, {seed}: a policy's gradient is off by {apart}");
                    }
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// What eight steps of `phases` come to behind a loss, and what was said of captures. Nothing is held from one epoch to the next.
fn learned(
    scene: &Scene,
    loss: Box<dyn DistillLoss>,
    phases: &mut [Phase],
    epoch_each: bool,
) -> Result<(BTreeMap<String, Tensor>, Sums, Vec<String>)> {
    let (student, teacher) = networks(&scene.params)?;
    let term = TermOf { name: "distill".into(), weight: Schedule::default(), loss };
    let distiller = Distiller { student, teacher: Some(teacher), lens: None, terms: vec![term] };
    let (diary, mut tally) = (Diary::default(), Tally::default());
    let mut watch: Vec<Box<dyn Observer>> = vec![Box::new(diary.clone())];
    let mut steps = Steps::new(scene.params.clone());
    for index in 0..8 {
        let batch = Batch {
            images: (wave(&format!("images {index}"), &[LABELS.len(), 32, 32, 3], 0.5)? + 0.5)?,
            labels: Tensor::new(&LABELS, &Device::Cpu)?,
            rows: Tensor::arange(0, LABELS.len() as u32, &Device::Cpu)?,
        };
        let at =
            Step { index, epoch: if epoch_each { index as usize } else { 0 }, ..Step::first(Key::new(5)) };
        let now = Moment { epoch: 0, step: 0, steps: 8, epochs: 1 };
        let hand = Hand::alone(Shown::new(batch));
        steps.take(&distiller, phases, &hand, (at, now), &mut tally, &mut watch)?;
    }
    Ok((scene.params.tensors("")?, tally.sums()?, diary.said()))
}

fn student_phase(scene: &Scene) -> Result<Phase> {
    let optim: OptimSpec = serde_json::from_str(r#"{ "type": "sgd", "momentum": 0.9 }"#).expect("one");
    let vars = ["student", "adapter"].iter().flat_map(|group| scene.params.group(group)).collect();
    Ok(Phase {
        clip: Some(5.0),
        lr: LrSchedule { base: 0.01, ..LrSchedule::default() },
        ..Phase::new("student", optim.build(vars)?)
    })
}

/// SoKD with its search, the student clipped, as a GPU goes about it: told at one word from the third step on, or never.
#[test]
fn steps_of_policy_and_student_go_on_at_one_word_with_another_draw_in_each() -> Result<()> {
    let learn = |searches: bool, epoch_each: bool| -> Result<_> {
        let scene = Scene::new()?;
        let loss = scene.host("fitnet", ROBUST)?;
        let adam: OptimSpec = serde_json::from_str(r#"{ "type": "adam" }"#).expect("one");
        let policy = Phase {
            mode: Mode::Probe,
            toward: Some([("distill/aug".to_owned(), 1.0)].into()),
            update: UpdateSpec::Unroll(Unroll::default()).as_ref().start(&scene.params)?,
            lr: LrSchedule { base: 0.05, ..LrSchedule::default() },
            epochs: if searches { 0..8 } else { 8..9 },
            ..Phase::new("policy", adam.build(scene.params.group("policy"))?)
        };
        learned(&scene, loss, &mut [policy, student_phase(&scene)?], epoch_each)
    };
    with_backend(Backend::Mirror, || {
        // A policy that stands still is not asked again.
        for searches in [true, false] {
            let ((one, sums, told), (other, others, said)) =
                (learn(searches, true)?, learn(searches, false)?);
            assert!(told.is_empty() && said.iter().all(|said| said == "captured"), "{told:?}, {said:?}");
            assert_eq!(said.len(), if searches { 2 } else { 1 });
            assert_eq!(sums, others);
            let policy = sums.get("policy");
            assert!(policy.is_some_and(|sums| sums.contains_key("distill/level/rotate")) == searches);
            let executed = sums["student"].iter().filter(|(name, _)| name.starts_with("distill/drawn/"));
            assert!(executed.filter(|(_, (_, sum))| *sum > 0.0).count() > 2, "{sums:?}");
            for ((name, one), (_, other)) in one.iter().zip(&other) {
                assert!(same(one, other)?, "{name}");
            }
        }
        Ok(())
    })
}

/// CRD draws where its memories are, by a key that is new in every step.
#[test]
fn steps_that_draw_thousands_of_negatives_go_on_at_one_word() -> Result<()> {
    with_backend(Backend::Mirror, || {
        let learn = |epoch_each: bool| -> Result<_> {
            let scene = Scene::new()?;
            let loss = scene.host("crd", "[]")?;
            learned(&scene, loss, &mut [student_phase(&scene)?], epoch_each)
        };
        let ((one, sums, told), (other, others, said)) = (learn(true)?, learn(false)?);
        assert_eq!((told.len(), said, sums), (0, vec!["captured".to_owned()], others));
        for ((name, one), (_, other)) in one.iter().zip(&other) {
            assert!(same(one, other)?, "{name}");
        }
        Ok(())
    })
}
