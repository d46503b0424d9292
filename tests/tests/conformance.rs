//! Every entry of the catalogues of losses and networks, merely because it is there. Sizes differ in every axis, so
//! that no two can be exchanged unseen.

use candle::{DType, Device, Tensor, Var};
use sokd_core::{Backbone, Build as _, BuildCx, DistillLoss, Error, Key, Mode, Pair, Result};
use sokd_losses::LossSpec;
use sokd_models::ModelSpec;
use sokd_nn::Params;
use sokd_ops::{Backend, with_backend};
use sokd_tests::{Said, data, first, gap, networks, pair, same, slopes, wave};
use std::collections::BTreeMap;

const BATCH: usize = 3;
const CLASSES: usize = 5;
const LABELS: [u32; BATCH] = [4, 0, 3];
/// Channels of the stem and of three stages, whose maps are 12×8, 12×8, 6×4 and 3×2. Embeddings are alike, because most
/// losses on them want that.
const STUDENT: [usize; 4] = [8, 2, 7, 4];
const TEACHER: [usize; 4] = [10, 6, 9, 11];
const FEATURES: usize = 13;

/// What a network says, as leaves whose gradient can be asked for.
fn leaves(who: &str, channels: [usize; 4], dtype: DType) -> Result<Vec<Var>> {
    let mut leaves = vec![wave(&format!("{who}.logits"), &[BATCH, CLASSES], 4.0)?];
    leaves.push(wave(&format!("{who}.pooled"), &[BATCH, FEATURES], 1.0)?);
    for (place, channels) in channels.into_iter().enumerate() {
        let halved = place.saturating_sub(1);
        let shape = [BATCH, 12 >> halved, 8 >> halved, channels];
        leaves.push(wave(&format!("{who}.{place}"), &shape, 1.0)?);
    }
    leaves.iter().map(|leaf| Ok(Var::from_tensor(&leaf.to_dtype(dtype)?)?)).collect()
}

fn said(leaves: &[Var]) -> Result<Said> {
    let [logits, pooled, maps @ ..] = leaves else { panic!("logits, embedding and maps") };
    let maps = maps.iter().map(|map| map.as_tensor().clone()).collect();
    Said::new(logits.as_tensor().clone(), pooled.as_tensor().clone(), maps, 12)
}

/// A loss between networks of the given channels, with its weights.
fn built(
    spec: &LossSpec,
    student: &Said,
    teacher: &Said,
    dtype: DType,
) -> Result<(Box<dyn DistillLoss>, Params)> {
    let (params, data) = (Params::new(Key::new(5)), data(CLASSES, [12, 8]));
    let vars = params.builder(&Device::Cpu).to_dtype(dtype);
    let cx = BuildCx {
        vars,
        data: Some(&data),
        student: Some(student.info()),
        teacher: Some(teacher.info()),
        preview: None,
    };
    Ok((spec.build(&cx)?, params))
}

fn blank(batch: usize, dtype: DType) -> Result<Tensor> {
    Ok(Tensor::zeros((batch, 12, 8, 3), dtype, &Device::Cpu)?)
}

/// The gradient of every loss in everything it reads, in double precision, against the slope along a direction.
#[test]
fn losses_have_the_gradients_of_their_values() -> Result<()> {
    for spec in LossSpec::examples() {
        let (student, teacher) = (leaves("s", STUDENT, DType::F64)?, leaves("t", TEACHER, DType::F64)?);
        let (one, other) = (said(&student)?, said(&teacher)?);
        let (loss, params) = built(&spec, &one, &other, DType::F64)?;
        let of = |mode: Mode| -> Result<Tensor> {
            with_backend(Backend::Composed, || {
                let mut pair = pair(&one, &other, blank(BATCH, DType::F64)?, &LABELS)?;
                pair.student.mode = mode;
                Ok(loss.terms(&pair, &first())?.total()?.expect("a loss has terms"))
            })
        };
        // A lesson, for losses that remember; from then on looks, which change nothing that is compared.
        of(Mode::Train)?;
        let adapters = params.group("adapter").into_iter().map(|(_, var)| var);
        let leaves = student.iter().chain(&teacher).cloned().chain(adapters);
        let read = slopes(&spec.name(), leaves, (1e-5, [1e-6, 1e-3]), || of(Mode::Probe))?;
        assert!(read > 0, "{} has no gradient", spec.name());
    }
    Ok(())
}

