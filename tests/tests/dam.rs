//! DAM against recordings, differences and laws, and what its training does to it. Long, because all four stand on one
//! scene.

use candle::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use serde::Deserialize;
use sokd_core::{
    Backbone, Batch, Build as _, BuildCx, Dataset, DistillLoss, Error, Key, LearnSplit, Mode, Pair, Refined,
    Refiner as _, Result, Side, Step,
};
use sokd_dam::{Dam, Detector, Whose};
use sokd_data::{DataSpec, Locations};
use sokd_losses::LossSpec;
use sokd_losses::functional::{cross_entropy, soften};
use sokd_nn::optim::{Rule as _, Sgd};
use sokd_nn::{Params, clip_grad_norm, to_torch};
use sokd_ops::{Backend, spent, with_backend};
use sokd_tests::{Said, Wave, data, first, gap, golden, near, pair, same, slopes, wave};
use sokd_train::{Schedule, Weighted};
use std::collections::BTreeMap;
use std::sync::Arc;

fn dam(settings: &str) -> Dam {
    toml::from_str(settings).expect("settings of DAM")
}

/// Against the collapse; the page on DAM has the reasons.
const ROBUST: &str = r#"
    output = "softplus-sizes"
    over = "area"
    agreement = 1.0
    area = 100.0
    anchor = { weight = 1.0 }
"#;

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    dam: Dam,
    labels: Vec<u32>,
    student: Views,
    teacher: Views,
    weights: BTreeMap<String, Wave>,
    covered: Vec<u32>,
    sights: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
    terms: BTreeMap<String, Vec<f64>>,
    total: f64,
    gradients: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Views {
    logits: Wave,
    maps: Vec<Wave>,
}

impl Views {
    fn network(&self, who: &str, leaves: &mut BTreeMap<String, Var>) -> Result<Said> {
        let logits = self.logits.draw(who)?;
        let batch = logits.dim(0)?;
        let mut maps = vec![Tensor::zeros((batch, 6, 5, 1), DType::F32, &Device::Cpu)?];
        for (place, map) in self.maps.iter().enumerate() {
            let name = format!("{who}.maps.{place}");
            let var = Var::from_tensor(&map.draw(&name)?.permute((0, 2, 3, 1))?.contiguous()?)?;
            maps.push(var.as_tensor().clone());
            leaves.insert(name, var);
        }
        Said::new(logits, Tensor::zeros((batch, 1), DType::F32, &Device::Cpu)?, maps, 6)
    }
}

/// A detector between two networks.
fn detector(dam: &Dam, student: &Said, teacher: &Said, params: &Params, dtype: DType) -> Result<Detector> {
    let data = data(teacher.info().classes, [6, 5]);
    let vars = params.builder(&Device::Cpu).to_dtype(dtype);
    dam.detector(&BuildCx {
        vars,
        data: Some(&data),
        student: Some(student.info()),
        teacher: Some(teacher.info()),
        preview: None,
    })
}

fn check(case: &Case) -> Result<()> {
    let mut leaves = BTreeMap::new();
    let (student, teacher) =
        (case.student.network("student", &mut leaves)?, case.teacher.network("teacher", &mut leaves)?);
    let params = Params::new(Key::new(0));
    let detector = detector(&case.dam, &student, &teacher, &params, DType::F32)?;
    let mut weights = params.tensors("")?;
    let drawn = case.weights.iter().map(|(name, wave)| Ok((name.clone(), wave.draw(name)?)));
    weights.extend(drawn.collect::<Result<BTreeMap<_, _>>>()?);
    params.load("", &weights)?;
    leaves.extend(params.group("adapter"));

    let images = Tensor::zeros((case.labels.len(), 6, 5, 3), DType::F32, &Device::Cpu)?;
    let mut pair = pair(&student, &teacher, images, &case.labels)?;
    pair.student.mode = Mode::Probe;
    let look = detector.look(&pair, &first())?;
    let covered: Vec<_> = look.found.iter().flat_map(|found| sokd_dam::areas::cover(found, [6, 5])).collect();
    assert_eq!(covered, case.covered, "{}", case.name);
    for (who, map) in [("student", &look.student), ("teacher", &look.teacher)] {
        if let Some(sight) = case.sights.get(who) {
            near(&format!("{}: {who}'s heatmap", case.name), map, &sight["heatmap"], 1e-5)?;
        }
    }
    if let Some(sight) = case.sights.get("teacher") {
        let seen = detector.heads().forward(&teacher.stage(1, &pair.images, Mode::Eval)?.map, Mode::Probe)?;
        near(&format!("{}: sizes", case.name), &seen.size, &sight["size"], 1e-5)?;
        near(&format!("{}: offsets", case.name), &seen.offset, &sight["offset"], 1e-5)?;
    }

    let (_, terms) = detector.refine(pair, &first())?;
    let named: BTreeMap<_, _> = terms.iter().map(|term| (term.name.as_str(), &term.value)).collect();
    for (name, recorded) in &case.terms {
        near(&format!("{}: {name}", case.name), named[name.as_str()], recorded, 1e-5)?;
    }
    let total = terms.total()?.expect("DAM has terms");
    near(&case.name, &total, &[case.total], 1e-5)?;
    let grads = total.backward()?;
    for (name, recorded) in &case.gradients {
        let got = grads.get(&leaves[name]).unwrap_or_else(|| panic!("{}: {name} has no gradient", case.name));
        let got = if name.starts_with("adapter") { to_torch(got)? } else { got.clone() };
        near(&format!("{}: gradient of {name}", case.name), &got, recorded, 2e-5)?;
    }
    Ok(())
}

