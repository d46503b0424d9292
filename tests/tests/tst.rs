//! TST's search: its losses against the released code's numbers, what it moves, and whither.

use candle::{Device, Tensor};
use sokd_baselines::{Tst, tst::Operation};
use sokd_core::{
    Backbone, Batch, Batches as _, Build as _, BuildCx, DatasetInfo, Key, LearnSplit, Lens, Mode, Result,
    Step,
};
use sokd_data::{Augment, DataSpec, Loader, Locations, Shapes};
use sokd_losses::LossSpec;
use sokd_models::{ModelSpec, cifar_resnet::CifarResnet};
use sokd_nn::{LrSchedule, OptimSpec, Params, schedule};
use sokd_ops::{Backend, operation_by_operation, with_backend};
use sokd_tests::{Diary, Said, first, pair};
use sokd_train::{
    Descend, Distiller, Hand, Interlude, Observer, Outcome, Phase, Progress, Schedule, Shown, Steps, Stop,
    Tally, TermOf, Training, Update as _, fit,
};
use sokd_world::ALONE;
use std::collections::BTreeMap;

const CPU: Device = Device::Cpu;

fn said(logits: &[[f32; 3]; 2]) -> Result<Said> {
    let blank = Tensor::zeros((2, 1, 1, 1), candle::DType::F32, &CPU)?;
    Said::new(Tensor::new(logits, &CPU)?, blank.reshape((2, 1))?, vec![blank], 1)
}

/// All that a loss without weights needs to know.
fn nothing() -> BuildCx<'static> {
    let vars = Params::new(Key::new(0)).builder(&CPU);
    BuildCx { vars, data: None, teacher: None, student: None, preview: None }
}

