//! TST's parts against recordings, and what must hold of them whatever the numbers. Long, because encoders,
//! exact operations, policy, draws and search are one method, on the same few images.

#![allow(clippy::float_cmp, reason = "what should be exact is compared exactly")]

use candle::{Device, Tensor, Var};
use serde::Deserialize;
use sokd_baselines::tst::affine::{Affine, Chance};
use sokd_baselines::tst::color::Color;
use sokd_baselines::tst::relaxed::{logistic, relaxed_bit};
use sokd_baselines::tst::{LEVELS, Module, Operation, exact};
use sokd_baselines::{Tst, tst};
use sokd_core::{Batch, BuildCx, Key, Lens, Result, Step};
use sokd_nn::Params;
use sokd_ops::{Backend, with_backend};
use sokd_tests::{Wave, data, gap, golden, near, same, wave, weighed};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Recorded {
    side: usize,
    exact: Vec<Exact>,
    color: Line,
}

#[derive(Deserialize)]
struct Exact {
    operation: Operation,
    strength: f64,
    from: Vec<u8>,
    to: Vec<u8>,
}

#[derive(Deserialize)]
struct Line {
    scale: Vec<f64>,
    shift: Vec<f64>,
    out: Vec<f64>,
    gradient: Vec<f64>,
}

fn recorded() -> Recorded {
    golden("tst")
}

const CPU: Device = Device::Cpu;

/// By a GPU's kernels, too.
#[test]
fn operations_that_a_gpu_does_on_bytes_are_pillows() -> Result<()> {
    let Recorded { side, exact: cases, .. } = recorded();
    let mut tried = 0;
    for Exact { operation, strength, from, to } in cases {
        if matches!(operation, Operation::Equalize | Operation::Invert) {
            let image = |bytes: Vec<u8>| -> Result<Tensor> {
                let numbers = bytes.into_iter().map(|byte| f32::from(byte) / 255.0);
                Ok(Tensor::from_iter(numbers, &CPU)?.reshape((1, side, side, 3))?)
            };
            let (from, to) = (image(from)?, image(to)?);
            for backend in [Backend::Fast, Backend::Mirror] {
                let got = with_backend(backend, || exact::apply_all(operation, strength, &from))?;
                assert!(same(&got, &to)?, "{operation:?}, {backend:?}");
            }
            tried += 1;
        }
    }
    assert!(tried > 1);
    Ok(())
}

/// Pillow's results, byte for byte, where torchvision does the same.
#[test]
fn operations_on_bytes_are_pillows() -> Result<()> {
    let Recorded { side, exact: cases, .. } = recorded();
    for Exact { operation, strength, from, to } in cases {
        let got = exact::apply(operation, strength, &from, [side; 2])?;
        let wrong: Vec<usize> = (0..to.len()).filter(|&place| got[place] != to[place]).collect();
        assert!(
            wrong.is_empty(),
            "{operation:?} at {strength}: {} of {} bytes differ; the first, {}: {} instead of {}",
            wrong.len(),
            to.len(),
            wrong[0],
            got[wrong[0]],
            to[wrong[0]]
        );
    }
    Ok(())
}

/// An encoder with weights of one's own.
fn filled<T>(
    new: impl FnOnce(candle_nn::VarBuilder<'static>) -> Result<T>,
    weights: &[(&str, Tensor)],
) -> Result<T> {
    let params = Params::new(Key::new(0));
    let encoder = new(params.frozen(&CPU))?;
    let weights: BTreeMap<_, _> =
        weights.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    params.load("", &weights)?;
    Ok(encoder)
}

#[test]
fn an_encoder_of_places_with_the_identity_moves_nothing() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle::DType::F32, &CPU);
    let identity = Tensor::new(&tst::affine::IDENTITY, &CPU)?;
    let weights = [("hidden", zeros(&[6])?), ("fc.weight", zeros(&[6, 7])?), ("fc.bias", identity)];
    let encoder = filled(Affine::new, &weights)?;
    let images = wave("images", &[3, 7, 9, 3], 1.0)?;
    let level = Tensor::new(&[[0.2_f32], [0.5], [0.9]], &CPU)?;
    assert!(gap(&encoder.forward(&images, &level, None)?, &images)? < 1e-5);
    // With noise it moves a little, and each image in a way of its own.
    let chance = Some(Chance { key: Key::new(1), noise: 0.01, gate: 4.0, temperature: 0.05 });
    assert!(gap(&encoder.forward(&images, &level, chance)?, &images)? < 1e-5, "its weights are 0");
    Ok(())
}

