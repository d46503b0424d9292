//! letKD against its recording (`tests/golden/letkd.py`) and against what must hold whatever the numbers. Long, because layer,
//! losses, clusters, discriminants and files are one method, tested on the same few points and networks.

use candle::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use rayon::ThreadPoolBuilder;
use serde_json::Value;
use sokd_baselines::letkd::artefact::kept;
use sokd_baselines::letkd::decisions::{Decisions, shares};
use sokd_baselines::letkd::kmeans::Clusters;
use sokd_baselines::letkd::lda::{Classifier, Lda};
use sokd_baselines::letkd::maps::{Maps, View};
use sokd_baselines::letkd::{Distances, KdLayer, LetkdClusters, Templates, divergence};
use sokd_core::graft::{Behind, graft, tap};
use sokd_core::{
    Backbone, Batch, Build, BuildCx, Dataset, DatasetInfo, Graft, Key, Mode, PixelNorm, Place, Preview,
    Result, Scion, Split, Watch,
};
use sokd_losses::functional::cross_entropy;
use sokd_nn::Params;
use sokd_ops::log_softmax;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const CPU: Device = Device::Cpu;

fn recorded() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/letkd.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the recording")).expect("JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|one| one.as_f64().expect("a number")).collect()
}

fn close(got: &[f64], expected: &[f64], within: f64) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= within * expected.abs().max(1.0), "{got} is not {expected}");
    }
}

