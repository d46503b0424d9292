//! TST's search: its losses against the released code's numbers, what it moves, and whither.

use candle::{Device, Tensor};
use sokd_baselines::Tst;
use sokd_core::{
    Backbone, Batch, Batches as _, Build as _, BuildCx, DatasetInfo, Key, LearnSplit, Mode, Result, Step,
    Terms,
};
use sokd_data::{Augment, DataSpec, Loader, Locations, Shapes};
use sokd_losses::LossSpec;
use sokd_models::{ModelSpec, cifar_resnet::CifarResnet};
use sokd_nn::{LrSchedule, OptimSpec, Params, schedule};
use sokd_ops::{Backend, with_backend};
use sokd_tests::{Said, first, pair};
use sokd_train::{
    Descend, Distiller, Hand, Interlude, Outcome, Phase, Progress, Schedule, Shown, Stop, Tally, TermOf,
    Training, fit, step,
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

/// A teacher who learned, a student who has begun to, and the images of both.
struct Class {
    teacher: Params,
    student: Params,
    info: DatasetInfo,
    images: Loader,
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
    Ok(Phase {
        name: name.into(),
        toward: None,
        split: LearnSplit::Train,
        mode: Mode::Train,
        every: 1,
        epochs: 0..usize::MAX,
        interlude: None,
        update: Box::new(Descend {}),
        clip: None,
        optimizer: optim.build(params.group(group))?,
        lr: LrSchedule { base: lr, warmup_epochs: 0, decay },
    })
}

impl Class {
    /// Both have learned for so many epochs of ten steps.
    fn new(teacher: usize, student: usize) -> Result<Self> {
        let spec = DataSpec::Shapes(Shapes { train: 320, test: 10, ..Shapes::default() });
        let data = spec.open(&Locations::from_env())?;
        let info = data.info().clone();
        let images = Loader::new(data, LearnSplit::Train, 32, Augment::none(), Key::new(0))?.with_threads(0);
        let class =
            Self { teacher: Params::new(Key::new(1)), student: Params::new(Key::new(2)), info, images };
        class.teach(&class.teacher, teacher)?;
        class.teach(&class.student, student)?;
        Ok(class)
    }

    fn teach(&self, params: &Params, epochs: usize) -> Result<()> {
        let student = network(params.builder(&CPU).pp("student"), &self.info)?;
        let distiller = Distiller {
            student,
            teacher: None,
            lens: None,
            terms: vec![term("task", 1.0, "cross-entropy")?],
        };
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

    /// Student and teacher behind TST's lens, whose policy begins anew.
    fn distiller(&self, policy: &Params) -> Result<Distiller> {
        let tst = Tst { cutout: 16, ..Tst::default() };
        Ok(Distiller {
            student: network(self.student.builder(&CPU).pp("student"), &self.info)?,
            teacher: Some(network(self.teacher.frozen(&CPU).pp("student"), &self.info)?),
            lens: Some(Box::new(tst.module(&BuildCx::alone(policy.builder(&CPU), &self.info))?)),
            terms: vec![
                term("task", 1.0, "cross-entropy")?,
                term("search-teacher", 0.0, "teacher-cross-entropy")?,
                term("search-student", 0.0, "unlikelihood")?,
            ],
        })
    }

    /// A policy after a search toward some terms.
    fn search(&self, toward: &[(&str, f64)]) -> Result<Params> {
        let policy = Params::new(Key::new(4));
        let distiller = self.distiller(&policy)?;
        let mut search = phase("search", "augment", &policy, 0.2)?;
        search.mode = Mode::Eval;
        search.toward = Some(toward.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect());
        search.interlude = Some(Interlude { before: vec![0], passes: 3, plateau: None });
        let mut run = self.training(distiller, vec![search], &policy, 1);
        let outcome = fit(&mut run, Progress::default(), None, &Stop::default(), &mut [])?;
        assert!(matches!(outcome, Outcome::Finished(at) if at.aside.steps == 30));

        Ok(policy)
    }

    /// What teacher and student give the label of images that a policy has changed, on average over many draws, and the
    /// search's own two losses.
    fn known(&self, policy: &Params) -> Result<[f64; 4]> {
        let mut sums = [0.0; 4];
        let mut count = 0.0;
        self.draws(policy, &["search-teacher", "search-student"], |terms| {
            let of = |name: &str| -> Result<Vec<f64>> {
                let term = terms.iter().find(|term| term.name.starts_with(name)).expect("it was asked");
                Ok(term.value.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
            };
            for (teacher, student) in of("search-teacher")?.into_iter().zip(of("search-student")?) {
                let unknown = (-student).exp() - 1e-8;
                for (sum, one) in sums.iter_mut().zip([(-teacher).exp(), 1.0 - unknown, teacher, student]) {
                    *sum += one;
                }
                count += 1.0;
            }
            Ok(())
        })?;
        Ok(sums.map(|sum| sum / count))
    }

    /// Some draws of a policy over all images, always the same ones, and what is said of each batch.
    fn draws(
        &self,
        policy: &Params,
        toward: &[&str],
        mut each: impl FnMut(Terms) -> Result<()>,
    ) -> Result<()> {
        let distiller = self.distiller(policy)?;
        let toward = Some(toward.iter().map(|&name| (name.to_owned(), 1.0)).collect());
        for draw in 0..3 {
            for (index, batch) in self.images.epoch(0, 0).enumerate() {
                let at = Step { focuses: true, ..Step::first(Key::new(draw).fold_in(index as u64)) };
                each(distiller.terms(&Shown::new(batch?), Mode::Eval, &toward, &at)?)?;
            }
        }
        Ok(())
    }

    /// A policy a little way down the gradient of a term over these draws.
    fn lean(&self, toward: &str) -> Result<Params> {
        let policy = Params::new(Key::new(4));
        let _ = self.distiller(&policy)?;
        let vars = policy.group("augment");
        let mut slopes: Vec<Tensor> =
            vars.iter().map(|(_, var)| Ok(var.zeros_like()?)).collect::<Result<_>>()?;
        self.draws(&policy, &[toward], |terms| {
            let found = terms.total()?.expect("it has a term").backward()?;
            for (slope, (_, var)) in slopes.iter_mut().zip(&vars) {
                *slope = (&*slope + found.get(var).expect("it is searched"))?;
            }
            Ok(())
        })?;
        let mut square = 0.0;
        for slope in &slopes {
            square += f64::from(slope.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        for (slope, (_, var)) in slopes.iter().zip(&vars) {
            var.set(&(var.as_tensor() - (slope * (0.05 / square.sqrt()))?)?)?;
        }
        Ok(policy)
    }
}

/// A search lowers what it asks of the teacher, and the sum of both parts without taking anything from the teacher.
///
/// The student's part is a mean of −log(1 − p), which a few images that it is sure of decide: a search of thirty steps, each over
/// draws of its own, may end on either side. Down the gradient over the draws that are judged it falls.
#[test]
fn a_search_goes_where_it_should() -> Result<()> {
    let class = Class::new(12, 7)?;
    let untouched = Params::new(Key::new(4));
    let [teacher, student, of_teacher, of_student] = class.known(&untouched)?;
    let toward_teacher = class.known(&class.search(&[("search-teacher", 1.0)])?)?;
    let toward_student = class.known(&class.lean("search-student")?)?;
    let toward_both = class.known(&class.search(&[("search-teacher", 1.0), ("search-student", 1.0)])?)?;
    let told = format!(
        "p and losses of teacher and student before: {:.4?}; toward the teacher: {toward_teacher:.4?}; toward the student: \
         {toward_student:.4?}; toward both: {toward_both:.4?}",
        [teacher, student, of_teacher, of_student]
    );
    println!("{told}");
    assert!(toward_teacher[0] > teacher && toward_teacher[2] < of_teacher, "{told}");
    assert!(toward_student[3] < of_student, "{told}");
    assert!(toward_both[0] > teacher && toward_both[2] + toward_both[3] < of_teacher + of_student, "{told}");
    Ok(())
}

/// Through both networks at rest, the lens and its encoders: what our kernels say is what candle's own operations say.
#[test]
fn a_search_has_the_gradient_of_plain_operations() -> Result<()> {
    let class = Class::new(12, 7)?;
    let gradients = |toward: &str| -> Result<Vec<f32>> {
        let policy = Params::new(Key::new(4));
        let distiller = class.distiller(&policy)?;
        let toward = Some([(toward.to_owned(), 1.0)].into());
        let batch = class.images.epoch(0, 0).next().expect("a batch")?;
        let at = Step { focuses: true, ..Step::first(Key::new(0)) };
        let terms = distiller.terms(&Shown::new(batch), Mode::Eval, &toward, &at)?;
        let found = terms.total()?.expect("it has a term").backward()?;
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
    let class = Class::new(0, 0)?;
    let policy = Params::new(Key::new(4));
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
        step(&distiller, &mut [phase], &hand, (at, moment), &mut tally, &mut [])?;
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