fn color() -> Result<Color> {
    let draw = |name: &str, shape: &[usize]| {
        Wave { shape: shape.to_vec(), scale: 0.5, shift: 0.0, dead: vec![] }.draw(name)
    };
    let weights = [
        ("feature", draw("feature", &[10])?),
        ("scale", Tensor::new(&[0.9_f32], &CPU)?),
        ("n.weight", draw("n", &[2, 11])?),
        ("c.weight", draw("c", &[2, 11])?),
        ("conv.weight", draw("conv", &[3, 3, 5, 5])?),
    ];
    filled(Color::new, &weights)
}

#[test]
fn encoders_of_colors_follow_their_formula() -> Result<()> {
    let Line { scale, shift, out, gradient } = recorded().color;
    let mut image: Vec<f32> = wave("images", &[2, 3, 6, 5], 2.0)?.flatten_all()?.to_vec1()?;
    for (place, pixel) in image.iter_mut().enumerate() {
        let (example, row, column) = (place / 90, place / 5 % 6, place % 5);
        let margin = example == 1 && (row < 2 || column == 4);
        if margin || (example, row, column) == (0, 3, 3) {
            *pixel = 0.0;
        }
    }
    let image = Tensor::from_vec(image, (2, 3, 6, 5), &CPU)?.permute((0, 2, 3, 1))?.contiguous()?;
    let (encoder, level) = (color()?, Var::new(&[[0.3_f32], [-0.8]], &CPU)?);
    let still = (Key::new(0), 0.0);
    let line = encoder.line(&level, still, None)?;
    near("scale", &line[0], &scale, 1e-5)?;
    near("shift", &line[1], &shift, 1e-5)?;
    let got = encoder.forward(&image, &level, still, None)?;
    near("out", &got.permute((0, 3, 1, 2))?.contiguous()?, &out, 1e-5)?;
    let slopes = weighed(&got)?.backward()?;
    near("gradient", slopes.get(&level).expect("it depends on the level"), &gradient, 1e-4)?;
    // What is black stays black: nothing is shifted into a margin of the whole image.
    let black = image.zeros_like()?;
    assert!(same(&encoder.forward(&black, &level, still, None)?, &black)?);
    Ok(())
}

/// scale ← 1 − b + b · scale, shift ← b · shift, b per image.
#[test]
fn a_gate_stands_before_the_line_and_not_before_the_convolution() -> Result<()> {
    let (encoder, level) = (color()?, Tensor::new(&[[0.3_f32], [-0.8], [0.5]], &CPU)?);
    let still = (Key::new(0), 0.0);
    let chance = Chance { key: Key::new(2), noise: 0.0, gate: 0.0, temperature: 1.0 };
    let gate = chance.gate(3, &CPU)?;
    let [scale, shift] = encoder.line(&level, still, None)?;
    let [gated, moved] = encoder.line(&level, still, Some(chance))?;
    assert!(gap(&gated, &((scale * &gate)? + gate.affine(-1.0, 1.0)?)?)? < 1e-6);
    assert!(gap(&moved, &(shift * &gate)?)? < 1e-6);
    let closed = Chance { gate: -1e4, ..chance };
    let images = wave("images", &[3, 6, 5, 3], 1.0)?;
    let through = encoder.forward(&images, &level, still, Some(closed))?;
    assert!(gap(&through, &images)? > 0.1, "the convolution is not gated");
    Ok(())
}

