//! The methods that SoKD is plugged into and that remember or fuse, CRD and `ReviewKD`: values, gradients and memories
//! against the peers' formulas, recorded from PyTorch in double precision.

use candle::{DType, Device, Tensor, Var};
use serde::Deserialize;
use sokd_core::{Backbone as _, Build as _, BuildCx, DatasetInfo, DistillLoss, Key, Mode, Result};
use sokd_losses::{
    LossSpec,
    crd::{Crd, nce},
    review::ReviewKd,
};
use sokd_nn::{Params, to_torch};
use sokd_ops::{Backend, with_backend};
use sokd_tests::{Said, Wave, data, first, golden, near, networks, pair, same, wave};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Recorded {
    contrasts: Vec<Contrast>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Contrast {
    name: String,
    anchors: Wave,
    bank: Wave,
    picks: Vec<Vec<u32>>,
    temperature: f64,
    known: Option<f64>,
    values: Vec<f64>,
    normaliser: f64,
    gradient: Vec<f64>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    loss: LossSpec,
    image: usize,
    images: usize,
    batches: Vec<Vec<u32>>,
    student: Views,
    teacher: Views,
    weights: BTreeMap<String, Wave>,
    steps: Vec<Step>,
    after: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Step {
    total: f64,
    float32: String,
    gradients: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Views {
    pooled: Wave,
    maps: Vec<Wave>,
}

type Leaves = BTreeMap<String, Var>;

impl Views {
    /// The network that said so, and what it said, by the name that the recording gives it.
    fn network(&self, who: &str, side: usize, leaves: &mut Leaves) -> Result<Said> {
        let mut leaf = |name: String, value: Tensor| -> Result<_> {
            let var = Var::from_tensor(&value)?;
            leaves.insert(name, var.clone());
            Ok(var.into_inner())
        };
        let batch = self.pooled.shape[0];
        let mut maps = vec![Tensor::zeros((batch, 1, 1, 1), DType::F32, &Device::Cpu)?];
        for (index, map) in self.maps.iter().enumerate() {
            let name = format!("{who}.maps.{index}");
            maps.push(leaf(name.clone(), map.draw(&name)?.permute((0, 2, 3, 1))?.contiguous()?)?);
        }
        let name = format!("{who}.pooled");
        let pooled = leaf(name.clone(), self.pooled.draw(&name)?)?;
        Said::new(Tensor::zeros((batch, 2), DType::F32, &Device::Cpu)?, pooled, maps, side)
    }
}

/// A case on its networks, with the weights that it begins with.
struct Run<'a> {
    case: &'a Case,
    leaves: Leaves,
    student: Said,
    teacher: Said,
    params: Params,
    loss: Box<dyn DistillLoss>,
}

impl<'a> Run<'a> {
    fn new(case: &'a Case) -> Result<Self> {
        let mut leaves = Leaves::new();
        let student = case.student.network("student", case.image, &mut leaves)?;
        let teacher = case.teacher.network("teacher", case.image, &mut leaves)?;
        let params = Params::new(Key::new(0));
        let data = DatasetInfo { train: case.images, ..data(case.images, [case.image; 2]) };
        let loss = case.loss.build(&BuildCx {
            vars: params.builder(&Device::Cpu),
            data: Some(&data),
            student: Some(student.info()),
            teacher: Some(teacher.info()),
            preview: None,
        })?;
        let drawn = case.weights.iter().map(|(name, wave)| Ok((name.clone(), wave.draw(name)?)));
        let mut weights = params.tensors("")?;
        weights.extend(drawn.collect::<Result<BTreeMap<_, _>>>()?);
        params.load("", &weights)?;
        leaves.extend(params.group("adapter"));
        Ok(Self { case, leaves, student, teacher, params, loss })
    }

    /// The loss of a batch, each of whose images is of a class of its own.
    fn total(&self, rows: &[u32], mode: Mode) -> Result<Tensor> {
        self.shown(rows, rows, mode)
    }

    fn shown(&self, rows: &[u32], labels: &[u32], mode: Mode) -> Result<Tensor> {
        let side = self.case.image;
        let images = Tensor::zeros((rows.len(), side, side, 3), DType::F32, &Device::Cpu)?;
        let mut pair = pair(&self.student, &self.teacher, images, labels)?;
        pair.rows = Tensor::new(rows, &Device::Cpu)?;
        pair.student.mode = mode;
        Ok(self.loss.terms(&pair, &first())?.total()?.expect("a loss has terms"))
    }

    fn check(&self, step: &Step, rows: &[u32]) -> Result<()> {
        let name = &self.case.name;
        let total = self.total(rows, Mode::Train)?;
        near(name, &total, &[step.total], 1e-5)?;
        let (ours, theirs) =
            (f64::from(total.to_scalar::<f32>()?), step.float32.parse::<f64>().expect("a number"));
        let allowed = (theirs - step.total).abs().max(3e-7 * step.total);
        assert!((ours - step.total).abs() <= allowed, "{name}: the peers' own float32 is nearer");
        let grads = total.backward()?;
        for (leaf, recorded) in &step.gradients {
            let got =
                grads.get(&self.leaves[leaf]).unwrap_or_else(|| panic!("{name}: {leaf} has no gradient"));
            let got = if leaf.starts_with("adapter") { to_torch(got)? } else { got.clone() };
            near(&format!("{name}: gradient of {leaf}"), &got, recorded, 1e-5)?;
        }
        Ok(())
    }
}

/// By this machine's kernels, and by a GPU's in the mirror.
fn here_and_there(work: impl Fn() -> Result<()>) -> Result<()> {
    work()?;
    with_backend(Backend::Mirror, work)
}

#[test]
fn contrasts_with_given_picks_are_the_peers() -> Result<()> {
    here_and_there(contrasts)
}

fn contrasts() -> Result<()> {
    for case in golden::<Recorded>("hosts").contrasts {
        let anchors = Var::from_tensor(&case.anchors.draw("anchors")?)?;
        let (bank, picks) = (case.bank.draw("bank")?, Tensor::new(case.picks, &Device::Cpu)?);
        let known = Tensor::new(&[case.known.unwrap_or(-1.0) as f32], &Device::Cpu)?;
        let (values, normaliser) = nce::contrast(&anchors, &bank, &picks, case.temperature, &known)?;
        let normaliser = normaliser.to_dtype(candle::DType::F64)?.to_vec1::<f64>()?[0];
        assert!((normaliser / case.normaliser - 1.0).abs() < 1e-6, "{}: {normaliser}", case.name);
        near(&case.name, &values, &case.values, 1e-6)?;
        let grads = values.sum_all()?.backward()?;
        near(&case.name, grads.get(&anchors).expect("anchors learn"), &case.gradient, 1e-5)?;
    }
    Ok(())
}

#[test]
fn hosts_gradients_and_memories_are_the_peers() -> Result<()> {
    here_and_there(hosts)
}

fn hosts() -> Result<()> {
    for case in &golden::<Recorded>("hosts").cases {
        let run = Run::new(case)?;
        for (step, rows) in case.steps.iter().zip(&case.batches) {
            run.check(step, rows)?;
        }
        let remembered = run.params.tensors("")?;
        for (name, recorded) in &case.after {
            near(&format!("{}: {name}", case.name), &remembered[name], recorded, 1e-6)?;
        }
    }
    Ok(())
}

/// What CRD remembers is among the weights: saved and loaded, it goes on to the same bits. A look teaches it nothing.
#[test]
fn memories_resume_and_looks_teach_nothing() -> Result<()> {
    here_and_there(resumed)
}

fn resumed() -> Result<()> {
    for case in golden::<Recorded>("hosts").cases.iter().filter(|case| case.batches.len() > 1) {
        let (straight, resumed) = (Run::new(case)?, Run::new(case)?);
        let [one, two, ..] = &case.batches[..] else { unreachable!("filtered") };
        straight.total(one, Mode::Train)?;
        let saved = straight.params.tensors("")?;
        let looked = straight.total(two, Mode::Probe)?;
        for (name, value) in straight.params.tensors("")? {
            assert!(same(&value, &saved[&name])?, "{name} after a look");
        }
        let ahead = straight.total(two, Mode::Train)?;
        resumed.params.load("", &saved)?;
        assert!(same(&ahead, &resumed.total(two, Mode::Train)?)?);
        let (a, b) = (straight.params.tensors("")?, resumed.params.tensors("")?);
        let moved = a.iter().filter(|(name, value)| !same(value, &saved[*name]).unwrap_or(false)).count();
        assert_eq!(moved, 3, "both memories and the labels");
        for (name, value) in a {
            assert!(same(&value, &b[&name])?, "{name} after a resume");
        }
        drop(looked);
    }
    Ok(())
}

/// Rows of another split would be taken for training images.
#[test]
fn images_that_are_not_those_remembered_are_refused() -> Result<()> {
    let recorded = golden::<Recorded>("hosts");
    let case = recorded.cases.iter().find(|case| case.batches.len() > 1).expect("a case of several batches");
    let (run, rows) = (Run::new(case)?, &case.batches[0]);
    run.total(rows, Mode::Train)?;
    let turned: Vec<_> = rows.iter().rev().copied().collect();
    let beyond = vec![case.images as u32; rows.len()];
    for (rows, labels) in [(rows, &turned), (&beyond, rows)] {
        let error = run.shown(rows, labels, Mode::Probe).expect_err("other images").to_string();
        assert!(error.contains("training images only"), "{error}");
        // A GPU is not waited for: it says so when it is asked.
        with_backend(Backend::Mirror, || {
            let run = Run::new(case)?;
            run.total(&case.batches[0], Mode::Train)?;
            let asks = |index| run.loss.draw(&sokd_core::Step { index, ..first() });
            asks(64)?;
            run.shown(rows, labels, Mode::Probe)?;
            asks(63)?;
            let error = asks(64).expect_err("other images").to_string();
            assert!(error.contains("training images only"), "{error}");
            Ok::<(), sokd_core::Error>(())
        })?;
    }
    Ok(())
}

/// The peers' own run on the pairs whose shapes their settings list. Maps are of 24×16 pixels at most, and batch norms
/// see three images.
#[test]
fn hosts_run_between_any_two_networks_of_the_zoo() -> Result<()> {
    let (about, labels) = (data(5, [24, 16]), [4, 0, 3]);
    let images = (wave("images", &[3, 24, 16, 3], 0.5)? + 0.5)?;
    let weights = Params::new(Key::new(1)).frozen(&Device::Cpu);
    let nets = networks().into_iter().enumerate().map(|(index, spec)| {
        let vars = weights.pp(format!("student.{index}"));
        Ok((format!("{spec:?}"), spec.build(&BuildCx::alone(vars, &about))?))
    });
    let nets = nets.collect::<Result<Vec<_>>>()?;
    let hosts = [LossSpec::Crd(Crd::default()), LossSpec::ReviewKd(ReviewKd::default())];
    for ((who, student), (whom, teacher)) in
        nets.iter().flat_map(|one| nets.iter().map(move |two| (one, two)))
    {
        let pair = pair(student.as_ref(), teacher.as_ref(), images.clone(), &labels)?;
        for host in &hosts {
            let what = format!("{} from {whom} to {who}", host.name());
            let params = Params::new(Key::new(0));
            let cx = BuildCx {
                student: Some(student.info()),
                teacher: Some(teacher.info()),
                preview: None,
                ..BuildCx::alone(params.builder(&Device::Cpu), &about)
            };
            let total = host.build(&cx)?.terms(&pair, &first())?.total()?.expect("a loss has terms");
            let grads = total.backward()?;
            for (name, var) in params.group("adapter") {
                let grad = grads.get(&var).unwrap_or_else(|| panic!("{what}: {name} has no gradient"));
                let size = grad.sqr()?.sum_all()?.to_scalar::<f32>()?;
                assert!(size.is_finite(), "{what}: {name} {size}");
            }
        }
    }
    Ok(())
}