fn flat(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

fn wave(shape: &[usize], wave: impl Fn(f64) -> f64) -> Result<Tensor> {
    let values: Vec<f64> = (0..shape.iter().product::<usize>()).map(|i| wave(i as f64)).collect();
    Ok(Tensor::from_vec(values, shape, &CPU)?)
}

fn data(classes: usize, size: usize) -> DatasetInfo {
    DatasetInfo {
        name: "a test".into(),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        size: [size; 2],
        pixels: PixelNorm { mean: [0.5; 3], std: [0.25; 3] },
        train: 24,
        search: 0,
        test: 0,
    }
}

/// Remembers what it was told.
#[derive(Default)]
struct Ears(Mutex<Vec<String>>);

impl Watch for Ears {
    fn at(&self, _: &str, _: usize, _: usize) {}

    fn say(&self, line: &str) {
        self.0.lock().expect("no one panics").push(line.to_owned());
    }
}

/// The check of the specification: a layer of 6 templates over 4 channels, in double precision.
struct Check {
    weights: BTreeMap<&'static str, Var>,
    mean: Tensor,
    layer: Box<dyn Graft>,
}

impl Check {
    fn new() -> Result<Self> {
        let of = |shape: &[usize], of: &dyn Fn(f64) -> f64| {
            Ok::<_, sokd_core::Error>(Var::from_tensor(&wave(shape, of)?)?)
        };
        let weights = BTreeMap::from([
            ("match.weight", of(&[6, 4], &|i| (0.5 * i + 0.1).cos())?),
            ("value.weight", of(&[4, 6], &|i| (0.9 * i + 0.2).sin())?),
            ("match.scale", of(&[1], &|_| 3.0)?),
            ("value.scale", of(&[1], &|_| 1.0)?),
            ("norm.weight", of(&[6], &|_| 1.0)?),
            ("norm.bias", of(&[6], &|_| 0.0)?),
        ]);
        let (mean, var) = (wave(&[6], |_| 0.0)?, wave(&[6], |_| 1.0)?);
        let mut named: HashMap<String, Tensor> =
            weights.iter().map(|(name, var)| ((*name).to_owned(), var.as_tensor().clone())).collect();
        named.insert("norm.running_mean".into(), mean.clone());
        named.insert("norm.running_var".into(), var);
        let vars = VarBuilder::from_tensors(named, DType::F64, &CPU);
        let spec = KdLayer { templates: Templates::Count(6), ..KdLayer::default() };
        let layer = spec.grow([2, 2, 4], &BuildCx::alone(vars, &data(3, 8)))?;
        Ok(Self { weights, mean, layer })
    }
}

/// A map that PyTorch would have `(batch, channels, height, width)`, as it lies here.
fn turned(map: &Tensor) -> Result<Tensor> {
    Ok(map.permute((0, 2, 3, 1))?.contiguous()?)
}

#[test]
fn the_layer_its_loss_and_their_gradients_are_as_recorded() -> Result<()> {
    let (check, recorded) = (Check::new()?, recorded());
    let recorded = &recorded["layer"];
    let x = Var::from_tensor(&wave(&[2, 4, 2, 2], |i| (0.7 * i + 0.3).sin())?)?;
    let (out, scores) = check.layer.forward(&turned(&x)?, Mode::Train)?;

    close(&flat(&scores.get(0)?.get(0)?.get(0)?)?, &numbers(&recorded["scores"]), 1e-12);
    // The same, as the specification prints it.
    let printed = [0.373_330_3, -0.891_232_03, 0.697_907_45, 0.570_031_05, -0.946_763_37, 0.319_931_19];
    close(&flat(&scores.get(0)?.get(0)?.get(0)?)?, &printed, 1e-7);
    close(
        &flat(&out.get(1)?.get(1)?.get(1)?)?,
        &[0.958_453_5, -0.501_196_92, 0.400_434_16, -0.056_795_97],
        1e-7,
    );
    let values = (&out - turned(&x)?)?;
    close(&flat(&values.get(0)?.get(0)?.get(0)?)?, &numbers(&recorded["values"]), 1e-12);
    close(&[out.sum_all()?.to_scalar::<f64>()?], &[6.306_640_487_5], 1e-10);

    let targets = log_softmax(&wave(&[8, 6], |i| (0.4 * i).cos())?)?;
    let entropy = (targets.exp()? * &targets)?.sum(1)?.neg()?;
    let loss = divergence(&targets.exp()?, &entropy, &scores)?;
    assert_eq!(loss.dims(), [2]);
    let loss = loss.mean_all()?;
    close(&[loss.to_scalar::<f64>()?], &[0.308_337_793_0], 1e-10);

    let pull = turned(&wave(&[2, 4, 2, 2], |i| (1.3 * i).sin())?)?;
    let gradients = ((out * pull)?.sum_all()? + loss)?.backward()?;
    for (name, recorded_as) in [
        ("match.weight", "match"),
        ("value.weight", "value"),
        ("match.scale", "match scale"),
        ("value.scale", "value scale"),
        ("norm.weight", "norm weight"),
        ("norm.bias", "norm bias"),
    ] {
        let got = gradients.get(&check.weights[name]).expect("it is learned");
        close(&flat(got)?, &numbers(&recorded["gradients"][recorded_as]), 1e-10);
    }
    close(&flat(gradients.get(&x).expect("the map"))?, &numbers(&recorded["gradients"]["x"]), 1e-10);
    close(&flat(&check.mean)?, &numbers(&recorded["running mean"]), 1e-12);
    Ok(())
}

#[test]
fn only_directions_count() -> Result<()> {
    let (check, other) = (Check::new()?, Check::new()?);
    let x = turned(&wave(&[2, 4, 2, 2], |i| (0.7 * i + 0.3).sin())?)?;
    let (out, scores) = check.layer.forward(&x, Mode::Train)?;
    let longer = wave(&[6, 1], |i| 0.5 + i)?;
    other.weights["match.weight"].set(&other.weights["match.weight"].broadcast_mul(&longer)?)?;
    let longer = wave(&[4, 1], |i| 3.0 - 0.7 * i)?;
    other.weights["value.weight"].set(&other.weights["value.weight"].broadcast_mul(&longer)?)?;
    let (far, same) = other.layer.forward(&(&x * 7.0)?, Mode::Train)?;
    close(&flat(&same)?, &flat(&scores)?, 1e-12);
    close(&flat(&(far - (&x * 7.0)?)?)?, &flat(&(out - &x)?)?, 1e-12);
    assert!(flat(&scores)?.iter().all(|score| score.abs() <= 3.0));
    Ok(())
}

/// A network of the zoo, and its weights.
fn network(name: &str, info: &DatasetInfo) -> Result<(Params, Box<dyn Backbone>)> {
    let params = Params::new(Key::new(3));
    let spec = sokd_models::named(name).expect("a network of the zoo");
    let net = spec.build(&BuildCx::alone(params.builder(&CPU).pp("student"), info))?;
    Ok((params, net))
}

fn images(count: usize, size: usize) -> Result<Tensor> {
    Ok(wave(&[count, size, size, 3], |i| 0.5 + 0.5 * (12.9898 * i).sin())?.to_dtype(DType::F32)?)
}

/// With a layer of so many templates and this α.
fn grafted(
    name: &str,
    info: &DatasetInfo,
    place: Place,
    layer: &KdLayer,
) -> Result<(Params, Box<dyn Backbone>)> {
    let (params, mut net) = network(name, info)?;
    let vars = params.builder(&CPU).pp("student.graft").pp(place.to_string());
    let cx = BuildCx::alone(vars, info);
    graft(net.as_mut(), place, info, &CPU, |map| layer.grow(map, &cx))?;
    Ok((params, net))
}

#[test]
fn without_alpha_the_network_is_as_it_was_and_is_taught_all_the_same() -> Result<()> {
    let (info, labels) = (data(5, 8), Tensor::new(&[0u32, 3, 1], &CPU)?);
    let images = images(3, 8)?;
    for place in [Place::Penultimate, Place::Intermediate] {
        let layer = KdLayer { templates: Templates::Count(7), alpha: 0.0, ..KdLayer::default() };
        let ((plain_params, plain), (params, net)) =
            (network("resnet14", &info)?, grafted("resnet14", &info, place, &layer)?);
        let (bare, out) = (plain.forward(&images, Mode::Train)?, net.forward(&images, Mode::Train)?);
        assert_eq!(bits(&bare.logits)?, bits(&out.logits)?);
        let task = |logits: &Tensor| -> Result<_> {
            Ok(cross_entropy(&log_softmax(logits)?, &labels, 0.0)?.mean_all()?.backward()?)
        };
        let (plain_gradients, gradients) = (task(&bare.logits)?, task(&out.logits)?);
        let own: BTreeMap<_, _> = params.group("student").into_iter().collect();
        for (name, var) in plain_params.group("student") {
            let (before, after) = (plain_gradients.get(&var), gradients.get(&own[&name]));
            assert_eq!(bits(before.expect("learned"))?, bits(after.expect("learned"))?, "{name}");
        }
        // The loss of letKD reaches the templates and the network below.
        let out = net.forward(&images, Mode::Train)?;
        let pulled = out.said(place)?.get(0)?.max_all()?.backward()?;
        let templates = format!("student.graft.{place}.match.weight");
        for name in [templates.as_str(), "student.conv1.weight"] {
            let gradient = pulled.get(&own[name]).expect("taught");
            assert!(flat(gradient)?.iter().any(|value| *value != 0.0), "{name}");
        }
        assert!(pulled.get(&own["student.fc.weight"]).is_none());
    }
    Ok(())
}

#[test]
fn with_alpha_the_classifier_sees_the_layer() -> Result<()> {
    let (info, images) = (data(5, 8), images(3, 8)?);
    let (_, plain) = network("resnet8", &info)?;
    let bare = plain.forward(&images, Mode::Probe)?.logits;
    for place in [Place::Penultimate, Place::Intermediate] {
        let layer = KdLayer { templates: Templates::Count(7), ..KdLayer::default() };
        let (_, net) = grafted("resnet8", &info, place, &layer)?;
        let out = net.forward(&images, Mode::Probe)?;
        assert_ne!(bits(&bare)?, bits(&out.logits)?);
        // What a stage was before its last ReLU says nothing of a map that a layer changed.
        assert_eq!(out.stages[2].preact.is_none(), place == Place::Intermediate);
        let again = net.resume(&out, 2, out.stages[2].map.clone(), Mode::Probe)?;
        assert_eq!(bits(&again.logits)?, bits(&out.logits)?);
        assert_eq!(bits(again.said(place)?)?, bits(out.said(place)?)?);
    }
    Ok(())
}

/// The insertion points of the specification, for images of 32 × 32.
#[test]
fn maps_are_of_the_published_shapes() -> Result<()> {
    let behind = |stage, block| Place::Behind(Behind { stage, block });
    let (info, late) = (data(4, 32), Place::Intermediate);
    for (name, place, inter, penult) in [
        ("resnet20", late, [8, 8, 64], [8, 8, 64]),
        ("resnet8x4", late, [8, 8, 256], [8, 8, 256]),
        ("wrn_16_2", late, [8, 8, 128], [8, 8, 128]),
        ("wrn_40_1", late, [8, 8, 64], [8, 8, 64]),
        ("ShuffleV1", late, [4, 4, 960], [4, 4, 960]),
        ("ShuffleV2", late, [4, 4, 464], [4, 4, 1024]),
        ("MobileNetV2", behind(3, 2), [2, 2, 80], [2, 2, 1280]),
        ("ResNet50", late, [4, 4, 2048], [4, 4, 2048]),
        ("vgg8", late, [4, 4, 512], [4, 4, 512]),
    ] {
        let (_, mut net) = network(name, &info)?;
        let bare = net.forward(&images(1, 32)?, Mode::Eval)?;
        for place in [place, Place::Penultimate] {
            assert!(bare.said(place).is_err(), "{name}");
            tap(net.as_mut(), place, &info, &CPU)?;
        }
        let out = net.forward(&images(1, 32)?, Mode::Eval)?;
        assert_eq!(out.said(place)?.dims()[1..], inter, "{name}");
        assert_eq!(out.said(Place::Penultimate)?.dims()[1..], penult, "{name}");
        // A tap changes nothing.
        assert_eq!(bits(&out.logits)?, bits(&bare.logits)?, "{name}");
        let beyond = tap(net.as_mut(), behind(0, 99), &info, &CPU).expect_err("no such block");
        assert!(beyond.to_string().contains("stage0-block99"), "{beyond}");
    }
    Ok(())
}

#[test]
fn parameters_are_as_many_as_published() -> Result<()> {
    let info = data(100, 32);
    for (place, templates, expected) in
        [(Place::Penultimate, 4096, 532_482), (Place::Intermediate, 800, 104_002)]
    {
        let layer = KdLayer { templates: Templates::Count(templates), ..KdLayer::default() };
        let (params, _) = grafted("resnet20", &info, place, &layer)?;
        let inside = |(name, var): (String, Var)| name.contains(".graft.").then(|| var.elem_count());
        assert_eq!(params.group("student").into_iter().filter_map(inside).sum::<usize>(), expected);
    }
    Ok(())
}

#[test]
fn targets_are_a_softmax_of_distances() -> Result<()> {
    let centres = wave(&[5, 3], |i| (1.1 * i).sin())?.to_dtype(DType::F32)?;
    let view = View { place: Place::Penultimate, pool: 1 };
    let at = |sharpness: f64, map: &Tensor| -> Result<Vec<f64>> {
        let loss = LetkdClusters { sharpness, ..LetkdClusters::default() };
        let (targets, entropy) = Distances::new(loss, view, &centres)?.targets(map)?;
        let targets = flat(&targets)?;
        close(&flat(&entropy)?, &[-targets.iter().map(|p| p * p.max(1e-30).ln()).sum::<f64>()], 1e-5);
        Ok(targets)
    };
    // A place that is a centre is nearest to it; by hand, the softmax of what is left.
    let map = centres.get(2)?.reshape((1, 1, 1, 3))?;
    let distance =
        |k: usize| -> Result<f64> { Ok(flat(&(centres.get(k)? - centres.get(2)?)?.sqr()?)?.iter().sum()) };
    let weights = (0..5).map(|k| Ok((-2.0 * distance(k)?).exp())).collect::<Result<Vec<f64>>>()?;
    let sum: f64 = weights.iter().sum();
    close(&at(2.0, &map)?, &weights.iter().map(|weight| weight / sum).collect::<Vec<_>>(), 1e-5);
    close(&at(1e-9, &map)?, &[0.2; 5], 1e-6);
    close(&at(1e4, &map)?, &[0.0, 0.0, 1.0, 0.0, 0.0], 1e-6);
    Ok(())
}

#[test]
fn the_loss_is_a_mean_over_places() -> Result<()> {
    let scores = wave(&[2, 1, 1, 4], |i| (1.7 * i).sin())?;
    let targets = log_softmax(&wave(&[2, 4], |i| (0.3 * i).cos())?)?.exp()?;
    let entropy = (&targets * targets.log()?)?.sum(1)?.neg()?;
    let small = flat(&divergence(&targets, &entropy, &scores)?)?;
    let wide = scores.broadcast_as((2, 3, 2, 4))?.contiguous()?;
    let each = |t: &Tensor| -> Result<Tensor> { Ok(Tensor::cat(&[t.get(0)?, t.get(1)?], 0)?) };
    let repeat = |t: &Tensor, width: usize| -> Result<Tensor> {
        let t = t.reshape((2, 1, width))?.broadcast_as((2, 6, width))?.contiguous()?;
        Ok(each(&t)?.reshape((12, width))?)
    };
    let large = divergence(&repeat(&targets, 4)?, &repeat(&entropy, 1)?.flatten_all()?, &wide)?;
    close(&flat(&large)?, &small, 1e-12);
    Ok(())
}

const WIDTH: usize = 5;
const CLASSES: usize = 4;
const EACH: usize = 60;

/// The points of the recording.
fn points() -> (Vec<f32>, Vec<u32>) {
    let points = (0..CLASSES * EACH).flat_map(|i| {
        (0..WIDTH).map(move |at| {
            let (index, class, at) = (i as f64, (i / EACH) as f64, at as f64);
            let wave = (1.7 * index + 2.3 * at * at).sin() + 0.8 * (class * (at + 1.0)).cos();
            (wave + 0.5 * (0.9 * index * (at + 2.0)).sin()) as f32
        })
    });
    (points.collect(), (0..(CLASSES * EACH) as u32).map(|row| row / EACH as u32).collect())
}

#[test]
fn discriminants_are_those_of_singular_values() -> Result<()> {
    let ((points, labels), recorded) = (points(), recorded());
    let lda = Lda::of(&points, WIDTH, &labels, CLASSES)?;
    close(&lda.mean, &numbers(&recorded["discriminants"]["mean"]), 1e-12);
    assert_eq!(lda.directions.len(), CLASSES - 1);
    let component = |row: usize, direction: &Vec<f64>| -> f64 {
        let gap = |at: usize| f64::from(points[row * WIDTH + at]) - lda.mean[at];
        direction.iter().enumerate().map(|(at, part)| part * gap(at)).sum()
    };
    let squares: Vec<f64> = (0..labels.len())
        .step_by(20)
        .flat_map(|row| lda.directions.iter().map(move |direction| component(row, direction).powi(2)))
        .collect();
    close(&squares, &numbers(&recorded["discriminants"]["squares"]), 1e-9);

    // Within classes, components have variance 1 and nothing in common.
    let components: Vec<Vec<f64>> = (0..labels.len())
        .map(|row| lda.directions.iter().map(|direction| component(row, direction)).collect())
        .collect();
    for one in 0..CLASSES - 1 {
        for other in 0..CLASSES - 1 {
            let covariance: f64 = components
                .chunks(EACH)
                .map(|class| {
                    let mean = |at: usize| class.iter().map(|row| row[at]).sum::<f64>() / EACH as f64;
                    let (a, b) = (mean(one), mean(other));
                    class.iter().map(|row| (row[one] - a) * (row[other] - b)).sum::<f64>()
                })
                .sum::<f64>()
                / (labels.len() - CLASSES) as f64;
            close(&[covariance], &[f64::from(u8::from(one == other))], 1e-10);
        }
    }
    let (weight, bias) = lda.layer(2);
    assert_eq!((weight.len(), bias.len()), (2 * WIDTH, 2));
    Ok(())
}

/// Classes of 60, 45, 30 and 15 points; what is told apart are all.
#[test]
fn discriminants_tell_classes_apart_as_scikit_learn_does() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/discriminants.json");
    let text = std::fs::read_to_string(path).expect("the recording");
    let recorded: Value = serde_json::from_str(&text).expect("JSON");
    let (all, labels) = points();
    let kept: Vec<usize> = (0..labels.len()).filter(|row| row % EACH < EACH - 15 * (row / EACH)).collect();
    let some: Vec<f32> = kept.iter().flat_map(|row| all[row * WIDTH..][..WIDTH].to_vec()).collect();
    let own: Vec<u32> = kept.iter().map(|&row| labels[row]).collect();
    let told = Classifier::of(&some, WIDTH, &own, CLASSES)?;
    let guesses: Vec<f64> = all.chunks(WIDTH).map(|point| f64::from(told.guess(point))).collect();
    close(&guesses, &numbers(&recorded["classes"]), 0.0);
    let odds = |point: &[f32]| -> Vec<f64> {
        let scores = told.scores(point);
        scores.iter().map(|score| score - scores[0]).collect()
    };
    let odds: Vec<f64> = all.chunks(WIDTH).step_by(20).flat_map(odds).collect();
    close(&odds, &numbers(&recorded["odds"]), 1e-6);

    // A class without points is never guessed.
    let told = Classifier::of(&some, WIDTH, &own, CLASSES + 1)?;
    assert!(all.chunks(WIDTH).all(|point| told.guess(point) < CLASSES as u32));
    Ok(())
}

