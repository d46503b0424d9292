//! The networks of the zoo against PyTorch's: their sizes, their weights' names, what they compute and learn.

use candle::{DType, Device, Tensor, Var};
use serde::Deserialize;
use sokd_core::{Backbone, Build as _, BuildCx, DatasetInfo, Error, Forward, Key, Mode, Result};
use sokd_losses::functional::{cross_entropy, soften};
use sokd_models::{ModelSpec, Stem, mobilenet_v1::MobilenetV1, resnet::Resnet};
use sokd_nn::{Params, optim::Rule as _, optim::Sgd};
use sokd_ops::{Backend, with_backend};
use sokd_tests::{data, fill, golden, images, near, wave};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Recorded {
    /// Of 100 classes, on images of 32 × 32 pixels.
    zoo: BTreeMap<String, Network>,
    /// Of 1,000 classes, on images of 224 × 224 pixels.
    imagenet: BTreeMap<String, Network>,
    run: BTreeMap<String, Run>,
}

/// A network as PyTorch builds it.
#[derive(Deserialize)]
struct Network {
    parameters: usize,
    entries: usize,
    /// Channels and side of the stem's and every stage's map.
    maps: Vec<[usize; 2]>,
    /// Name, kind and sizes.
    layers: Vec<String>,
}

/// What a filled network said of three images, and what one step taught it, in double precision.
#[derive(Deserialize)]
struct Run {
    classes: usize,
    size: usize,
    eval: Shown,
    train: Shown,
    gradients: BTreeMap<String, Summary>,
    after: BTreeMap<String, Summary>,
    /// How far PyTorch's own single precision is off, as a share of the tensors' lengths.
    float32: Tolerance,
}

/// As shares of the tensors' lengths.
#[derive(Clone, Copy, Deserialize)]
struct Tolerance {
    eval: f64,
    train: f64,
}

#[derive(Deserialize)]
struct Shown {
    logits: Vec<f64>,
    maps: Vec<Summary>,
    preacts: Vec<Summary>,
    loss: Option<[f64; 1]>,
}

/// A tensor's length, and its projection on noise.
type Summary = [f64; 2];

fn build(spec: &ModelSpec, data: &DatasetInfo, dtype: DType) -> Result<(Params, Box<dyn Backbone>)> {
    let params = Params::new(Key::new(0));
    let vars = params.builder(&Device::Cpu).to_dtype(dtype).pp("student");
    let net = spec.build(&BuildCx::alone(vars, data))?;
    Ok((params, net))
}