/// The values of all terms of a loss, on the examples `rows` of the batch, after a lesson on the whole batch: what a
/// loss remembers is then the same for any rows. The student is at rest, so that a batch norm in an adapter lets
/// examples be apart.
fn values(spec: &LossSpec, rows: &[u32]) -> Result<BTreeMap<String, Tensor>> {
    let index = Tensor::new(rows, &Device::Cpu)?;
    let (students, teachers) = (leaves("s", STUDENT, DType::F32)?, leaves("t", TEACHER, DType::F32)?);
    let (student, teacher) = (said(&students)?, said(&teachers)?);
    let loss = built(spec, &student, &teacher, DType::F32)?.0;
    loss.terms(&pair(&student, &teacher, blank(BATCH, DType::F32)?, &LABELS)?, &first())?;

    let of = |leaves: &[Var]| -> Result<Said> {
        let pick = |leaf: &Var| Ok(Var::from_tensor(&leaf.index_select(&index, 0)?)?);
        said(&leaves.iter().map(pick).collect::<Result<Vec<_>>>()?)
    };
    let (student, teacher) = (of(&students)?, of(&teachers)?);
    let labels: Vec<_> = rows.iter().map(|&row| LABELS[row as usize]).collect();
    let mut pair = pair(&student, &teacher, blank(rows.len(), DType::F32)?, &labels)?;
    (pair.rows, pair.student.mode) = (index, Mode::Eval);
    let terms = loss.terms(&pair, &first())?;
    Ok(terms.iter().map(|term| (term.name.clone(), term.value.clone())).collect())
}

#[test]
fn losses_give_one_finite_value_per_example() -> Result<()> {
    for spec in LossSpec::examples() {
        for (name, value) in values(&spec, &[0, 1, 2])? {
            assert_eq!(value.dims(), [BATCH], "{}: {name}", spec.name());
            assert_eq!(value.dtype(), DType::F32, "{}: {name}", spec.name());
            assert!(value.to_vec1::<f32>()?.iter().all(|value| value.is_finite()), "{}: {name}", spec.name());
        }
    }
    Ok(())
}

#[test]
fn losses_care_neither_for_the_order_nor_for_the_company_of_examples() -> Result<()> {
    for spec in LossSpec::examples() {
        let whole = values(&spec, &[0, 1, 2])?;
        let turned = values(&spec, &[2, 0, 1])?;
        let (head, tail) = (values(&spec, &[0])?, values(&spec, &[1, 2])?);
        for (name, whole) in &whole {
            let bound = 1e-6 * gap(whole, &whole.zeros_like()?)?.max(1.0);
            let back = turned[name].index_select(&Tensor::new(&[1u32, 2, 0], &Device::Cpu)?, 0)?;
            assert!(gap(whole, &back)? < bound, "{}: {name} of a permuted batch", spec.name());
            let joined = Tensor::cat(&[&head[name], &tail[name]], 0)?;
            assert!(gap(whole, &joined)? < bound, "{}: {name} of a split batch", spec.name());
        }
    }
    Ok(())
}

/// Losses that are 0, and pull nowhere, where student and teacher say the same. What compares with the label, or
/// through an adapter that is still to learn, promises nothing of the kind.
const AT_REST: [&str; 3] = ["kd", "dkd", "at"];

#[test]
fn comparisons_ask_nothing_of_a_student_who_is_its_teacher() -> Result<()> {
    for spec in LossSpec::examples().into_iter().filter(|spec| AT_REST.contains(&spec.name().as_str())) {
        let leaves = [leaves("s", STUDENT, DType::F32)?, leaves("s", STUDENT, DType::F32)?];
        let (student, teacher) = (said(&leaves[0])?, said(&leaves[1])?);
        let loss = built(&spec, &student, &teacher, DType::F32)?.0;
        let pair = pair(&student, &teacher, blank(BATCH, DType::F32)?, &LABELS)?;
        let total = loss.terms(&pair, &first())?.total()?.expect("a loss has terms");
        assert!(gap(&total, &total.zeros_like()?)? < 1e-12, "{}: {total}", spec.name());
        let grads = total.backward()?;
        for grad in leaves[0].iter().filter_map(|leaf| grads.get(leaf)) {
            assert!(gap(grad, &grad.zeros_like()?)? < 1e-12, "{}: {grad}", spec.name());
        }
    }
    Ok(())
}