#[test]
fn clusters_are_as_recorded() {
    let ((points, _), recorded) = (points(), recorded());
    let start: Vec<f32> =
        [3, 77, 150, 231].iter().flat_map(|row| points[row * WIDTH..][..WIDTH].to_vec()).collect();
    let found = Clusters::from(start, &points, WIDTH, 20, &Ears::default());
    let centres: Vec<f64> = found.centres.iter().map(|value| f64::from(*value)).collect();
    close(&centres, &numbers(&recorded["clusters"]["centres"]), 1e-6);
    let nearest: Vec<f64> = found.nearest.iter().map(|cluster| f64::from(*cluster)).collect();
    close(&nearest, &numbers(&recorded["clusters"]["nearest"]), 0.0);
}

#[test]
fn clusters_are_the_same_for_any_number_of_threads() -> Result<()> {
    let (points, _) = points();
    let find = |threads: usize| -> Result<Clusters> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| Clusters::of(&points, WIDTH, 24, 20, Key::new(1), &Ears::default()))
    };
    let (one, three) = (find(1)?, find(3)?);
    assert_eq!(one, three);
    assert_eq!(one.sizes.iter().sum::<usize>(), CLASSES * EACH);
    let too_many = Clusters::of(&points, WIDTH, 241, 1, Key::new(1), &Ears::default());
    assert!(too_many.expect_err("240 points").to_string().contains("241 clusters of 240 points"));
    Ok(())
}