#[test]
fn heads_terms_and_gradients_are_those_of_the_recording() -> Result<()> {
    golden::<Recorded>("dam").cases.iter().try_for_each(check)
}

/// What a network says, as leaves whose gradient can be asked for: channels of a stem and of two stages, of 6 × 5.
fn leaves(who: &str, channels: [usize; 3], rows: &[u32], dtype: DType) -> Result<Vec<Var>> {
    let pick = Tensor::new(rows, &Device::Cpu)?;
    let mut all = vec![wave(&format!("{who}.logits"), &[4, 5], 4.0)?];
    for (place, channels) in channels.into_iter().enumerate() {
        all.push(wave(&format!("{who}.{place}"), &[4, 6, 5, channels], 1.0)?);
    }
    all.iter().map(|leaf| Ok(Var::from_tensor(&leaf.index_select(&pick, 0)?.to_dtype(dtype)?)?)).collect()
}

fn said(leaves: &[Var]) -> Result<Said> {
    let [logits, maps @ ..] = leaves else { panic!("logits and maps") };
    let pooled = Tensor::zeros((logits.dim(0)?, 1), logits.dtype(), &Device::Cpu)?;
    Said::new(logits.as_tensor().clone(), pooled, maps.iter().map(|map| map.as_tensor().clone()).collect(), 6)
}

fn both(rows: &[u32], dtype: DType) -> Result<[Vec<Var>; 2]> {
    Ok([leaves("s", [1, 2, 3], rows, dtype)?, leaves("t", [1, 2, 4], rows, dtype)?])
}

fn seen<'a>(student: &'a Said, teacher: &'a Said, rows: &[u32], dtype: DType) -> Result<Pair<'a>> {
    let labels: Vec<u32> = rows.iter().map(|row| (3 * row + 1) % 5).collect();
    let mut pair =
        pair(student, teacher, Tensor::zeros((rows.len(), 6, 5, 3), dtype, &Device::Cpu)?, &labels)?;
    pair.rows = Tensor::new(rows, &Device::Cpu)?;
    Ok(pair)
}

/// The gradient in everything that is read, in double precision, against the slope along a direction.
#[test]
fn gradients_are_the_slopes_of_the_values() -> Result<()> {
    let batch_norm = "batch-norm = true\nanchor = {}\nover = 'area'\noutput = 'plain'";
    for settings in ["", ROBUST, batch_norm, "combine = 'count-squared'\nboxes-from = 'both'"] {
        let rows = [0, 1, 2, 3];
        let [student, teacher] = both(&rows, DType::F64)?;
        let (one, other) = (said(&student)?, said(&teacher)?);
        let params = Params::new(Key::new(5));
        let detector = detector(&dam(settings), &one, &other, &params, DType::F64)?;
        let total = || -> Result<Tensor> {
            with_backend(Backend::Composed, || {
                let pair = seen(&one, &other, &rows, DType::F64)?;
                Ok(detector.refine(pair, &first())?.1.total()?.expect("DAM has terms"))
            })
        };
        let weights = params.group("adapter").into_iter().map(|(_, var)| var);
        let leaves = student.iter().chain(&teacher).cloned().chain(weights);
        let read = slopes(settings, leaves, (1e-6, [1e-5, 1e-2]), total)?;
        // Both maps, three layers of the adapter with their norms, six convolutions with their biases.
        assert!(read >= 2 + 9 + 12, "{settings}: {read}");
    }
    Ok(())
}