/// What the field's code has (100 classes, images of 32 × 32 pixels): parameters, entries of the state dict, and
/// channels and sides of the maps. From measurements of the peers' own classes, not of ours.
#[rustfmt::skip]
const FIELD: &[(&str, usize, usize, &[[usize; 2]])] = &[
    ("resnet8", 83_892, 56, &[[16, 32], [16, 32], [32, 16], [64, 8]]),
    ("resnet14", 181_108, 92, &[[16, 32], [16, 32], [32, 16], [64, 8]]),
    ("resnet20", 278_324, 128, &[[16, 32], [16, 32], [32, 16], [64, 8]]),
    ("resnet32", 472_756, 200, &[[16, 32], [16, 32], [32, 16], [64, 8]]),
    ("resnet44", 667_188, 272, &[[16, 32], [16, 32], [32, 16], [64, 8]]),
    ("resnet56", 861_620, 344, &[[16, 32], [16, 32], [32, 16], [64, 8]]),
    ("resnet110", 1_736_564, 668, &[[16, 32], [16, 32], [32, 16], [64, 8]]),
    ("resnet8x4", 1_233_540, 62, &[[32, 32], [64, 32], [128, 16], [256, 8]]),
    ("resnet32x4", 7_433_860, 206, &[[32, 32], [64, 32], [128, 16], [256, 8]]),
    ("wrn_16_1", 180_916, 82, &[[16, 32], [16, 32], [32, 16], [64, 8]]),
    ("wrn_40_1", 569_780, 226, &[[16, 32], [16, 32], [32, 16], [64, 8]]),
    ("wrn_16_2", 703_284, 83, &[[16, 32], [32, 32], [64, 16], [128, 8]]),
    ("wrn_40_2", 2_255_156, 227, &[[16, 32], [32, 32], [64, 16], [128, 8]]),
    ("vgg8", 3_965_028, 37, &[[64, 32], [128, 16], [256, 8], [512, 4], [512, 4]]),
    ("vgg11", 9_277_284, 58, &[[64, 32], [128, 16], [256, 8], [512, 4], [512, 4]]),
    ("vgg13", 9_462_180, 72, &[[64, 32], [128, 16], [256, 8], [512, 4], [512, 4]]),
    ("vgg16", 14_774_436, 93, &[[64, 32], [128, 16], [256, 8], [512, 4], [512, 4]]),
    ("vgg19", 20_086_692, 114, &[[64, 32], [128, 16], [256, 8], [512, 4], [512, 4]]),
    ("ResNet18", 11_220_132, 122, &[[64, 32], [64, 32], [128, 16], [256, 8], [512, 4]]),
    ("ResNet50", 23_705_252, 320, &[[64, 32], [256, 32], [512, 16], [1024, 8], [2048, 4]]),
    ("MobileNetV2", 812_836, 320, &[[16, 16], [12, 16], [16, 8], [48, 4], [160, 2]]),
    ("ShuffleV1", 949_258, 296, &[[24, 32], [240, 16], [480, 8], [960, 4]]),
    ("ShuffleV2", 1_355_528, 338, &[[24, 32], [116, 16], [232, 8], [464, 4]]),
];

/// The same of torchvision's and mdistiller's networks for ImageNet (1,000 classes, images of 224 × 224 pixels). Of
/// `MobileNetV1` the field shows no stem; ours has one.
#[rustfmt::skip]
const IMAGENET: &[(&str, usize, usize, &[[usize; 2]])] = &[
    ("imagenet_resnet18", 11_689_512, 122, &[[64, 112], [64, 56], [128, 28], [256, 14], [512, 7]]),
    ("imagenet_resnet34", 21_797_672, 218, &[[64, 112], [64, 56], [128, 28], [256, 14], [512, 7]]),
    ("imagenet_resnet50", 25_557_032, 320, &[[64, 112], [256, 56], [512, 28], [1024, 14], [2048, 7]]),
    ("imagenet_resnet101", 44_549_160, 626, &[[64, 112], [256, 56], [512, 28], [1024, 14], [2048, 7]]),
    ("imagenet_mobilenetv1", 4_231_976, 164, &[[32, 112], [128, 56], [256, 28], [512, 14], [1024, 7]]),
];

#[test]
fn the_recorded_networks_are_the_fields() {
    let Recorded { zoo, imagenet, .. } = golden("zoo");
    let all = FIELD.iter().map(|row| (row, &zoo)).chain(IMAGENET.iter().map(|row| (row, &imagenet)));
    for ((name, parameters, entries, maps), recorded) in all {
        let network = &recorded[*name];
        assert_eq!(
            (network.parameters, network.entries, &network.maps[..]),
            (*parameters, *entries, *maps),
            "{name}"
        );
    }
}

/// The entries of a layer in the state dict, with their shapes.
fn entries(layer: &str) -> Vec<(String, Vec<usize>)> {
    let [name, kind, shape] = layer.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{layer}") };
    let shape: Vec<usize> = serde_json::from_str(shape).expect("a list of sizes");
    let to = vec![shape[0]];
    let parts: &[&str] = match kind {
        "conv" => &["weight"],
        "conv-bias" | "linear" => &["weight", "bias"],
        "norm" => &["weight", "bias", "running_mean", "running_var"],
        other => panic!("no kind {other}"),
    };
    let of =
        |part: &&str| (format!("{name}.{part}"), if *part == "weight" { shape.clone() } else { to.clone() });
    parts.iter().map(of).collect()
}