#[test]
fn clusters_without_points_take_half_of_the_largest() {
    let (points, _) = points();
    // All points are nearest to the first of eight equals.
    let start = points[..WIDTH].repeat(8);
    let found = Clusters::from(start, &points, WIDTH, 20, &Ears::default());
    assert!(found.sizes.iter().all(|size| *size > 0), "{:?}", found.sizes);
    let spread = |clusters: &Clusters| -> f64 {
        let gap = |(at, cluster): (usize, &u32)| {
            let [point, centre] = [&points[at * WIDTH..], &clusters.centres[*cluster as usize * WIDTH..]];
            (0..WIDTH).map(|at| f64::from(point[at] - centre[at]).powi(2)).sum::<f64>()
        };
        clusters.nearest.iter().enumerate().map(gap).sum()
    };
    let one = Clusters::from(points[..WIDTH].to_vec(), &points, WIDTH, 20, &Ears::default());
    assert!(spread(&found) < 0.6 * spread(&one), "{} of {}", spread(&found), spread(&one));
}

/// Places of three classes of two parts each, all far apart.
fn apart() -> Maps {
    let mut maps = Maps { width: 6, ..Maps::default() };
    for row in 0..120u32 {
        let (class, part) = (row % 3, row / 3 % 2);
        let noise = |at: u32| 0.01 * f64::from(row * 7 + at * 13).sin();
        let place = |at: u32| if at == 2 * class + part { 5.0 } else { 0.0 };
        maps.points.extend((0..6).map(|at| (place(at) + noise(at)) as f32));
        maps.labels.push(class);
    }
    maps
}