/// Dead maps and equal scores occur in the first steps of training; they must not end it.
#[test]
fn losses_survive_networks_that_say_nothing() -> Result<()> {
    for spec in LossSpec::examples() {
        let blanks = |who, channels| -> Result<Vec<Var>> {
            leaves(who, channels, DType::F32)?
                .iter()
                .map(|leaf| Ok(Var::from_tensor(&leaf.zeros_like()?)?))
                .collect()
        };
        let (student, teacher) = (blanks("s", STUDENT)?, blanks("t", TEACHER)?);
        let (one, other) = (said(&student)?, said(&teacher)?);
        let loss = built(&spec, &one, &other, DType::F32)?.0;
        let pair = pair(&one, &other, blank(BATCH, DType::F32)?, &LABELS)?;
        let grads = loss.terms(&pair, &first())?.total()?.expect("a loss has terms").backward()?;
        for grad in student.iter().chain(&teacher).filter_map(|leaf| grads.get(leaf)) {
            let finite = grad.flatten_all()?.to_vec1::<f32>()?.iter().all(|value| value.is_finite());
            assert!(finite, "{}: {grad}", spec.name());
        }
    }
    Ok(())
}

#[test]
fn losses_say_when_they_miss_a_teacher() -> Result<()> {
    for spec in LossSpec::examples() {
        let student = said(&leaves("s", STUDENT, DType::F32)?)?;
        let (params, data) = (Params::new(Key::new(0)), data(CLASSES, [12, 8]));
        let vars = params.builder(&Device::Cpu);
        let cx =
            BuildCx { vars, data: Some(&data), student: Some(student.info()), teacher: None, preview: None };
        let missed = spec.build(&cx).and_then(|loss| {
            let pair = pair(&student, &student, blank(BATCH, DType::F32)?, &LABELS)?;
            loss.terms(&Pair { teacher: None, ..pair }, &first())
        });
        // What needs none is content.
        let said = matches!(&missed, Err(Error::NoTeacher(who)) if *who == spec.name());
        assert!(said || missed.is_ok(), "{}", spec.name());
    }
    Ok(())
}

#[test]
fn parts_are_their_own_configuration() {
    fn walk<T>(specs: Vec<T>)
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        for spec in specs {
            let mut said = serde_json::to_value(&spec).expect("a part is a table");
            assert_eq!(serde_json::from_value::<T>(said.clone()).expect("what was written"), spec);
            let name = said["type"].clone();
            let alone: T =
                serde_json::from_value(serde_json::json!({ "type": name })).expect("all has defaults");
            assert_eq!(alone, spec, "the defaults of {name} are not those of its example");
            said["no-such-field"] = 1.into();
            assert!(serde_json::from_value::<T>(said).is_err(), "{name} takes fields that it does not have");
        }
    }
    walk(LossSpec::examples());
    walk(ModelSpec::examples());
}

/// Images on which every network of the zoo runs, higher than wide.
fn images(batch: usize) -> Result<Tensor> {
    Ok((wave("images", &[batch, 24, 16, 3], 0.5)? + 0.5)?)
}

fn network(spec: &ModelSpec, params: &Params, dtype: DType) -> Result<Box<dyn Backbone>> {
    let vars = params.builder(&Device::Cpu).to_dtype(dtype).pp("student");
    spec.build(&BuildCx::alone(vars, &data(CLASSES, [24, 16])))
}

#[test]
fn networks_are_what_they_say_before_they_run() -> Result<()> {
    for spec in networks() {
        let net = network(&spec, &Params::new(Key::new(0)), DType::F32)?;
        let (info, out) = (net.info(), net.forward(&images(2)?, Mode::Eval)?);
        let maps = [(&info.stem, &out.stem)]
            .into_iter()
            .chain(info.stages.iter().zip(out.stages.iter().map(|s| &s.map)));
        for (stage, map) in maps {
            let size = |pixels: usize| pixels.div_ceil(stage.stride);
            assert_eq!(map.dims(), [2, size(24), size(16), stage.channels], "{}", spec.name());
        }
        assert_eq!((info.stages.len(), info.classes), (out.stages.len(), CLASSES), "{}", spec.name());
        assert_eq!(out.pooled.dims(), [2, info.features], "{}", spec.name());
        assert_eq!(out.logits.dims(), [2, info.classes], "{}", spec.name());
        for (index, stage) in out.stages.iter().enumerate() {
            assert_eq!(net.preact(index, stage, Mode::Eval)?.dims(), stage.map.dims(), "{}", spec.name());
        }
        let grey = images(2)?.narrow(3, 0, 1)?.contiguous()?;
        assert!(matches!(net.forward(&grey, Mode::Eval), Err(Error::Shape { .. })), "{}", spec.name());
    }
    Ok(())
}