#[test]
fn every_network_has_the_weights_and_maps_that_pytorchs_has() -> Result<()> {
    let Recorded { zoo, imagenet, .. } = golden("zoo");
    have(&zoo, 100, 32)?;
    have(&imagenet, 1000, 224)
}

fn have(networks: &BTreeMap<String, Network>, classes: usize, side: usize) -> Result<()> {
    let data = data(classes, [side; 2]);
    for (name, network) in networks {
        let spec = sokd_models::named(name).expect("a network of the zoo");
        let cost = sokd_models::cost(&spec, &data)?;
        assert_eq!(cost.parameters, network.parameters, "{name}");
        let (params, net) = build(&spec, &data, DType::F32)?;
        let expected: BTreeMap<_, _> = network.layers.iter().flat_map(|layer| entries(layer)).collect();
        let ours = params.tensors("student")?;
        let ours: BTreeMap<_, _> =
            ours.into_iter().map(|(name, weight)| (name, weight.dims().to_vec())).collect();
        assert_eq!(ours, expected, "{name}");
        let info = net.info();
        let stages = std::iter::once(&info.stem).chain(&info.stages);
        let maps: Vec<_> = stages.map(|stage| [stage.channels, side / stage.stride]).collect();
        assert_eq!(maps, network.maps, "{name}");
        let classifier = expected.values().find(|shape| shape.len() == 2).expect("a linear layer");
        assert_eq!([info.classes, info.features], classifier[..], "{name}");
    }
    Ok(())
}

fn summary(name: &str, tensor: &Tensor) -> Result<Summary> {
    let flat = tensor.to_dtype(DType::F64)?.flatten_all()?;
    let probe = wave(&format!("probe {name}"), flat.dims(), 1.0)?.to_dtype(DType::F64)?;
    Ok([flat.sqr()?.sum_all()?.sqrt()?.to_scalar()?, (flat * probe)?.sum_all()?.to_scalar()?])
}

/// Both numbers, to a share of the tensor's length.
fn check(what: &str, name: &str, tensor: &Tensor, recorded: &Summary, relative: f64) -> Result<()> {
    let got = summary(name, tensor)?;
    for (got, recorded_one) in got.iter().zip(recorded) {
        let off = (got - recorded_one).abs() / recorded[0].max(1e-3);
        assert!(off <= relative, "{what}, {name}: {got} instead of {recorded_one}, off by {off:.1e}");
    }
    Ok(())
}

fn shows(
    what: &str,
    net: &dyn Backbone,
    out: &Forward,
    mode: Mode,
    shown: &Shown,
    relative: f64,
) -> Result<()> {
    near(what, &out.logits, &shown.logits, relative)?;
    let maps = std::iter::once(&out.stem).chain(out.stages.iter().map(|stage| &stage.map));
    for (index, map) in maps.enumerate() {
        check(what, &format!("map {index}"), map, &shown.maps[index], relative)?;
    }
    for (index, stage) in out.stages.iter().enumerate() {
        let preact = net.preact(index, stage, mode)?;
        check(what, &format!("preact {index}"), &preact, &shown.preacts[index], relative)?;
    }
    Ok(())
}

fn thin(depth: usize, stem: Stem) -> ModelSpec {
    ModelSpec::Resnet(Resnet { depth, width: 8, stem })
}

fn filled(name: &str, run: &Run, dtype: DType) -> Result<(Params, Box<dyn Backbone>)> {
    let spec = match name {
        "ResNet18 of width 8" => thin(18, Stem::Cifar),
        "ResNet50 of width 8" => thin(50, Stem::Cifar),
        "imagenet_resnet18 of width 8" => thin(18, Stem::Imagenet),
        "imagenet_resnet50 of width 8" => thin(50, Stem::Imagenet),
        "imagenet_mobilenetv1 of width 0.25" => ModelSpec::MobilenetV1(MobilenetV1 { width: 0.25 }),
        name => sokd_models::named(name.split(' ').next().expect("a name")).expect("a network of the zoo"),
    };
    let (params, net) = build(&spec, &data(run.classes, [run.size; 2]), dtype)?;
    fill(&params, "student")?;
    Ok((params, net))
}