#[test]
fn relaxed_bits_are_those_of_the_formula() -> Result<()> {
    let bit = |logit: f32, uniform: f64| -> Result<f64> {
        let noise = (uniform.ln() - (1.0 - uniform).ln()) as f32;
        let bit = relaxed_bit(&Tensor::new(logit, &CPU)?, &Tensor::new(noise, &CPU)?, 0.05)?;
        Ok(f64::from(bit.to_scalar::<f32>()?))
    };
    for (logit, uniform, known) in [
        (0.5, 0.4, 0.868_835_077),
        (0.5, 0.5, 0.999_954_602),
        (0.5, 0.377_540_668_8, 0.5),
        (0.5, 0.1, 1.8117e-15),
        (0.0, 0.4, 3.006_38e-4),
    ] {
        let got = bit(logit, uniform)?;
        assert!((got / known - 1.0).abs() < 1e-4, "{got} instead of {known}");
    }
    let mut stream = Key::new(3).stream();
    let noise: Vec<f32> = (0..40_000).map(|_| logistic(&mut stream) as f32).collect();
    let bits = relaxed_bit(&Tensor::full(0.5_f32, (), &CPU)?, &Tensor::new(noise, &CPU)?, 0.05)?;
    let on = bits.gt(0.5)?.to_dtype(candle::DType::F32)?.mean_all()?.to_scalar::<f32>()?;
    assert!((on - 0.6225).abs() < 0.01, "{on}");
    Ok(())
}

/// A module and the weights of its policy.
struct Set {
    params: Params,
    module: Module,
}

fn set(settings: &str) -> Result<Set> {
    let (params, data) = (Params::new(Key::new(3)), data(5, [32, 32]));
    let settings: Tst = serde_json::from_str(settings).expect("settings of TST");
    let module = settings.module(&BuildCx::alone(params.builder(&CPU), &data))?;
    Ok(Set { params, module })
}

impl Set {
    /// All weights of the policy under a name, alike.
    fn put(&self, name: &str, value: f64) -> Result<()> {
        for (path, var) in self.params.group("augment") {
            if path.ends_with(name) {
                var.set(&Tensor::full(value as f32, var.shape(), &CPU)?)?;
            }
        }
        Ok(())
    }
}

/// Somewhat smooth images in [0, 1], as no noise is.
fn images(batch: usize) -> Result<Tensor> {
    let pixel = |place: usize| {
        let (example, rest) = (place / 3072, place % 3072);
        let (row, column, channel) = (rest / 96, rest / 3 % 32, rest % 3);
        let phase = example as f32 + channel as f32;
        0.5 + 0.4 * (row as f32 * 0.3 + phase).sin() * (column as f32 * 0.2 - phase).cos()
    };
    let pixels: Vec<f32> = (0..batch * 3072).map(pixel).collect();
    Ok(Tensor::from_vec(pixels, (batch, 32, 32, 3), &CPU)?)
}