fn values(dam: &Dam, rows: &[u32]) -> Result<BTreeMap<String, Tensor>> {
    let [student, teacher] = both(rows, DType::F32)?;
    let (student, teacher) = (said(&student)?, said(&teacher)?);
    let detector = detector(dam, &student, &teacher, &Params::new(Key::new(5)), DType::F32)?;
    let mut pair = seen(&student, &teacher, rows, DType::F32)?;
    pair.student.mode = Mode::Eval;
    let (_, terms) = detector.refine(pair, &first())?;
    Ok(terms
        .iter()
        .filter(|term| term.weight != 0.0)
        .map(|term| (term.name.clone(), term.value.clone()))
        .collect())
}

/// Everything a detector says of a training step, and whether a GPU's kernels found its boxes.
fn told(dam: &Dam, backend: Backend) -> Result<(Vec<(String, Tensor)>, bool)> {
    let rows = [0, 1, 2, 3];
    let [student, teacher] = both(&rows, DType::F32)?;
    let (student, teacher) = (said(&student)?, said(&teacher)?);
    let detector = detector(dam, &student, &teacher, &Params::new(Key::new(5)), DType::F32)?;
    let refine = || detector.refine(seen(&student, &teacher, &rows, DType::F32)?, &first());
    let (refined, spent) = spent(|| with_backend(backend, refine));
    let terms = refined?.1.iter().map(|term| (term.name.clone(), term.value.clone())).collect();
    Ok((terms, spent.iter().any(|spent| spent.work == "peak-areas")))
}

#[test]
fn a_gpu_says_of_a_step_what_this_machine_says() -> Result<()> {
    for boxes_from in [Whose::Student, Whose::Teacher, Whose::Both, Whose::Random] {
        for settings in ["", ROBUST, "output = 'plain'\ncombine = 'count-squared'\nmin-box = 2.0"] {
            let dam = Dam { boxes_from, ..dam(settings) };
            let ((here, plain), (there, by_kernels)) =
                (told(&dam, Backend::Fast)?, told(&dam, Backend::Mirror)?);
            // Boxes at random places are drawn here.
            assert_eq!((plain, by_kernels), (false, boxes_from != Whose::Random));
            assert_eq!(here.len(), there.len());
            for ((name, here), (other, there)) in here.iter().zip(&there) {
                assert_eq!((name, here.dims()), (other, there.dims()));
                assert!(gap(here, there)? < 1e-5, "{boxes_from:?}, {settings}: {name}: {here} and {there}");
            }
        }
    }
    Ok(())
}

#[test]
fn examples_have_values_of_their_own() -> Result<()> {
    for whose in [Whose::Student, Whose::Teacher, Whose::Both, Whose::Random] {
        let dam = Dam { boxes_from: whose, ..dam(ROBUST) };
        let (whole, turned, one) =
            (values(&dam, &[0, 1, 2])?, values(&dam, &[2, 0, 1])?, values(&dam, &[1])?);
        assert_eq!(whole.len(), 4);
        for (name, whole) in &whole {
            let back = turned[name].index_select(&Tensor::new(&[1u32, 2, 0], &Device::Cpu)?, 0)?;
            assert!(gap(whole, &back)? < 1e-5, "{whose:?}: {name} of a permuted batch");
            assert!(gap(&whole.narrow(0, 1, 1)?, &one[name])? < 1e-5, "{whose:?}: {name} of one example");
        }
    }
    Ok(())
}

#[test]
fn boxes_at_random_places_have_the_areas_of_those_that_were_found() -> Result<()> {
    let rows = [0, 1, 2, 3];
    let [student, teacher] = both(&rows, DType::F32)?;
    let (student, teacher) = (said(&student)?, said(&teacher)?);
    let found = |whose, key| -> Result<Vec<_>> {
        let dam = Dam { boxes_from: whose, min_box: 2.0, ..Dam::default() };
        let detector = detector(&dam, &student, &teacher, &Params::new(Key::new(5)), DType::F32)?;
        let mut pair = seen(&student, &teacher, &rows, DType::F32)?;
        pair.student.mode = Mode::Eval;
        let look = detector.look(&pair, &Step::first(Key::new(key)))?;
        Ok(look.found.into_iter().flatten().map(|found| found.cells).collect())
    };
    let (found_there, here, there) =
        (found(Whose::Student, 1)?, found(Whose::Random, 1)?, found(Whose::Random, 2)?);
    let sides = |cells: &[sokd_dam::areas::Cells]| {
        cells.iter().map(sokd_dam::areas::Cells::sides).collect::<Vec<_>>()
    };
    assert_eq!(sides(&here), sides(&found_there));
    assert_eq!(here, found(Whose::Random, 1)?);
    assert!(here != there && here != found_there);
    Ok(())
}