/// The cross-entropy of three images.
fn loss(out: &Forward) -> Result<Tensor> {
    let labels = Tensor::new(&[2u32, 0, 4], &Device::Cpu)?;
    Ok(cross_entropy(&soften(&out.logits, 1.0)?, &labels, 0.0)?.mean_all()?)
}

fn computes(name: &str, run: &Run, dtype: DType, tolerance: Tolerance) -> Result<()> {
    let (_, net) = filled(name, run, dtype)?;
    let images = images("images", run.size, dtype)?;
    let out = net.forward(&images, Mode::Eval)?;
    shows(&format!("{name}, evaluated"), &*net, &out, Mode::Eval, &run.eval, tolerance.eval)?;
    let out = net.forward(&images, Mode::Train)?;
    let what = format!("{name}, training");
    shows(&what, &*net, &out, Mode::Train, &run.train, tolerance.train)?;
    near(&what, &loss(&out)?, &run.train.loss.expect("training has a loss"), tolerance.train)
}

fn learns(name: &str, run: &Run, tolerance: f64) -> Result<()> {
    let (params, net) = filled(name, run, DType::F64)?;
    let mut sgd = Sgd::default().start(params.group("student"))?;
    let gradients = loss(&net.forward(&images("images", run.size, DType::F64)?, Mode::Train)?)?.backward()?;
    for (path, var) in params.group("student") {
        let weight = path.strip_prefix("student.").expect("the group's prefix");
        let Some(gradient) = gradients.get(&var) else { panic!("{name}: {weight} has no gradient") };
        let gradient = sokd_nn::to_torch(gradient)?;
        check(&format!("{name}, its gradient"), weight, &gradient, &run.gradients[weight], tolerance)?;
    }
    sgd.step(&gradients, 0.05)?;
    let after = params.tensors("student")?;
    for (weight, recorded) in &run.after {
        check(&format!("{name}, after a step"), weight, &after[weight], recorded, tolerance)?;
    }
    Ok(())
}

/// In double precision nothing hides: the same rules give the same digits.
#[test]
fn networks_compute_and_learn_what_pytorchs_do() -> Result<()> {
    let Recorded { run, .. } = golden("zoo");
    with_backend(Backend::Composed, || {
        run.iter().try_for_each(|(name, run)| {
            computes(name, run, DType::F64, Tolerance { eval: 1e-7, train: 1e-7 })?;
            learns(name, run, 1e-7)
        })
    })
}

/// In single precision, rounding may carry our kernels as far as it carries PyTorch's, give or take.
#[test]
fn so_do_the_kernels() -> Result<()> {
    let Recorded { run, .. } = golden("zoo");
    run.iter().try_for_each(|(name, run)| {
        let Tolerance { eval, train } = run.float32;
        let loose = |own| 1e-4 + 5.0 * own;
        computes(name, run, DType::F32, Tolerance { eval: loose(eval), train: loose(train) })
    })
}

fn gradients(name: &str, run: &Run, picture: &str, dtype: DType) -> Result<Vec<(String, Tensor)>> {
    let (params, net) = filled(name, run, dtype)?;
    let gradients = loss(&net.forward(&images(picture, run.size, dtype)?, Mode::Train)?)?.backward()?;
    let own = |(path, var): (String, Var)| {
        let gradient = gradients.get(&var).expect("a gradient").to_dtype(DType::F64)?;
        Ok((path, gradient))
    };
    params.group("student").into_iter().map(own).collect()
}