#[test]
fn networks_at_rest_see_each_image_alone() -> Result<()> {
    for spec in networks() {
        let net = network(&spec, &Params::new(Key::new(0)), DType::F32)?;
        let all = images(3)?;
        let whole = net.forward(&all, Mode::Eval)?.logits;
        for row in 0..3 {
            let alone = net.forward(&all.narrow(0, row, 1)?.contiguous()?, Mode::Eval)?.logits;
            let scale = gap(&whole, &whole.zeros_like()?)?;
            assert!(gap(&alone, &whole.narrow(0, row, 1)?)? <= 1e-5 * scale, "{}, image {row}", spec.name());
        }
    }
    Ok(())
}

/// Batch, height, width and channels of images, larger for networks that leave less of them: of a single pixel of two
/// images, statistics are nothing but signs.
fn sides(net: &dyn Backbone, [batch, height, width]: [usize; 3]) -> [usize; 4] {
    let deepest = net.info().stages.iter().map(|stage| stage.stride).max().unwrap_or(1);
    let times = (deepest / 16).max(1);
    [batch, times * height, times * width, 3]
}

/// In double precision and composed form, along one direction in all weights and images at once.
#[test]
fn networks_have_the_gradients_of_their_values() -> Result<()> {
    for spec in networks() {
        let params = Params::new(Key::new(1));
        let net = network(&spec, &params, DType::F64)?;
        let seen = wave("images", &sides(&*net, [2, 24, 16]), 0.5)?.affine(1.0, 0.5)?;
        let pixels = Var::from_tensor(&seen.to_dtype(DType::F64)?)?;
        let mix = wave("mix", &[2, CLASSES], 1.0)?.to_dtype(DType::F64)?;
        let value = || -> Result<Tensor> {
            with_backend(Backend::Composed, || {
                Ok((net.forward(pixels.as_tensor(), Mode::Probe)?.logits.tanh()? * &mix)?.sum_all()?)
            })
        };
        let grads = value()?.backward()?;
        let mut vars = params.group("student");
        vars.push(("images".into(), pixels.clone()));
        let (mut slope, mut ways) = (0.0, Vec::new());
        for (name, var) in &vars {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{}: {name} has no gradient", spec.name()));
            let way = wave(name, var.dims(), 1.0)?.to_dtype(DType::F64)?;
            slope += (grad * &way)?.sum_all()?.to_scalar::<f64>()?;
            ways.push((var, var.as_detached_tensor().force_contiguous()?, way));
        }
        let moved = |step: f64| -> Result<f64> {
            for (var, start, way) in &ways {
                var.set(&(start + (way * step)?)?)?;
            }
            Ok(value()?.to_scalar()?)
        };
        // The kink of a ReLU between two points spoils their difference: the best of three distances counts.
        let mut off = f64::INFINITY;
        for step in [1e-7, 1e-8, 1e-9] {
            let difference = (moved(step)? - moved(-step)?) / (2.0 * step);
            off = off.min((slope / difference - 1.0).abs());
        }
        assert!(off < 1e-4, "{}: the gradient is off by {off:.1e}", spec.name());
    }
    Ok(())
}

/// What a network gives is the same in the composed form, to rounding.
#[test]
fn networks_are_the_same_in_both_forms() -> Result<()> {
    for spec in networks() {
        let net = network(&spec, &Params::new(Key::new(2)), DType::F32)?;
        // Larger ones: the statistics of a batch of few pixels magnify rounding.
        let images = (wave("images", &sides(&*net, [3, 32, 24]), 0.5)? + 0.5)?;
        for mode in [Mode::Eval, Mode::Probe] {
            let run = |backend| with_backend(backend, || net.forward(&images, mode));
            let (fast, composed) = (run(Backend::Fast)?.logits, run(Backend::Composed)?.logits);
            let scale = gap(&composed, &composed.zeros_like()?)?;
            assert!(gap(&fast, &composed)? <= 1e-4 * scale, "{}, {mode:?}", spec.name());
            assert!(same(&fast, &run(Backend::Fast)?.logits)?, "{}, {mode:?}: twice", spec.name());
        }
    }
    Ok(())
}