fn host(settings: &str) -> LossSpec {
    toml::from_str(settings).expect("a loss")
}

/// What a loss makes of a student in training.
struct Lesson {
    total: Tensor,
    /// In what the student said.
    grads: Vec<Option<Tensor>>,
    /// The adapter after it.
    adapter: BTreeMap<String, Tensor>,
}

fn lesson(dam: Option<&Dam>, host: &LossSpec) -> Result<Lesson> {
    let rows = [0, 1, 2, 3];
    let [student, teacher] = both(&rows, DType::F32)?;
    let (one, other) = (said(&student)?, said(&teacher)?);
    let (params, data) = (Params::new(Key::new(5)), data(5, [6, 5]));
    let vars = params.builder(&Device::Cpu);
    let cx = BuildCx {
        vars,
        data: Some(&data),
        student: Some(one.info()),
        teacher: Some(other.info()),
        preview: None,
    };
    let loss = host.build(&cx)?;
    let loss = match dam {
        None => loss,
        Some(dam) => Box::new(Refined { refiner: dam.build(&cx)?, loss }),
    };
    let terms = loss.terms(&seen(&one, &other, &rows, DType::F32)?, &first())?;
    let total = terms.total()?.expect("a host has terms");
    let grads = total.backward()?;
    let grads = student.iter().map(|leaf| grads.get(leaf).cloned()).collect();
    Ok(Lesson { total, grads, adapter: params.tensors("adapter.hint")? })
}

#[test]
fn nothing_asked_is_the_bare_host_to_the_bit() -> Result<()> {
    let quiet = [
        "agreement = 0.0\npeaks = 0",
        "agreement = 0.0\narea = 0.0",
        "agreement = 0.0\narea = 0.0\nanchor = { weight = 0.0 }",
    ];
    for host in [host("type = 'fitnet'"), host("type = 'fitnet'\ndepth = 3"), host("type = 'kd'")] {
        let bare = lesson(None, &host)?;
        for settings in quiet {
            let refined = lesson(Some(&dam(settings)), &host)?;
            assert!(same(&bare.total, &refined.total)?, "{}: {settings}", host.name());
            for pair in bare.grads.iter().zip(&refined.grads) {
                match pair {
                    (None, None) => {}
                    (Some(one), Some(other)) => assert!(same(one, other)?, "{}: {settings}", host.name()),
                    _ => panic!("{}: {settings}: a gradient is missing", host.name()),
                }
            }
        }
        assert!(!same(&bare.total, &lesson(Some(&Dam::default()), &host)?.total)?);
    }
    Ok(())
}

#[test]
fn a_host_of_the_same_hint_runs_the_adapter_once() -> Result<()> {
    let host = host("type = 'fitnet'\ndepth = 3");
    let (alone, shared) = (lesson(None, &host)?.adapter, lesson(Some(&Dam::default()), &host)?.adapter);
    assert_eq!(alone.keys().collect::<Vec<_>>(), shared.keys().collect::<Vec<_>>());
    // Running statistics that had seen the batch twice would have moved further.
    for (name, value) in alone {
        assert!(same(&value, &shared[&name])?, "{name}");
    }
    Ok(())
}

#[test]
fn settings_that_mean_nothing_are_refused() -> Result<()> {
    let [student, teacher] = both(&[0], DType::F32)?;
    let (student, teacher) = (said(&student)?, said(&teacher)?);
    for settings in ["window = 2", "window = 0", "heatmaps = 0", "heatmaps = 2\nanchor = {}"] {
        let built = detector(&dam(settings), &student, &teacher, &Params::new(Key::new(0)), DType::F32);
        assert!(matches!(built, Err(Error::Setting { .. })), "{settings}");
    }
    assert_eq!(dam("hint = { stage = 0 }").hint.depth, 3);
    assert!(toml::from_str::<Dam>("hint = { stages = 0 }").is_err());
    let toml = toml::to_string(&dam(ROBUST)).expect("settings can be written");
    assert_eq!(dam(&toml), dam(ROBUST));
    Ok(())
}

/// The readings of the first and of the last steps.
struct Course {
    spread: [f32; 2],
    distinct: f32,
    top_cell: f32,
}

const BATCH: u32 = 16;

/// Procedural images, and which of them a step sees.
fn shapes() -> Result<Arc<dyn Dataset>> {
    let spec = toml::from_str::<DataSpec>("type = 'shapes'\ntrain = 320\ntest = 10").expect("a data set");
    spec.open(&Locations::default())
}