/// The weight that single precision is furthest off at, as a share of its gradient's length.
fn furthest(exact: &[(String, Tensor)], single: &[(String, Tensor)]) -> Result<f64> {
    let length = |tensor: &Tensor| -> Result<f64> { Ok(tensor.sqr()?.sum_all()?.sqrt()?.to_scalar()?) };
    exact.iter().zip(single).try_fold(0.0f64, |most, ((_, exact), (_, single))| {
        Ok(most.max(length(&(exact - single)?)? / length(exact)?.max(1e-3)))
    })
}

/// Where a network normalises over few values, rounding tips a ReLU in every other batch, which moves gradients by some
/// hundredths, PyTorch's too. That is chance: of a few batches, one comes near the digits of double precision. A kernel
/// that is wrong is off in all.
#[test]
fn kernels_have_the_gradients_of_double_precision() -> Result<()> {
    let Recorded { run, .. } = golden("zoo");
    for (name, run) in &run {
        let mut off = Vec::new();
        while off.last().is_none_or(|&off| off > 1e-2) {
            assert!(off.len() < 8, "{name}: {off:?}");
            let picture = format!("images {}", off.len());
            let exact = with_backend(Backend::Composed, || gradients(name, run, &picture, DType::F64))?;
            off.push(furthest(&exact, &gradients(name, run, &picture, DType::F32)?)?);
        }
    }
    Ok(())
}

#[test]
fn channels_that_do_not_part_are_refused() {
    let tables = [
        serde_json::json!({ "type": "mobilenet-v1", "width": 0.01 }),
        serde_json::json!({ "type": "mobilenet-v2", "width": 0.05 }),
        serde_json::json!({ "type": "mobilenet-v2", "expand": 0 }),
        serde_json::json!({ "type": "shufflenet-v1", "groups": 7 }),
        serde_json::json!({ "type": "shufflenet-v1", "groups": 0 }),
        serde_json::json!({ "type": "shufflenet-v1", "widths": [24, 24, 480, 960] }),
        serde_json::json!({ "type": "shufflenet-v2", "widths": [24, 117, 232, 464, 1024] }),
    ];
    for table in tables {
        let spec: ModelSpec = serde_json::from_value(table.clone()).expect("a network's settings");
        let built = build(&spec, &data(10, [32, 32]), DType::F32);
        assert!(matches!(built, Err(Error::Setting { .. })), "{table}");
    }
}

/// Multiplications as the field counts them.
#[test]
fn costs_are_the_known_ones() -> Result<()> {
    let macs = |name: &str| -> Result<u64> {
        let spec = sokd_models::named(name).expect("a network of the zoo");
        Ok(sokd_models::cost(&spec, &data(10, [32, 32]))?.macs)
    };
    // Stem, three stages of three blocks, classifier; projections where the shape changes.
    let stage = |pixels: u64, width: u64| 9 * width * width * pixels;
    let thin = 27 * 16 * 1024
        + 6 * stage(1024, 16)
        + (stage(256, 32) / 2 + 5 * stage(256, 32))
        + (stage(64, 64) / 2 + 5 * stage(64, 64))
        + 640;
    assert_eq!(macs("resnet20_a")?, thin);
    assert_eq!(macs("resnet20")?, thin + 256 * 16 * 32 + 64 * 32 * 64);
    assert_eq!(thin / 100_000, 405);
    // Counted in PyTorch: a convolution's outputs times the size of what each multiplies with.
    for (name, counted) in [("MobileNetV2", 6_408_448), ("ShuffleV1", 38_605_056), ("ShuffleV2", 44_412_288)]
    {
        assert_eq!(macs(name)?, counted, "{name}");
    }
    let counted = [
        ("imagenet_resnet18", 1_814_073_344),
        ("imagenet_resnet34", 3_663_761_408),
        ("imagenet_resnet50", 4_089_184_256),
        ("imagenet_resnet101", 7_801_405_440),
        ("imagenet_mobilenetv1", 568_740_352),
    ];
    for (name, counted) in counted {
        let spec = sokd_models::named(name).expect("a network of the zoo");
        assert_eq!(sokd_models::cost(&spec, &data(1000, [224, 224]))?.macs, counted, "{name}");
    }
    Ok(())
}