#[test]
fn with_no_operation_drawn_or_no_bit_set_nothing_changes() -> Result<()> {
    let images = images(3)?;
    let none = set(r#"{ "drawn": 0 }"#)?;
    assert!(same(&none.module.change(&images, Key::new(1), false)?, &images)?);
    let off = set(r#"{ "probability": "intent" }"#)?;
    off.put("probability", -1e4)?;
    for seed in 0..5 {
        assert!(same(&off.module.change(&images, Key::new(seed), false)?, &images)?);
    }
    Ok(())
}

#[test]
fn one_operation_is_itself_and_two_add_their_changes() -> Result<()> {
    let images = images(3)?;
    let of = |operations: &str, combine: &str| -> Result<Tensor> {
        let drawn = operations.matches('"').count() / 2;
        let settings = format!(
            r#"{{ "probability": "intent", "operations": {operations}, "drawn": {drawn}, "combine": "{combine}" }}"#
        );
        let set = set(&settings)?;
        set.put("probability", 1e4)?;
        set.module.change(&images, Key::new(1), false)
    };
    let inverted = exact::apply_all(Operation::Invert, 0.0, &images)?;
    let equal = exact::apply_all(Operation::Equalize, 0.0, &images)?;
    for combine in ["additive", "sequential"] {
        assert!(gap(&of(r#"["invert"]"#, combine)?, &inverted)? < 1e-5);
        assert!(gap(&of(r#"["equalize"]"#, combine)?, &equal)? < 1e-5);
    }
    let both = ((inverted + &equal)? - &images)?;
    assert!(gap(&of(r#"["invert", "equalize"]"#, "additive")?, &both)? < 1e-5);
    // An encoder's part is the same whatever else is drawn: its chance is its own.
    let turned = of(r#"["rotate"]"#, "additive")?;
    let and = ((turned + equal)? - &images)?;
    assert!(gap(&of(r#"["rotate", "equalize"]"#, "additive")?, &and)? < 1e-5);
    assert!(gap(&of(r#"["invert", "equalize"]"#, "sequential")?, &both)? > 1e-2);
    Ok(())
}

/// The slope in every number of the policy, chance frozen, against differences.
#[test]
fn gradients_reach_what_was_drawn_and_nothing_else() -> Result<()> {
    let images = images(4)?;
    // No gradient passes through bytes: one after the other, what stands behind those is not differentiable.
    let encoded: Vec<_> = Operation::ALL[..LEVELS].iter().map(|operation| operation.name()).collect();
    let every: Vec<_> = Operation::ALL.iter().map(|operation| operation.name()).collect();
    for (probability, combine, operations) in [
        ("released", "additive", &every),
        ("intent", "additive", &every),
        ("released", "sequential", &encoded),
    ] {
        let settings = format!(
            r#"{{ "probability": "{probability}", "combine": "{combine}", "temperature": 1.0, "cutout": 16,
                  "operations": {operations:?} }}"#
        );
        let set = set(&settings)?;
        set.put("magnitude", 0.3)?;
        set.put("probability", -0.2)?;
        let mut moved = [0; 25];
        for seed in 0..12 {
            let shown = || set.module.change(&images, Key::new(seed), true);
            // The sum in double precision, so that a difference over so short a way keeps some digits.
            let total = || -> Result<f64> {
                let double = |tensor: &Tensor| tensor.to_dtype(candle::DType::F64);
                Ok((double(&shown()?)? * double(&images)?)?.sum_all()?.to_scalar()?)
            };
            let grads = (shown()? * &images)?.sum_all()?.backward()?;
            let mut place = 0;
            for (name, var) in set.params.group("augment") {
                let start: Vec<f32> = var.to_vec1()?;
                let slopes: Vec<f32> = grads.get(&var).expect("a gradient").to_vec1()?;
                for (index, slope) in slopes.into_iter().enumerate() {
                    let value = |step: f32| -> Result<f64> {
                        let mut there = start.clone();
                        there[index] += step;
                        var.set(&Tensor::new(there, &CPU)?)?;
                        total()
                    };
                    if slope == 0.0 {
                        assert_eq!(value(0.1)?, value(0.0)?, "{name} {index} was not drawn");
                    } else if seed < 3 {
                        let difference = (value(1e-3)? - value(-1e-3)?) / 2e-3;
                        let off = (f64::from(slope) - difference).abs();
                        assert!(
                            off < 0.05 * difference.abs() + 0.2,
                            "{probability}, {combine}, {name} {index}: {slope}, differences say {difference}"
                        );
                    }
                    moved[place] += usize::from(slope != 0.0);
                    place += 1;
                }
                var.set(&Tensor::new(start, &CPU)?)?;
            }
        }
        // Magnitudes come first by name, then probabilities.
        let (drawn, never) = moved.split_at(LEVELS + operations.len());
        assert!(drawn.iter().all(|&times| times > 0 && times < 12), "{moved:?}");
        assert!(never.iter().all(|&times| times == 0), "{moved:?}");
    }
    Ok(())
}

fn batch(count: usize) -> Result<Batch> {
    let numbers = Tensor::arange(0, count as u32, &CPU)?;
    Ok(Batch { images: images(count)?, labels: numbers.clone(), rows: numbers })
}

#[test]
fn a_student_sees_both_halves_and_a_search_the_changed_one() -> Result<()> {
    let (set, batch) = (set("{}")?, batch(3)?);
    let at = Step::first(Key::new(5));
    let (seen, said) = set.module.look(&batch, &at)?;
    assert_eq!(seen.images.dims(), [6, 32, 32, 3]);
    assert!(same(&seen.images.narrow(0, 3, 3)?.contiguous()?, &batch.images)?);
    assert_eq!(seen.labels.to_vec1::<u32>()?, [0, 1, 2, 0, 1, 2]);
    assert_eq!(seen.rows.to_vec1::<u32>()?, [0, 1, 2, 0, 1, 2]);
    assert!(!seen.images.track_op() && said.is_empty());

    let (searched, said) = set.module.look(&batch, &Step { focuses: true, ..at })?;
    assert!(searched.images.track_op());
    assert!(same(&searched.images, &seen.images.narrow(0, 0, 3)?.contiguous()?)?, "the same draw");
    let value = |name: &str| -> Result<f32> {
        let term = said.iter().find(|term| term.name == name).expect("a reading");
        Ok(term.value.to_scalar()?)
    };
    assert_eq!(said.iter().count(), 14 + LEVELS);
    assert!((value("execution/rotate")? - 0.6225).abs() < 1e-4, "the released double squashing");
    assert_eq!(value("level/rotate")?, 0.5);
    Ok(())
}

#[test]
fn before_its_epoch_a_student_sees_what_there_is() -> Result<()> {
    let (set, batch) = (set(r#"{ "since": 2 }"#)?, batch(3)?);
    for (epoch, count) in [(0, 3), (1, 3), (2, 6)] {
        let at = Step { epoch, ..Step::first(Key::new(5)) };
        assert_eq!(set.module.look(&batch, &at)?.0.images.dim(0)?, count);
        assert_eq!(set.module.look(&batch, &Step { focuses: true, ..at })?.0.images.dim(0)?, 3);
    }
    Ok(())
}

#[test]
fn controls_have_nothing_to_learn() -> Result<()> {
    let (batch, at) = (batch(2)?, Step::first(Key::new(5)));
    let look = |settings: &str| -> Result<(usize, Tensor)> {
        let set = set(settings)?;
        let (seen, _) = set.module.look(&batch, &at)?;
        let learned = set.params.group("augment").iter().map(|(_, var)| var.elem_count()).sum();
        Ok((learned, seen.images))
    };
    let (learned, begins) = look("{}")?;
    let (zero, stays) = look(r#"{ "policy": "zero" }"#)?;
    let (random, drawn) = look(r#"{ "policy": "random" }"#)?;
    assert_eq!([learned, zero, random], [25, 0, 0]);
    assert!(same(&begins, &stays)? && !same(&begins, &drawn)?);
    Ok(())
}

#[test]
fn what_cannot_work_is_refused() {
    for (settings, said) in [
        (r#"{ "drawn": 15 }"#, "15 cannot be drawn of 14"),
        (r#"{ "operations": ["invert", "invert"], "drawn": 1 }"#, "twice"),
        (r#"{ "temperature": 0.0 }"#, "not above 0"),
        (r#"{ "encoders": "nowhere.safetensors" }"#, "is missing"),
    ] {
        let error = set(settings).err().expect("it cannot work").to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// Those of which doing nothing is far off; the others hardly change an image, and no encoder of colours can do what they do
/// to pixels that differ.
#[test]
fn encoders_that_come_with_the_program_imitate_their_operations() -> Result<()> {
    let (images, encoders) = (images(8)?, tst::encoders::frozen("cifar100", Tst::default().gate, &CPU)?);
    let pixels = data(5, [32, 32]).pixels;
    let normal = |images: &Tensor| sokd_ops::normalize(images, pixels.mean, pixels.std);
    let plain = normal(&images)?;
    let error = |a: &Tensor, b: &Tensor| -> Result<f64> {
        Ok(f64::from((a - b)?.sqr()?.mean_all()?.to_scalar::<f32>()?))
    };
    let far = [
        Operation::Brightness,
        Operation::Contrast,
        Operation::Solarize,
        Operation::ShearX,
        Operation::ShearY,
        Operation::TranslateX,
        Operation::TranslateY,
        Operation::Rotate,
    ];
    for operation in far {
        let (mut made, mut idle) = (0.0, 0.0);
        for bin in [3, 6, 9] {
            let target = normal(&exact::apply_all(operation, operation.strength(bin, 32), &images)?)?;
            let level = Tensor::full((bin as f32 + 0.5) / 10.0, (8, 1), &CPU)?;
            let got = match &encoders[operation.index()].encoder {
                tst::encoders::Encoder::Affine(encoder) => encoder.forward(&plain, &level, None)?,
                tst::encoders::Encoder::Color(encoder) => {
                    encoder.forward(&plain, &level, (Key::new(0), 0.0), None)?
                }
            };
            made += error(&got, &target)?;
            idle += error(&plain, &target)?;
        }
        assert!(made < 0.8 * idle, "{operation:?}: {made:.3}, {idle:.3} if it did nothing");
    }
    Ok(())
}

/// What moves places should be what the operation is, as far as an affine map that is linear in the strength can: shears of
/// 0.3, which move the middle too because they leave a corner where it is; 30 degrees; 150 of 331 parts of a side. The last
/// is learned less than the others, because images that overlap by less tell less.
#[test]
fn encoders_of_places_have_the_slopes_of_their_operations() -> Result<()> {
    let encoders = tst::encoders::frozen("cifar100", Tst::default().gate, &CPU)?;
    let shift = -2.0 * 150.0 / 331.0;
    for (operation, slopes, within) in [
        (Operation::ShearX, [0.0, 0.3, 0.3, 0.0, 0.0, 0.0], 0.02),
        (Operation::ShearY, [0.0, 0.0, 0.0, 0.3, 0.0, 0.3], 0.02),
        (Operation::TranslateX, [0.0, 0.0, shift, 0.0, 0.0, 0.0], 0.2),
        (Operation::TranslateY, [0.0, 0.0, 0.0, 0.0, 0.0, shift], 0.2),
        (Operation::Rotate, [0.0, -0.5, 0.0, 0.5, 0.0, 0.0], 0.05),
    ] {
        let tst::encoders::Encoder::Affine(encoder) = &encoders[operation.index()].encoder else {
            panic!("{operation:?} moves places")
        };
        let maps = encoder.map(&Tensor::new(&[[0.0_f32], [1.0]], &CPU)?, None)?.reshape((2, 6))?;
        let (still, moved) = (maps.get(0)?.to_vec1::<f32>()?, maps.get(1)?.to_vec1::<f32>()?);
        for place in 0..6 {
            let slope = f64::from(moved[place] - still[place]);
            assert!((slope - slopes[place]).abs() < within, "{operation:?}, {place}: a slope of {slope}");
            let off = f64::from(still[place] - tst::affine::IDENTITY[place]).abs();
            assert!(off < 0.06, "{operation:?}, {place}: {off} off the identity at a strength of 0");
        }
    }
    Ok(())
}