/// The means over two examples that the released code's formulas give.
#[test]
fn losses_of_search_and_student_have_the_released_values() -> Result<()> {
    let student = said(&[[2.0, 0.0, -1.0], [0.5, 1.5, -0.5]])?;
    let teacher = said(&[[4.0, 0.0, -2.0], [0.0, 3.0, -1.0]])?;
    let images = Tensor::zeros((2, 1, 1, 3), candle::DType::F32, &CPU)?;
    let pair = pair(&student, &teacher, images, &[0, 1])?;
    let value = |loss: &str| -> Result<f64> {
        let loss: LossSpec = serde_json::from_str(loss).expect("a loss");
        let total = loss.build(&nothing())?.terms(&pair, &first())?.total()?.expect("it has a term");
        Ok(f64::from(total.to_scalar::<f32>()?))
    };
    for (loss, known) in [
        (r#"{ "type": "teacher-cross-entropy" }"#, 0.043_232_5),
        (r#"{ "type": "unlikelihood" }"#, 1.475_464_1),
        (r#"{ "type": "unlikelihood", "form": "neg-ce" }"#, -0.288_726_0),
        (r#"{ "type": "cross-entropy" }"#, 0.288_726_0),
        (r#"{ "type": "kd", "temperature": 1.0 }"#, 0.160_148_1),
        (r#"{ "type": "kd", "temperature": 4.0 }"#, 0.622_520_1),
    ] {
        let got = value(loss)?;
        assert!((got - known).abs() < 2e-6, "{loss}: {got} instead of {known}");
    }
    Ok(())
}

/// A teacher, a student, the images of both and what may happen to them.
struct Class {
    teacher: Params,
    student: Params,
    info: DatasetInfo,
    images: Loader,
    tst: Tst,
}

fn network(vars: candle_nn::VarBuilder<'static>, info: &DatasetInfo) -> Result<Box<dyn Backbone>> {
    let spec = ModelSpec::CifarResnet(CifarResnet { depth: 8, widths: [8, 8, 16, 32] });
    spec.build(&BuildCx::alone(vars, info))
}

fn term(name: &str, weight: f64, loss: &str) -> Result<TermOf> {
    let loss: LossSpec = serde_json::from_str(&format!(r#"{{ "type": "{loss}" }}"#)).expect("a loss");
    Ok(TermOf { name: name.into(), weight: Schedule::Constant(weight), loss: loss.build(&nothing())? })
}

fn phase(name: &str, group: &str, params: &Params, lr: f64) -> Result<Phase> {
    let optim = r#"{ "type": "sgd", "momentum": 0.9, "weight-decay": 0.0 }"#;
    let optim: OptimSpec = serde_json::from_str(optim).expect("an optimiser");
    let decay = schedule::DecaySpec::Constant(schedule::Constant {});
    let lr = LrSchedule { base: lr, warmup_epochs: 0, decay };
    Ok(Phase { lr, ..Phase::new(name, optim.build(params.group(group))?) })
}

impl Class {
    /// Neither has learned anything.
    fn new() -> Result<Self> {
        let spec = DataSpec::Shapes(Shapes { train: 320, test: 10, ..Shapes::default() });
        let data = spec.open(&Locations::from_env())?;
        let info = data.info().clone();
        let images = Loader::new(data, LearnSplit::Train, 32, Augment::none(), Key::new(0))?.with_threads(0);
        let tst = Tst { cutout: 16, ..Tst::default() };
        Ok(Self { teacher: Params::new(Key::new(1)), student: Params::new(Key::new(2)), info, images, tst })
    }

    /// The teacher has learned for 12 epochs of ten steps, the student for 7.
    fn learned() -> Result<Self> {
        let class = Self::new()?;
        class.teach(&class.teacher, 12, None)?;
        class.teach(&class.student, 7, None)?;
        Ok(class)
    }

    /// Each has learned, for 40 epochs, to see through one operation, and has never met the other's.
    fn divided(teacher: Operation, student: Operation) -> Result<Self> {
        let mut class = Self::new()?;
        for (params, operation) in [(class.teacher.clone(), teacher), (class.student.clone(), student)] {
            class.tst = Tst { operations: vec![operation], drawn: 1, ..class.tst };
            class.teach(&params, 40, Some(class.lens(&policy())?))?;
        }
        class.tst = Tst { operations: vec![teacher, student], drawn: 2, ..class.tst };
        Ok(class)
    }

    fn teach(&self, params: &Params, epochs: usize, lens: Option<Box<dyn Lens>>) -> Result<()> {
        let student = network(params.builder(&CPU).pp("student"), &self.info)?;
        let distiller =
            Distiller { student, teacher: None, lens, terms: vec![term("task", 1.0, "cross-entropy")?] };
        let mut run =
            self.training(distiller, vec![phase("student", "student", params, 0.05)?], params, epochs);
        fit(&mut run, Progress::default(), None, &Stop::default(), &mut [])?;
        Ok(())
    }

    fn training(
        &self,
        distiller: Distiller,
        phases: Vec<Phase>,
        params: &Params,
        epochs: usize,
    ) -> Training<'_> {
        Training {
            distiller,
            phases,
            params: params.clone(),
            ema: None,
            train: &self.images,
            search: None,
            exams: Vec::new(),
            epochs,
            steps: None,
            key: Key::new(3),
            world: &ALONE,
        }
    }

    fn lens(&self, policy: &Params) -> Result<Box<dyn Lens>> {
        Ok(Box::new(self.tst.module(&BuildCx::alone(policy.builder(&CPU), &self.info))?))
    }

    /// Student and teacher behind TST's lens.
    fn distiller(&self, policy: &Params) -> Result<Distiller> {
        Ok(Distiller {
            student: network(self.student.builder(&CPU).pp("student"), &self.info)?,
            teacher: Some(network(self.teacher.frozen(&CPU).pp("student"), &self.info)?),
            lens: Some(self.lens(policy)?),
            terms: vec![
                term("task", 1.0, "cross-entropy")?,
                term("search-teacher", 0.0, "teacher-cross-entropy")?,
                term("search-student", 0.0, "unlikelihood")?,
            ],
        })
    }

    /// What a policy has come to after a search toward some terms: five passes over the images.
    fn search(&self, toward: &[&str], key: u64, watch: &mut [Box<dyn Observer>]) -> Result<Params> {
        let policy = policy();
        let distiller = self.distiller(&policy)?;
        let mut search = phase("search", "augment", &policy, 0.1)?;
        search.mode = Mode::Eval;
        search.toward = Some(toward.iter().map(|&name| (name.to_owned(), 1.0)).collect());
        search.interlude = Some(Interlude { before: vec![0], passes: 5, plateau: None });
        let mut run = Training { key: Key::new(key), ..self.training(distiller, vec![search], &policy, 1) };
        let outcome = fit(&mut run, Progress::default(), None, &Stop::default(), watch)?;
        assert!(matches!(outcome, Outcome::Finished(at) if at.aside.steps == 50));

        Ok(policy)
    }

    /// The probabilities that teacher and student give the label of images that a policy has changed: means over three
    /// draws of every batch, always the same ones.
    fn known(&self, policy: &Params) -> Result<[f64; 2]> {
        let distiller = self.distiller(policy)?;
        let asked = ["search-teacher", "search-student"];
        let toward = Some(asked.map(|name| (name.to_owned(), 1.0)).into());
        let mut probabilities = [Vec::new(), Vec::new()];
        for draw in 0..3 {
            for (index, batch) in self.images.epoch(0, 0).enumerate() {
                let at = Step { focuses: true, ..Step::first(Key::new(draw).fold_in(index as u64)) };
                let terms = distiller.terms(&Shown::new(batch?), Mode::Eval, &toward, &at)?;
                for (name, probabilities) in asked.iter().zip(&mut probabilities) {
                    let term = terms.iter().find(|term| term.name.starts_with(name)).expect("it was asked");
                    // Of the teacher −log p is said, and of the student −log(1 − p).
                    let said = term.value.to_vec1::<f32>()?.into_iter().map(|said| f64::from(-said).exp());
                    probabilities.extend(said.map(|p| if *name == "search-teacher" { p } else { 1.0 - p }));
                }
            }
        }
        Ok(probabilities.map(|all| all.iter().sum::<f64>() / all.len() as f64))
    }
}

/// A policy that begins.
fn policy() -> Params {
    Params::new(Key::new(4))
}

/// It finds images that the teacher knows better than before and the student less.
///
/// The teacher sees through solarised images and the student through moved ones: what a search should find is there to be
/// found. Of a teacher and a student who learned the same, both mostly rise and fall together.
#[test]
fn a_search_goes_where_it_should() -> Result<()> {
    let class = Class::divided(Operation::Solarize, Operation::TranslateX)?;
    let [teacher, student] = class.known(&policy())?;
    println!("before: {teacher:.4} {student:.4}");
    for (toward, keys) in [
        (&["search-teacher", "search-student"][..], &[3, 5, 6][..]),
        (&["search-teacher"], &[3]),
        (&["search-student"], &[3]),
    ] {
        for &key in keys {
            let after = class.known(&class.search(toward, key, &mut [])?)?;
            let told = format!("toward {toward:?}: {teacher:.4} {student:.4} became {after:.4?}");
            println!("{told}");
            assert!(!toward.contains(&"search-teacher") || after[0] > teacher, "{told}");
            assert!(!toward.contains(&"search-student") || after[1] < student, "{told}");
        }
    }
    Ok(())
}

/// Through both networks at rest, the lens and its encoders: what our kernels say is what candle's own operations say.
#[test]
fn a_search_has_the_gradient_of_plain_operations() -> Result<()> {
    let class = Class::learned()?;
    let gradients = |toward: &str| -> Result<Vec<f32>> {
        let policy = policy();
        let distiller = class.distiller(&policy)?;
        let toward = Some([(toward.to_owned(), 1.0)].into());
        let hand = Hand::alone(Shown::new(class.images.epoch(0, 0).next().expect("a batch")?));
        let at = Step { focuses: true, ..Step::first(Key::new(0)) };
        let search = Phase { mode: Mode::Eval, toward, ..phase("search", "augment", &policy, 0.1)? };
        let (_, found) = Descend {}.grads(&distiller, &search, &hand, &at)?;
        let mut all = Vec::new();
        for (_, var) in policy.group("augment") {
            all.extend(found.get(&var).expect("it is searched").flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(all)
    };
    for toward in ["search-teacher", "search-student"] {
        let ours = gradients(toward)?;
        let plain = with_backend(Backend::Composed, || gradients(toward))?;
        let size = plain.iter().fold(0.0_f32, |size, value| size.max(value.abs()));
        let gap = ours.iter().zip(&plain).fold(0.0_f32, |gap, (a, b)| gap.max((a - b).abs()));
        println!("{toward}: {gap:e} of {size:e}");
        assert!(ours.len() == 25 && gap < 1e-3 * size, "{toward}: {gap} of {size}");
    }
    Ok(())
}

/// The lens is told operation by operation, what it draws and how it learns; the networks behind it at one word. It comes to
/// the same bits.
#[test]
fn a_search_goes_on_at_one_word() -> Result<()> {
    let (class, toward) = (Class::new()?, ["search-teacher", "search-student"]);
    with_backend(Backend::Mirror, || {
        let (told, diary) = (Diary::default(), Diary::default());
        let one = operation_by_operation(|| class.search(&toward, 3, &mut [Box::new(told.clone())]))?;
        let other = class.search(&toward, 3, &mut [Box::new(diary.clone())])?;
        assert!(bits(&one.tensors("")?)? == bits(&other.tensors("")?)?);
        assert_ne!(bits(&one.tensors("")?)?, bits(&policy().tensors("")?)?);
        assert_eq!((told.said().len(), diary.said()), (0, vec!["captured".to_owned(); 5]));
        Ok(())
    })
}

fn bits(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<Vec<u32>>> {
    let bits = |tensor: &Tensor| -> Result<Vec<u32>> {
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    tensors.values().map(bits).collect()
}

/// Student, running statistics and teacher stay as they are, to the bit, and 25 numbers move; a step of the student's
/// leaves those alone and sees every image twice.
#[test]
fn a_search_moves_twenty_five_numbers() -> Result<()> {
    let class = Class::new()?;
    let policy = policy();
    let distiller = class.distiller(&policy)?;
    let mut search = phase("search", "augment", &policy, 0.1)?;
    search.mode = Mode::Eval;
    search.toward = Some([("search-teacher".to_owned(), 1.0), ("search-student".to_owned(), 1.0)].into());
    let learn = phase("student", "student", &class.student, 0.1)?;
    let state = || -> Result<[Vec<Vec<u32>>; 3]> {
        Ok([
            bits(&class.student.tensors("")?)?,
            bits(&class.teacher.tensors("")?)?,
            bits(&policy.tensors("")?)?,
        ])
    };
    let act = |phase: Phase, index: u64| -> Result<Tally> {
        let mut tally = Tally::default();
        let batch: Batch = class.images.epoch(0, index as usize).next().expect("a batch")?;
        let hand = Hand::alone(Shown::new(batch));
        let moment = sokd_nn::Moment { epoch: 0, step: 0, steps: 1, epochs: 1 };
        let at = Step { index, ..Step::first(Key::new(9)) };
        let mut steps = Steps::new(policy.clone());
        steps.take(&distiller, &mut [phase], &hand, (at, moment), &mut tally, &mut [])?;
        Ok(tally)
    };
    let before = state()?;
    act(search, 0)?;
    let searched = state()?;
    assert_eq!(before[..2], searched[..2]);
    assert_ne!(before[2], searched[2]);
    assert_eq!(searched[2].iter().map(Vec::len).sum::<usize>(), 25);

    act(learn, 1)?;
    let learned = state()?;
    assert_ne!(searched[0], learned[0]);
    assert_eq!(searched[1..], learned[1..]);

    // What the student is asked of is the mean over both halves.
    let batch = class.images.epoch(0, 2).next().expect("a batch")?;
    let at = Step::first(Key::new(11));
    let terms = distiller.terms(&Shown::new(batch.clone()), Mode::Eval, &None, &at)?;
    let task = terms.iter().find(|term| term.name == "task/ce").expect("it was asked");
    assert_eq!(task.value.dims(), [64]);
    let lens = Step { key: at.key.fold("lens"), ..at };
    let (seen, _) = distiller.lens.as_ref().expect("a lens").look(&batch, &lens)?;
    let again = Distiller { lens: None, ..class.distiller(&policy)? };
    let again = again.terms(&Shown::new(seen), Mode::Eval, &None, &at)?;
    let again = again.iter().find(|term| term.name == "task/ce").expect("it was asked");
    assert!(sokd_tests::same(&task.value, &again.value)?);
    Ok(())
}