#[test]
fn decisions_tell_parts_of_classes() -> Result<()> {
    let maps = apart();
    // Two discriminants part three classes, whose parts lie together in them: each class is one part.
    let whole = Decisions::of(&maps, 3, (1, 60, 20), Key::new(2), &Ears::default())?;
    close(&flat(&whole.scores)?, &flat(&Tensor::eye(3, DType::F64, &CPU)?)?, 0.0);

    let decisions = Decisions::of(&maps, 3, (2, 60, 20), Key::new(2), &Ears::default())?;
    assert_eq!(decisions.scores.dims(), [6, 6]);
    close(&flat(&decisions.scores.sum(1)?)?, &[1.0; 6], 1e-6);
    assert_eq!(decisions.centres.dims(), [3, 2, 2]);

    // Two images of 1 × 3 places.
    let map = Tensor::from_slice(&maps.points[..36], (2, 1, 3, 6), &CPU)?;
    let labels = Tensor::new(&[0u32, 2], &CPU)?;
    let rows = decisions.rows(&map, &labels)?.to_vec1::<u32>()?;
    // A part of the image's own class, wherever the place itself would belong.
    assert!(rows[..3].iter().all(|row| *row < 2) && rows[3..].iter().all(|row| *row >= 4), "{rows:?}");
    let centre = |row: u32| flat(&decisions.centres.flatten_to(1)?.get(row as usize)?);
    for (place, row) in rows.iter().enumerate() {
        let at = map.reshape((6, 6))?.narrow(0, place, 1)?;
        let at = flat(&at.matmul(&decisions.weight.t()?)?.broadcast_add(&decisions.bias)?)?;
        let distance = |row: u32| -> Result<f64> {
            Ok(centre(row)?.iter().zip(&at).map(|(a, b)| (a - b).powi(2)).sum())
        };
        assert!(distance(*row)? <= distance(row ^ 1)? + 1e-4);
    }
    let (targets, entropy) = decisions.at(&map, &labels)?;
    for (place, row) in rows.iter().enumerate() {
        let expected = flat(&decisions.scores.get(*row as usize)?)?;
        close(&flat(&targets.get(place)?)?, &expected, 0.0);
        let surprise: f64 = expected.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        close(&[flat(&entropy)?[place]], &[surprise], 1e-6);
    }
    Ok(())
}