fn drawn(images: &dyn Dataset, step: u64) -> Result<Batch> {
    let rows: Vec<u32> = (0..BATCH).map(|row| (step as u32 * BATCH + row) % 320).collect();
    images.read(LearnSplit::Train.into(), &rows)
}

fn network(name: &str, images: &dyn Dataset, vars: VarBuilder<'_>) -> Result<Box<dyn Backbone>> {
    sokd_models::named(name).expect("a network of the zoo").build(&BuildCx::alone(vars, images.info()))
}

/// A teacher of twenty layers after a short training.
fn taught(images: &dyn Dataset) -> Result<BTreeMap<String, Tensor>> {
    let params = Params::new(Key::new(1));
    let net = network("resnet20", images, params.builder(&Device::Cpu).pp("teacher"))?;
    let mut sgd = Sgd::default().start(params.group("teacher"))?;
    for step in 0..60 {
        let Batch { images, labels, .. } = drawn(images, step)?;
        let log_q = soften(&net.forward(&images, Mode::Train)?.logits, 1.0)?;
        sgd.step(&cross_entropy(&log_q, &labels, 0.0)?.mean_all()?.backward()?, 0.05)?;
    }
    params.tensors("teacher")
}

/// A short training of a student of eight layers.
fn train(
    dam: &Dam,
    images: &dyn Dataset,
    teacher: &BTreeMap<String, Tensor>,
    steps: u64,
    clip: Option<f64>,
) -> Result<Course> {
    let params = Params::new(Key::new(1));
    let student = network("resnet8", images, params.builder(&Device::Cpu).pp("student"))?;
    let weights = teacher;
    let teacher = network("resnet20", images, params.frozen(&Device::Cpu).pp("teacher"))?;
    params.load("teacher", weights)?;
    let vars = params.builder(&Device::Cpu);
    let cx = BuildCx {
        vars,
        data: Some(images.info()),
        student: Some(student.info()),
        teacher: Some(teacher.info()),
        preview: None,
    };
    let task = host("type = 'cross-entropy'").build(&cx)?;
    let loss = Refined {
        refiner: dam.build(&cx)?,
        loss: Box::new(Weighted { weight: Schedule::Constant(1.0), loss: task }),
    };
    let moved = [params.group("student"), params.group("adapter")].concat();
    let mut sgd = Sgd { weight_decay: 5e-4, ..Sgd::default() }.start(moved.clone())?;

    let mut course = Course { spread: [0.0; 2], distinct: 0.0, top_cell: 0.0 };
    for index in 0..steps {
        let Batch { images, labels, rows } = drawn(images, index)?;
        let pair = Pair {
            student: Side::new(student.as_ref(), Mode::Train, &images)?,
            teacher: Some(Side::new(teacher.as_ref(), Mode::Eval, &images)?),
            images,
            labels,
            rows,
            showings: 1,
            adapted: BTreeMap::new(),
        };
        let terms = loss.terms(&pair, &Step { index, ..first() })?;
        let read = |name: &str| -> Result<f32> {
            let term = terms.iter().find(|term| term.name == name).expect("a reading");
            Ok(term.value.to_scalar()?)
        };
        course.spread[usize::from(index > 0)] = read("spread")?;
        (course.distinct, course.top_cell) = (read("distinct")?, read("top-cell")?);
        let mut grads = terms.total()?.expect("terms").backward()?;
        if let Some(most) = clip {
            clip_grad_norm(&moved, &mut grads, most)?;
        }
        sgd.step(&grads, 0.05)?;
    }
    Ok(course)
}

/// Agreement at the released weight is reached by seeing nothing; anchored and weighed less, the detector sees more.
#[test]
fn the_released_weights_collapse_and_the_robust_ones_do_not() -> Result<()> {
    let images = shapes()?;
    let teacher = taught(images.as_ref())?;
    let released = train(&dam("combine = 'count-squared'"), images.as_ref(), &teacher, 20, None)?;
    let robust = train(&dam(ROBUST), images.as_ref(), &teacher, 80, Some(5.0))?;
    for (name, Course { spread: [start, end], distinct, top_cell }) in
        [("released", &released), ("robust", &robust)]
    {
        println!("{name}: spread {start:.4} to {end:.4}, distinct {distinct:.3}, top cell {top_cell:.3}");
    }
    assert!(released.spread[1] < 0.05 * released.spread[0]);
    assert!(released.distinct <= 2.0 / 16.0 && released.top_cell >= 0.12);
    assert!(robust.spread[1] > robust.spread[0]);
    assert!(robust.distinct > 0.9 && robust.top_cell < 0.12);
    Ok(())
}
