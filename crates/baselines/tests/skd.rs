//! SKD (reference design after the abstract) against numbers computed apart from it, differences and laws. Long, because
//! all stand on one scene: three examples of four classes, `Z_T[i] = 4 sin(0.8 i + 0.2)`, `Z_S[i] = 2 cos(0.6 i)`.

use candle::{DType, Device, Tensor, Var, backprop::GradStore};
use sokd_baselines::{
    Skd,
    skd::{Axis, Form, Norm, OutInit},
};
use sokd_core::{
    Backbone as _, Batch, Build as _, BuildCx, DistillLoss, Error, Key, Mode, Pair, Refined, Result, Step,
    Terms,
};
use sokd_losses::{LossSpec, cross_entropy::CrossEntropy, kd::Kd};
use sokd_nn::Params;
use sokd_ops::{Backend, with_backend};
use sokd_tests::{Said, data, first, gap, near, pair, same, slopes, wave};
use sokd_train::{Distiller, Schedule, Shown, TermOf};
use std::collections::BTreeMap;

const CLASSES: usize = 4;
const LABELS: [u32; 3] = [0, 1, 2];

fn skd(settings: &str) -> Skd {
    toml::from_str(settings).expect("settings of SKD")
}

fn series(shape: (usize, usize), value: impl Fn(f64) -> f64) -> Result<Tensor> {
    let values: Vec<f64> = (0..shape.0 * shape.1).map(|i| value(i as f64)).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn teachers() -> Result<Tensor> {
    series((3, CLASSES), |i| 4.0 * (0.8 * i + 0.2).sin())
}

fn students() -> Result<Tensor> {
    series((3, CLASSES), |i| 2.0 * (0.6 * i).cos())
}

fn rows(tensor: &Tensor, rows: &[u32]) -> Result<Tensor> {
    Ok(tensor.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?)
}

/// A plug-in of that many classes and its weights, in double precision.
struct Scene {
    skd: Skd,
    params: Params,
    dtype: DType,
}

impl Scene {
    fn new(settings: &str) -> Self {
        Self { skd: skd(settings), params: Params::new(Key::new(3)), dtype: DType::F64 }
    }

    /// With the weights of the numbers: `W_Q[i] = 0.3 sin(0.5 i)` and so on.
    fn known(settings: &str) -> Result<Self> {
        let scene = Self::new(settings);
        scene.simplified(&teachers()?)?;
        let square = (CLASSES, CLASSES);
        scene.set("query", &series(square, |i| 0.3 * (0.5 * i).sin())?)?;
        scene.set("key", &series(square, |i| 0.3 * (0.7 * i).cos())?)?;
        scene.set("value", &series(square, |i| 0.3 * (1.1 * i + 0.4).sin())?)?;
        scene.set("out", &series(square, |i| 0.3 * (0.2 * i + 0.1).cos())?)?;
        Ok(scene)
    }

    /// With no weight at its start, so that each has a gradient.
    fn moved(settings: &str) -> Result<Self> {
        let scene = Self::new(settings);
        scene.simplified(&teachers()?)?;
        for (name, var) in scene.params.group("adapter") {
            let noise = wave(&name, var.dims(), 0.5)?.to_dtype(DType::F64)?;
            var.set(&(var.as_detached_tensor() + noise)?)?;
        }
        Ok(scene)
    }

    fn set(&self, layer: &str, weight: &Tensor) -> Result<()> {
        let name = format!("adapter.skd.{layer}.weight");
        let group = self.params.group("adapter");
        let (_, var) = group.iter().find(|(known, _)| *known == name).expect("a layer of the simplifier");
        Ok(var.set(weight)?)
    }

    fn said(logits: &Tensor) -> Result<Said> {
        let (batch, map) = (logits.dim(0)?, (logits.dim(0)?, 2, 2, 1));
        let blank = Tensor::zeros(map, logits.dtype(), &Device::Cpu)?;
        let pooled = Tensor::zeros((batch, 1), logits.dtype(), &Device::Cpu)?;
        Said::new(logits.clone(), pooled, vec![blank], 2)
    }

    fn build<T>(&self, made: impl FnOnce(&BuildCx<'_>) -> Result<T>) -> Result<T> {
        let data = data(CLASSES, [2, 2]);
        let net = Self::said(&teachers()?)?;
        let vars = self.params.builder(&Device::Cpu).to_dtype(self.dtype);
        made(&BuildCx {
            vars,
            data: Some(&data),
            student: Some(net.info()),
            teacher: Some(net.info()),
            preview: None,
        })
    }

    /// U, and A where there is attention.
    fn simplified(&self, logits: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let simple = self.build(|cx| self.skd.simplifier(cx))?.forward(logits, 1)?;
        Ok(((simple.logits / self.skd.temperature)?, simple.attention))
    }

    /// What a loss behind the plug-in says.
    fn terms(&self, host: &LossSpec, student: &Tensor, teacher: &Tensor, labels: &[u32]) -> Result<Terms> {
        self.terms_at(&first(), host, student, teacher, labels)
    }

    fn terms_at(
        &self,
        at: &Step,
        host: &LossSpec,
        student: &Tensor,
        teacher: &Tensor,
        labels: &[u32],
    ) -> Result<Terms> {
        let loss = self.build(|cx| Ok(Refined { refiner: self.skd.build(cx)?, loss: host.build(cx)? }))?;
        let (student, teacher) = (Self::said(student)?, Self::said(teacher)?);
        loss.terms(&shown(&student, &teacher, labels)?, at)
    }

    fn kd(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        let terms = self.terms(&kd(self.skd.temperature), student, teacher, &LABELS)?;
        Ok(terms.total()?.expect("a host has terms"))
    }
}

fn shown<'a>(student: &'a Said, teacher: &'a Said, labels: &[u32]) -> Result<Pair<'a>> {
    let dtype = student.head(&Tensor::zeros(1, DType::F32, &Device::Cpu)?, Mode::Eval)?.logits.dtype();
    pair(student, teacher, Tensor::zeros((labels.len(), 2, 2, 3), dtype, &Device::Cpu)?, labels)
}

fn kd(temperature: f64) -> LossSpec {
    LossSpec::Kd(Kd { temperature })
}

fn host(settings: &str) -> LossSpec {
    toml::from_str(settings).expect("a loss")
}

/// The host with nothing in front of it.
fn bare(host: &LossSpec, student: &Tensor, teacher: &Tensor) -> Result<Terms> {
    let (student, teacher) = (Scene::said(student)?, Scene::said(teacher)?);
    let loss = Scene::new("").build(|cx| host.build(cx))?;
    loss.terms(&shown(&student, &teacher, &LABELS)?, &first())
}

fn reading(terms: &Terms, name: &str) -> Result<f64> {
    let term = terms.iter().find(|term| term.name == name).unwrap_or_else(|| panic!("no {name}"));
    assert!(term.weight == 0.0 || ["anchor", "task"].contains(&name));
    Ok(term.value.to_dtype(DType::F64)?.mean_all()?.to_scalar()?)
}

/// 1. With nothing to say, KD as it is.
#[test]
fn identity_and_an_output_of_zeros_are_kd() -> Result<()> {
    let (student, teacher) = (students()?, teachers()?);
    let task = bare(&LossSpec::CrossEntropy(CrossEntropy::default()), &student, &teacher)?;
    near("CE", &task.total()?.expect("it has a term"), &[1.198_716_309_4], 1e-10)?;
    for settings in ["simplifier = 'identity'", "", "simplifier = 'mlp'", "axis = 'class'\nheads = 2"] {
        near(settings, &Scene::new(settings).kd(&student, &teacher)?, &[0.714_829_519_1], 1e-9)?;
    }
    Ok(())
}

/// 1., to the bit, in single precision: the host's terms, and the student's gradients.
#[test]
fn a_simplifier_that_says_nothing_leaves_every_host_as_it_is() -> Result<()> {
    // 3 is no power of 2: to divide by it and to multiply again would change bits.
    let hosts = [
        "type = 'kd'\ntemperature = 3.0",
        "type = 'dkd'\ntemperature = 3.0",
        "type = 'kd'\ntemperature = 1.0",
    ];
    let forms = [
        "simplifier = 'identity'",
        "",
        "axis = 'class'",
        "simplifier = 'linear'",
        "simplifier = 'mlp'\nwidth = 3",
        "norm = 'pre'\nheads = 4",
        "softening = 'probabilities'",
        "softening = 'none'",
        "out-init = 'xavier'\nwarmup-epochs = 1",
    ];
    for host in hosts.map(host) {
        let student = Var::from_tensor(&wave("student", &[3, CLASSES], 4.0)?)?;
        let teacher = wave("teacher", &[3, CLASSES], 6.0)?;
        let total = |terms: &Terms| -> Result<_> { Ok(terms.total()?.expect("a host has terms")) };
        let grad =
            |total: &Tensor| -> Result<_> { Ok(total.backward()?.remove(&student).expect("it learns")) };
        let plain = total(&bare(&host, &student, &teacher)?)?;
        let plain_grad = grad(&plain)?;
        for settings in forms {
            let scene = Scene { dtype: DType::F32, ..Scene::new(&format!("temperature = 3.0\n{settings}")) };
            let behind = total(&scene.terms(&host, &student, &teacher, &LABELS)?)?;
            assert!(same(&plain, &behind)?, "{}: {settings}", host.name());
            assert!(same(&plain_grad, &grad(&behind)?)?, "{}: {settings}", host.name());
            let speaks = Scene { dtype: DType::F32, ..Scene::new("temperature = 3.0\nout-init = 'xavier'") };
            assert!(!same(&plain, &total(&speaks.terms(&host, &student, &teacher, &LABELS)?)?)?);
        }
    }
    Ok(())
}

/// 2.
#[test]
fn attention_and_its_answer_are_the_known_ones() -> Result<()> {
    let scene = Scene::known("")?;
    let (simplified, attention) = scene.simplified(&teachers()?)?;
    let attention = attention.expect("it attends").squeeze(0)?.squeeze(0)?;
    near("A", &attention.narrow(0, 0, 1)?, &[0.266_373_11, 0.467_595_48, 0.266_031_40], 1e-7)?;
    let known = [0.202_607_87, 0.844_959_28, 0.974_769_73, 0.513_297_94];
    near("U", &simplified.narrow(0, 0, 1)?, &known, 1e-7)?;
    near("KL", &scene.kd(&students()?, &teachers()?)?, &[0.727_193_381_4], 1e-9)?;

    // In single precision, in which weights are trained.
    let single = Scene { dtype: DType::F32, ..Scene::new("") };
    single.build(|cx| single.skd.simplifier(cx))?;
    for (name, var) in single.params.group("adapter") {
        let (_, double) =
            scene.params.group("adapter").into_iter().find(|(known, _)| *known == name).expect("it");
        var.set(&double.to_dtype(DType::F32)?)?;
    }
    let float = |tensor: Tensor| -> Result<Tensor> { Ok(tensor.to_dtype(DType::F32)?) };
    near("KL, f32", &single.kd(&float(students()?)?, &float(teachers()?)?)?, &[0.727_193_381_4], 1e-5)
}

/// 3.
#[test]
fn a_batch_is_a_set() -> Result<()> {
    let (student, teacher) = (students()?, teachers()?);
    for settings in ["", "heads = 2\nnorm = 'pre'", "axis = 'class'", "norm = 'post'\nresidual = false"] {
        let scene = if settings.is_empty() { Scene::known("")? } else { Scene::moved(settings)? };
        let (simplified, attention) = scene.simplified(&teacher)?;
        let sums = attention.expect("it attends").sum(candle::D::Minus1)?;
        assert!(gap(&sums, &sums.ones_like()?)? < 1e-15, "{settings}");

        let turned = [2, 0, 1];
        let (moved, _) = scene.simplified(&rows(&teacher, &turned)?)?;
        assert!(gap(&moved, &rows(&simplified, &turned)?)? < 1e-14, "{settings}: U of a permuted batch");
        let terms =
            scene.terms(&kd(4.0), &rows(&student, &turned)?, &rows(&teacher, &turned)?, &[2, 0, 1])?;
        let total = terms.total()?.expect("a host has terms");
        assert!(gap(&total, &scene.kd(&student, &teacher)?)? < 1e-12, "{settings}: the loss");

        let (twins, _) = scene.simplified(&rows(&teacher, &[0, 1, 1, 2])?)?;
        assert!(gap(&twins.narrow(0, 1, 1)?, &twins.narrow(0, 2, 1)?)? == 0.0, "{settings}: twins");
    }
    Ok(())
}

/// 3., the other side: it is company that attention mixes, and nothing else does.
#[test]
fn only_attention_over_the_batch_knows_its_company() -> Result<()> {
    let teacher = teachers()?;
    for (settings, alone) in
        [("", false), ("axis = 'class'", true), ("simplifier = 'linear'", true), ("simplifier = 'mlp'", true)]
    {
        let scene = Scene::moved(settings)?;
        let whole = scene.simplified(&teacher)?.0.narrow(0, 1, 1)?;
        let single = scene.simplified(&teacher.narrow(0, 1, 1)?)?.0;
        assert_eq!(gap(&whole, &single)? < 1e-13, alone, "{settings}");
    }
    Ok(())
}

/// What a lens shows twice attends to its own showing, unless it is asked to mix.
#[test]
fn showings_attend_apart() -> Result<()> {
    let (student, teacher) = (students()?, teachers()?);
    let twice = |tensor: &Tensor, again: &Tensor| Tensor::cat(&[tensor, again], 0);
    let other = (&teacher * 0.5)?;
    for (settings, apart) in [("", true), ("showings-apart = false", false), ("axis = 'class'", true)] {
        let scene = Scene::moved(settings)?;
        let refiner = scene.build(|cx| scene.skd.build(cx))?;
        let logits = |teacher: &Tensor, showings: usize| -> Result<Tensor> {
            let labels: Vec<u32> = (0..teacher.dim(0)? as u32).map(|row| row % 3).collect();
            let (one, two) = (Scene::said(&twice(&student, &student)?)?, Scene::said(teacher)?);
            let (pair, _) = refiner.refine(Pair { showings, ..shown(&one, &two, &labels)? }, &first())?;
            Ok(pair.teacher("the test")?.out.logits.clone())
        };
        let both = logits(&twice(&teacher, &other)?, 2)?;
        let single = twice(&logits(&teacher, 1)?, &logits(&other, 1)?)?;
        assert_eq!(gap(&both, &single)? < 1e-13, apart, "{settings}");
        // Six different examples are one company.
        let mixed = logits(&twice(&teacher, &other)?, 1)?;
        assert_eq!(gap(&both, &mixed)? < 1e-13, !settings.is_empty(), "{settings}");
    }
    Ok(())
}

/// 4.
#[test]
fn a_batch_of_one_attends_to_itself() -> Result<()> {
    let scene = Scene::known("")?;
    let one = teachers()?.narrow(0, 0, 1)?;
    let (simplified, attention) = scene.simplified(&one)?;
    assert_eq!(attention.expect("it attends").flatten_all()?.to_vec1::<f64>()?, [1.0]);
    let weight = |name: &str| -> Result<Tensor> {
        Ok(scene.params.tensors("adapter.skd")?[&format!("{name}.weight")].clone())
    };
    let softened = (one / 4.0)?;
    let answer = softened.matmul(&weight("value")?.t()?)?.matmul(&weight("out")?.t()?)?;
    assert!(gap(&simplified, &(softened + answer)?)? < 1e-15);
    Ok(())
}

/// 5.
#[test]
fn a_shift_of_the_students_scores_is_nothing_and_of_the_teachers_something() -> Result<()> {
    let (student, teacher) = (students()?, teachers()?);
    let shift = Tensor::new(&[[1.0], [-2.0], [0.5]], &Device::Cpu)?;
    let (risen, lifted) = (student.broadcast_add(&shift)?, teacher.broadcast_add(&shift)?);
    let scene = Scene::known("")?;
    let total = scene.kd(&student, &teacher)?;
    assert!(gap(&total, &scene.kd(&risen, &teacher)?)? < 1e-12);
    assert!(gap(&total, &scene.kd(&student, &lifted)?)? > 1e-4);

    for (_, var) in scene.params.group("adapter").iter().filter(|(name, _)| !name.contains("out")) {
        let weight = var.as_detached_tensor();
        var.set(&weight.broadcast_sub(&weight.mean_keepdim(1)?)?)?;
    }
    let total = scene.kd(&student, &teacher)?;
    assert!(gap(&total, &scene.kd(&student, &lifted)?)? < 1e-12, "maps that do not see a shift");
    let identity = Scene::new("simplifier = 'identity'");
    assert!(gap(&identity.kd(&student, &teacher)?, &identity.kd(&student, &lifted)?)? < 1e-12);
    Ok(())
}

/// 6.
#[test]
fn a_student_that_says_what_is_asked_for_is_left_alone() -> Result<()> {
    let (scene, teacher) = (Scene::known("")?, teachers()?);
    let student = Var::from_tensor(&(scene.simplified(&teacher)?.0 * 4.0)?.detach())?;
    let total = scene.kd(&student, &teacher)?;
    assert!(total.to_scalar::<f64>()?.abs() < 1e-15, "{total}");
    let grads = total.backward()?;
    let all: Vec<_> =
        scene.params.group("adapter").into_iter().map(|(_, var)| var).chain([student]).collect();
    assert_eq!(all.len(), 5);
    for var in &all {
        let grad = grads.get(var).expect("both sides learn");
        assert!(gap(grad, &grad.zeros_like()?)? < 1e-14);
    }
    Ok(())
}

/// 7. `∂KL/∂U = p′ ∘ ((log p′ − log p) − KL)`, example by example.
#[test]
fn the_gradient_in_what_is_asked_for_is_the_formula() -> Result<()> {
    let scene = Scene::known("")?;
    let start = scene.simplified(&teachers()?)?.0.detach();
    let simplified = Var::from_tensor(&start)?;
    let student = students()?;
    let kl = || -> Result<Tensor> {
        let asked = (simplified.as_tensor() * 4.0)?;
        Ok((bare(&kd(4.0), &student, &asked)?.iter().next().expect("a term").value.clone() / 16.0)?)
    };
    let values = kl()?;
    let grad = values.sum_all()?.backward()?.remove(&simplified).expect("U has a gradient");

    let log = |scores: &Tensor| sokd_ops::log_softmax(scores);
    let (asked, said) = (log(&start)?, log(&(&student / 4.0)?)?);
    let formula = (asked.exp()? * (asked - said)?.broadcast_sub(&values.detach().unsqueeze(1)?)?)?;
    assert!(gap(&grad, &formula)? < 1e-15);

    for place in 0..start.elem_count() {
        let mut step = vec![0.0; start.elem_count()];
        step[place] = 1e-6;
        let step = Tensor::from_vec(step, start.dims(), &Device::Cpu)?;
        let beside = |sign: f64| -> Result<f64> {
            simplified.set(&(&start + (&step * sign)?)?)?;
            Ok(kl()?.sum_all()?.to_scalar()?)
        };
        let difference = (beside(1.0)? - beside(-1.0)?) / 2e-6;
        let exact = formula.flatten_all()?.to_vec1::<f64>()?[place];
        assert!((difference - exact).abs() < 1e-8, "{place}: {difference} {exact}");
    }
    Ok(())
}

/// The gradient in every weight, in what the student said and in what the teacher said, against the slope along a direction.
#[test]
fn gradients_are_the_slopes_of_the_values() -> Result<()> {
    for settings in [
        "",
        "simplifier = 'linear'\nsoftening = 'probabilities'",
        "simplifier = 'mlp'\nnorm = 'post'\nwidth = 5",
        "axis = 'class'\nheads = 2\nnorm = 'pre'\nwidth = 6",
        "residual = false\nsoftening = 'none'\nstudent-temperature = 2.0",
        "anchor = 0.5\ntask = 2.0",
    ] {
        let scene = Scene::moved(settings)?;
        let leaves = [Var::from_tensor(&students()?)?, Var::from_tensor(&teachers()?)?];
        let total = || -> Result<Tensor> {
            with_backend(Backend::Composed, || {
                let terms = scene.terms(&host("type = 'dkd'"), &leaves[0], &leaves[1], &LABELS)?;
                Ok(terms.total()?.expect("a host has terms"))
            })
        };
        let weights = scene.params.group("adapter");
        let learn = weights.len() + leaves.len();
        let all = leaves.iter().cloned().chain(weights.into_iter().map(|(_, var)| var));
        assert_eq!(slopes(settings, all, (1e-6, [1e-6, 1e-2]), total)?, learn, "{settings}");
    }
    Ok(())
}

#[test]
fn what_is_told_is_what_it_says() -> Result<()> {
    let (student, teacher) = (students()?, teachers()?);
    let quiet = Scene::new("").terms(&kd(4.0), &student, &teacher, &LABELS)?;
    assert!(reading(&quiet, "anchor")?.abs() < 1e-15);
    assert!((reading(&quiet, "agreement")? - 1.0).abs() < 1e-15);
    let best = teacher.argmax(1)?.to_vec1::<u32>()?;
    let right = best.iter().zip(LABELS).filter(|(best, label)| *best == label).count();
    assert!((reading(&quiet, "accuracy")? - right as f64 / 3.0).abs() < 1e-15);

    let scene = Scene::known("")?;
    let (simplified, attention) = scene.simplified(&teacher)?;
    let terms = scene.terms(&kd(4.0), &student, &teacher, &LABELS)?;
    let (mut anchor, mut entropy, mut task, mut kept) = (0.0, 0.0, 0.0, 0.0);
    let attention = attention.expect("it attends").squeeze(0)?.squeeze(0)?.to_vec2::<f64>()?;
    let softmax = |row: &[f64]| -> Vec<f64> {
        let sum: f64 = row.iter().map(|score| score.exp()).sum();
        row.iter().map(|score| score.exp() / sum).collect()
    };
    for (row, (simple, plain)) in
        simplified.to_vec2::<f64>()?.iter().zip((teacher / 4.0)?.to_vec2::<f64>()?).enumerate()
    {
        let (simple, plain) = (softmax(simple), softmax(&plain));
        anchor += plain.iter().zip(&simple).map(|(p, q)| p * (p / q).ln()).sum::<f64>() / 3.0;
        entropy -= simple.iter().map(|p| p * p.ln()).sum::<f64>() / 3.0;
        task -= simple[row].ln() / 3.0;
        kept += attention[row][row] / 3.0;
    }
    for (name, expected) in [("anchor", anchor), ("entropy", entropy), ("task", task), ("diagonal", kept)] {
        let told = reading(&terms, name)?;
        assert!((told - expected).abs() < 1e-13, "{name}: {told}, {expected}");
    }
    Ok(())
}

/// The simplifier's weights have gradients by the host, by its own terms, or not at all.
#[test]
fn who_trains_the_simplifier() -> Result<()> {
    let gradients = |settings: &str, epoch: usize| -> Result<Vec<bool>> {
        let scene = Scene::moved(settings)?;
        let at = Step { epoch, ..first() };
        let terms = scene.terms_at(&at, &kd(4.0), &students()?, &teachers()?, &LABELS)?;
        let grads: GradStore = terms.total()?.expect("a host has terms").backward()?;
        Ok(scene.params.group("adapter").iter().map(|(_, var)| grads.get(var).is_some()).collect())
    };
    assert_eq!(gradients("", 0)?, [true; 4]);
    assert_eq!(gradients("warmup-epochs = 2", 1)?, [false; 4]);
    assert_eq!(gradients("warmup-epochs = 2", 2)?, [true; 4]);
    assert_eq!(gradients("detach = true\nanchor = 1.0", 0)?, [true; 4]);
    assert!(gradients("simplifier = 'identity'", 0)?.is_empty());
    Ok(())
}

/// The student stands still here, and the loss falls by half. Four matrices cannot say all that a student says; the book's
/// page on SKD has what becomes of it where the student moves too.
#[test]
fn a_target_that_learns_goes_to_the_student_unless_it_is_held() -> Result<()> {
    let (student, teacher) = (students()?, teachers()?);
    let learned = |settings: &str| -> Result<[f64; 2]> {
        let scene = Scene::new(settings);
        let terms = || scene.terms(&kd(4.0), &student, &teacher, &LABELS);
        terms()?;
        for _ in 0..300 {
            let grads = terms()?.total()?.expect("a host has terms").backward()?;
            for (name, var) in scene.params.group("adapter") {
                let grad = grads.get(&var).unwrap_or_else(|| panic!("{name} has no gradient"));
                var.set(&(var.as_detached_tensor() - (grad * 0.1)?)?)?;
            }
        }
        let terms = terms()?;
        let kd = terms.iter().find(|term| term.name == "kd").expect("the host").value.mean_all()?;
        Ok([kd.to_scalar()?, reading(&terms, "anchor")? * 16.0])
    };
    let start = 0.714_829_519_1;
    let ([free, strayed], [held, stayed]) = (learned("")?, learned("anchor = 16.0")?);
    assert!(free < 0.5 * start && strayed > 0.5 * start, "{free} {strayed}");
    assert!(held > 1.25 * free && stayed < 0.5 * strayed, "{held} {stayed}");
    Ok(())
}

/// The host compares at another temperature than the teacher was softened by: `KL(softmax(U) ‖ softmax(Z_S))`.
#[test]
fn the_student_may_have_a_temperature_of_its_own() -> Result<()> {
    let (student, teacher) = (students()?, teachers()?);
    let scene = Scene::known("student-temperature = 1.0")?;
    let total = scene.terms(&kd(1.0), &student, &teacher, &LABELS)?.total()?.expect("a host has terms");
    let (simplified, _) = Scene::known("")?.simplified(&teacher)?;
    let by_hand = bare(&kd(1.0), &student, &simplified)?.total()?.expect("a host has terms");
    assert!(gap(&total, &by_hand)? < 1e-14);
    Ok(())
}

#[test]
fn settings_that_mean_nothing_are_refused() -> Result<()> {
    for settings in [
        "temperature = 0.0",
        "temperature = nan",
        "student-temperature = -1.0",
        "heads = 0",
        "heads = 3",
        "width = 0",
        "detach = true",
    ] {
        let scene = Scene::new(settings);
        let built = scene.build(|cx| scene.skd.build(cx));
        assert!(matches!(built, Err(Error::Setting { .. })), "{settings}");
    }
    Scene::new("detach = true\ntask = 0.1").build(|cx| skd("detach = true\ntask = 0.1").build(cx))?;
    assert!(toml::from_str::<Skd>("temprature = 1.0").is_err());
    let all = Skd {
        simplifier: Form::Mlp,
        axis: Axis::Class,
        norm: Norm::Post,
        out_init: OutInit::Xavier,
        width: Some(8),
        ..Skd::default()
    };
    assert_eq!(skd(&toml::to_string(&all).expect("settings can be written")), all);
    Ok(())
}

/// On networks, as the trainer shows them: the student and the simplifier learn, the teacher's weights do not, even where
/// a graph could reach them.
#[test]
fn no_gradient_reaches_the_teacher() -> Result<()> {
    let (params, data) = (Params::new(Key::new(1)), data(5, [32, 32]));
    let vars = params.builder(&Device::Cpu);
    let net = |name: &str, under: &str| {
        let spec = sokd_models::named(name).expect("a network of the zoo");
        spec.build(&BuildCx::alone(vars.pp(under), &data))
    };
    let (student, teacher) = (net("resnet8", "student")?, net("resnet14", "teacher")?);
    let (one, other) = (student.info().clone(), teacher.info().clone());
    let vars = vars.clone();
    let cx = BuildCx { vars, data: Some(&data), student: Some(&one), teacher: Some(&other), preview: None };
    let skd = skd("out-init = 'xavier'\nanchor = 0.1\ntask = 0.1");
    let loss = Box::new(Refined { refiner: skd.build(&cx)?, loss: kd(4.0).build(&cx)? });
    let terms = vec![TermOf { name: "distill".into(), weight: Schedule::default(), loss }];
    let distiller = Distiller { student, teacher: Some(teacher), lens: None, terms };
    let batch = Batch {
        images: (wave("images", &[4, 32, 32, 3], 0.5)? + 0.5)?,
        labels: Tensor::new(&[0u32, 1, 4, 2], &Device::Cpu)?,
        rows: Tensor::arange(0u32, 4, &Device::Cpu)?,
    };
    let said = distiller.terms(&Shown::new(batch), Mode::Train, &None, &first())?;
    let grads = said.total()?.expect("a host has terms").backward()?;
    let learns: BTreeMap<&str, bool> = ["student", "adapter", "teacher"]
        .into_iter()
        .map(|group| {
            let vars = params.group(group);
            assert!(!vars.is_empty(), "{group}");
            (group, vars.iter().all(|(_, var)| grads.get(var).is_some()))
        })
        .collect();
    assert_eq!(learns, BTreeMap::from([("adapter", true), ("student", true), ("teacher", false)]));
    assert!(params.group("teacher").iter().all(|(_, var)| grads.get(var).is_none()));
    Ok(())
}