#[test]
fn shares_are_counted_by_row() {
    let own = [0, 0, 0, 0, 2, 2];
    let closest = [0, 0, 1, 0, 2, 0];
    assert_eq!(shares(&own, &closest, 3), [0.75, 0.25, 0.0, 0.0, 1.0, 0.0, 0.5, 0.0, 0.5]);
}

/// Waves of three classes.
struct Waves(DatasetInfo);

impl Dataset for Waves {
    fn info(&self) -> &DatasetInfo {
        &self.0
    }

    fn read(&self, _: Split, rows: &[u32]) -> Result<Batch> {
        let one =
            |row: &u32| images(1, 8)?.affine(1.0, f64::from(*row) * 0.01).map_err(sokd_core::Error::from);
        let images = Tensor::cat(&rows.iter().map(one).collect::<Result<Vec<_>>>()?, 0)?;
        let labels: Vec<u32> = rows.iter().map(|row| row % 3).collect();
        Ok(Batch { images, labels: Tensor::new(labels, &CPU)?, rows: Tensor::new(rows, &CPU)? })
    }
}

#[test]
fn what_is_learned_is_kept_and_made_anew_when_torn() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let (images, ears) = (Waves(data(3, 8)), Ears::default());
    let (_, mut teacher) = network("resnet8", images.info())?;
    tap(teacher.as_mut(), Place::Penultimate, images.info(), &CPU)?;
    let view = View { place: Place::Penultimate, pool: 1 };
    let made = AtomicUsize::new(0);
    let ask = |who: &str, settings: u32| {
        let preview = Preview {
            teacher: teacher.as_ref(),
            who,
            images: &images,
            device: &CPU,
            folder: folder.path(),
            watch: &ears,
        };
        kept(&preview, view, &settings, || {
            made.fetch_add(1, Ordering::Relaxed);
            let maps = Maps::read(&preview, view, None, Key::new(0))?;
            assert_eq!((maps.width, maps.points.len(), maps.labels.len()), (64, 24 * 4 * 64, 24 * 4));
            let centres = Tensor::from_slice(&maps.points[..128], (2, 64), &CPU)?;
            Ok([("centres".to_owned(), centres)].into())
        })
    };
    let first = ask("one", 1)?;
    let again = ask("one", 1)?;
    assert_eq!(bits(&first["centres"])?, bits(&again["centres"])?);
    assert_eq!(made.load(Ordering::Relaxed), 1);
    ask("one", 2)?;
    ask("another", 1)?;
    assert_eq!(made.load(Ordering::Relaxed), 3);

    let learned = || {
        let all = std::fs::read_dir(folder.path()).expect("the folder");
        all.map(|entry| entry.expect("one").path().join("learned")).collect::<Vec<_>>()
    };
    // Whole, and each in the place of another.
    let aside = folder.path().join("aside");
    for pair in learned().windows(2) {
        for (from, to) in [(&pair[0], &aside), (&pair[1], &pair[0]), (&aside, &pair[1])] {
            std::fs::rename(from, to).expect("moved");
        }
    }
    assert_eq!(bits(&ask("one", 1)?["centres"])?, bits(&first["centres"])?);
    assert_eq!(made.load(Ordering::Relaxed), 4);
    let said = ears.0.lock().expect("no one panics").pop().expect("a warning");
    assert!(said.contains("another teacher") && said.contains("made anew"), "{said}");

    let files = |name: &str| learned().into_iter().map(|path| path.join(name)).collect::<Vec<_>>();
    for name in ["tensors.safetensors", "manifest.json"] {
        for file in files(name) {
            let bytes = std::fs::read(&file).expect("kept");
            std::fs::write(&file, &bytes[..bytes.len() - 1]).expect("torn");
        }
        let before = made.load(Ordering::Relaxed);
        assert_eq!(bits(&ask("one", 1)?["centres"])?, bits(&first["centres"])?);
        assert_eq!(made.load(Ordering::Relaxed), before + 1, "{name}");
        let said = ears.0.lock().expect("no one panics").pop().expect("a warning");
        assert!(said.contains(name) && said.contains("made anew"), "{said}");
    }

    // Two at once: one makes it, the other waits.
    let before = made.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| ask("both", 1).map(|tensors| tensors.len())));
        for thread in threads {
            assert_eq!(thread.join().expect("no panic").expect("made or found"), 1);
        }
    });
    assert_eq!(made.load(Ordering::Relaxed), before + 1);
    Ok(())
}
