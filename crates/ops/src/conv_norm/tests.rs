//! The kernels' operations against the composed ones, gradients and running statistics included.

use crate::{Backend, Conv, Norm, batch_norm, conv_norm, conv_norm_relu, conv2d, relu, with_backend};
use candle::{Device, Tensor, Var};
use sokd_core::{Key, Lazy, Mode, Result};

fn noise(name: &str, shape: &[usize]) -> Tensor {
    let mut stream = Key::new(5).fold(name).stream();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn var(name: &str, shape: &[usize]) -> Var {
    Var::from_tensor(&noise(name, shape)).unwrap()
}

fn close(what: &str, fast: &Tensor, composed: &Tensor, within: f32) {
    assert_eq!(fast.dims(), composed.dims(), "{what}");
    let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    let (apart, size) = (norm(&(fast - composed).unwrap()), norm(composed));
    assert!(apart <= within * size.max(1e-3), "{what}: {apart} apart, of {size}");
}

/// All that an operation on these computes: its result, the gradients, the running statistics it leaves.
fn all(
    backend: Backend,
    shapes: (&[usize], &[usize], &[usize]),
    run: impl Fn(&Tensor, &Tensor, &Norm<'_>, &Tensor) -> Result<Tensor>,
) -> Vec<Tensor> {
    let (x, kernel, residual) = (var("x", shapes.0), var("kernel", shapes.1), var("residual", shapes.2));
    let channels = &shapes.2[3..];
    let (weight, bias) = (var("weight", channels), var("bias", channels));
    let (mean, variance) = (noise("mean", channels), noise("var", channels).exp().unwrap());
    let norm = Norm { weight: &weight, bias: &bias, mean: &mean, var: &variance, eps: 1e-5, momentum: 0.1 };
    let (y, gradients) = with_backend(backend, || {
        let y = run(&x, &kernel, &norm, &residual).unwrap();
        let loss = (&y * noise("gradient", shapes.2)).unwrap().sum_all().unwrap();
        (y, loss.backward().unwrap())
    });
    let mut out = vec![y];
    for var in [&x, &kernel, &residual, &weight, &bias] {
        out.push(gradients.get(var).cloned().unwrap_or_else(|| var.zeros_like().unwrap()));
    }
    out.extend([mean, variance]);
    out
}

fn compare(
    what: &str,
    shapes: (&[usize], &[usize], &[usize]),
    run: impl Fn(&Tensor, &Tensor, &Norm<'_>, &Tensor) -> Result<Tensor>,
) {
    compare_within(2e-6, what, shapes, run);
}

fn compare_within(
    within: f32,
    what: &str,
    shapes: (&[usize], &[usize], &[usize]),
    run: impl Fn(&Tensor, &Tensor, &Norm<'_>, &Tensor) -> Result<Tensor>,
) {
    let names = ["y", "x", "kernel", "residual", "weight", "bias", "running mean", "running variance"];
    let composed = all(Backend::Composed, shapes, &run);
    for backend in [Backend::Fast, Backend::Mirror] {
        for ((name, fast), composed) in names.iter().zip(all(backend, shapes, &run)).zip(&composed) {
            close(&format!("{what}, {backend:?}: {name}"), &fast, composed, within);
        }
    }
}

/// A part of a map, with more channels.
fn as_channels(x: &Tensor) -> Result<Tensor> {
    let part = x.narrow(1, 0, 4)?.narrow(2, 0, 3)?;
    Ok(Tensor::cat(&[&part, &part.sqr()?], 3)?.narrow(3, 0, 9)?)
}

#[test]
fn conv_norm_is_its_composed_form_in_every_mode() {
    let shapes: (&[usize], &[usize], &[usize]) = (&[3, 7, 6, 5], &[3, 3, 5, 9], &[3, 4, 3, 9]);
    let conv = Conv::same(3, 2);
    for mode in [Mode::Train, Mode::Probe, Mode::Eval] {
        for relu in [false, true] {
            compare(&format!("{mode:?}, relu {relu}"), shapes, |x, kernel, norm, _| {
                conv_norm(x, kernel, conv, norm, None, relu, mode)
            });
            compare(&format!("{mode:?}, relu {relu}, residual"), shapes, |x, kernel, norm, residual| {
                conv_norm(x, kernel, conv, norm, Some(residual), relu, mode)
            });
            compare(&format!("norm alone, {mode:?}, relu {relu}"), shapes, |x, _, norm, residual| {
                let x = as_channels(x)?;
                batch_norm(&x, norm, None, relu, mode)?.add(residual).map_err(Into::into)
            });
            compare(
                &format!("norm alone, {mode:?}, relu {relu}, residual"),
                shapes,
                |x, _, norm, residual| {
                    let x = as_channels(x)?;
                    batch_norm(&x, norm, Some(residual), relu, mode)
                },
            );
        }
    }
}

/// A residual block: its input is convolved, and added to what becomes of that. The convolution adds its gradient to the sum's, and
/// no pass over memory does.
#[test]
fn where_two_ways_part_the_convolution_adds_up_their_gradients() {
    let shape: &[usize] = &[2, 6, 5, 8];
    for (kernel, residual) in [(&[3, 3, 8, 8][..], false), (&[3, 3, 8, 8], true), (&[1, 1, 8, 8], false)] {
        let block = |x: &Tensor, kernel: &Tensor, norm: &Norm<'_>, other: &Tensor| {
            let x = crate::relu(x)?;
            let conv = Conv::same(kernel.dim(0)?, 1);
            let first = conv_norm(&x, kernel, conv, norm, residual.then_some(other), true, Mode::Probe)?;
            conv_norm(&first, kernel, conv, norm, Some(&x), true, Mode::Probe)
        };
        compare(&format!("a block, {kernel:?}"), (shape, kernel, shape), block);
        let kinds = crate::spent(|| all(Backend::Fast, (shape, kernel, shape), block)).1;
        assert!(kinds.iter().any(|kind| kind.work == "gradient of conv-norm"), "{kinds:?}");
        assert!(kinds.iter().all(|kind| kind.work != "sum of gradients"), "{kinds:?}");
    }
}

/// A ReLU that is computed with what it reads gives the bits that it gives apart, whoever reads which of the two maps, and whether
/// the sum's other part is kept or made again. The map before it is made for nobody who does not ask.
#[test]
fn a_map_before_its_relu_is_made_when_someone_asks() {
    type Reader = fn(&Tensor, &Lazy) -> Result<Tensor>;
    let readers: [(&str, u64, Reader); 4] = [
        ("the map", 0, |map, _| Ok(map.clone())),
        ("what was before", 1, |_, before| before.tensor()),
        ("both", 1, |map, before| Ok((map * before.tensor()?)?)),
        ("what was before, twice", 2, |_, before| Ok((relu(&before.tensor()?)? * before.tensor()?)?)),
    ];
    let shape: &[usize] = &[3, 5, 4, 8];
    let (shapes, conv) = ((shape, &[3, 3, 8, 8][..], shape), Conv::same(3, 1));
    for (who, asks, reader) in readers {
        for residual in ["none", "kept", "made again"] {
            let two = |x: &Tensor, kernel: &Tensor, norm: &Norm<'_>, other: &Tensor, together: bool| {
                let other = match residual {
                    "none" => None,
                    "kept" => Some(other.clone()),
                    _ => Some(conv_norm(other, kernel, conv, norm, None, true, Mode::Probe)?),
                };
                if together {
                    return conv_norm_relu(x, kernel, conv, norm, other.as_ref(), Mode::Train);
                }
                let before = conv_norm(x, kernel, conv, norm, other.as_ref(), false, Mode::Train)?;
                Ok((relu(&before)?, before.into()))
            };
            let run = |together: bool| {
                move |x: &Tensor, kernel: &Tensor, norm: &Norm<'_>, other: &Tensor| {
                    let (map, before) = two(x, kernel, norm, other, together)?;
                    reader(&map, &before)
                }
            };
            compare(&format!("{who}, residual {residual}"), shapes, run(true));
            let (found, kinds) = crate::spent(|| all(Backend::Fast, shapes, run(true)));
            for (index, (together, apart)) in
                found.iter().zip(all(Backend::Fast, shapes, run(false))).enumerate()
            {
                let bits = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(bits(together), bits(&apart), "{who}, residual {residual}: {index}");
            }
            // A residual that is not kept is made again for each who asks, and for its own ReLU.
            let again = kinds.iter().find(|kind| kind.work == "conv-norm again").map_or(0, |kind| kind.times);
            let right = if residual == "made again" { 2 * asks + 1 } else { asks };
            assert_eq!(again, right, "{who}, residual {residual}: {kinds:?}");
        }
    }
}

#[test]
fn a_map_before_its_relu_is_gone_behind_a_backward_pass() {
    let (x, kernel) = (var("x", &[2, 4, 4, 6]), var("kernel", &[3, 3, 6, 6]));
    let [weight, bias, mean, var] = ["weight", "bias", "mean", "var"].map(|name| noise(name, &[6]));
    let norm = Norm { weight: &weight, bias: &bias, mean: &mean, var: &var, eps: 1e-5, momentum: 0.1 };
    let (map, before) = conv_norm_relu(&x, &kernel, Conv::same(3, 1), &norm, None, Mode::Train).unwrap();
    map.sum_all().unwrap().backward().unwrap();
    let error = before.tensor().unwrap_err().to_string();
    assert!(error.contains("went through this conv-norm before"), "{error}");
}

#[test]
fn inference_is_its_composed_form() {
    let shapes: (&[usize], &[usize], &[usize]) = (&[3, 7, 6, 5], &[3, 3, 5, 9], &[3, 7, 6, 9]);
    for relu in [false, true] {
        for with_residual in [false, true] {
            compare(
                &format!("relu {relu}, residual {with_residual}"),
                shapes,
                |x, kernel, norm, residual| {
                    let (weight, bias) = (norm.weight.detach(), norm.bias.detach());
                    let norm = Norm { weight: &weight, bias: &bias, ..*norm };
                    let residual = with_residual.then(|| residual.detach());
                    let y = conv_norm(
                        &x.detach(),
                        &kernel.detach(),
                        Conv::same(3, 1),
                        &norm,
                        residual.as_ref(),
                        relu,
                        Mode::Eval,
                    )?;
                    assert!(!y.track_op());
                    // Something to differentiate.
                    Ok((y + x.sum_all()?.broadcast_as(shapes.2)?)?)
                },
            );
        }
    }
}

#[test]
fn conv2d_is_its_composed_form() {
    let shapes: (&[usize], &[usize], &[usize]) = (&[2, 7, 6, 6], &[3, 2, 3, 8], &[2, 4, 6, 8]);
    let conv = Conv { stride: [2, 1], padding: [1, 1], dilation: [1, 2], groups: 2, ..Conv::default() };
    compare("bare", shapes, |x, kernel, _, _| conv2d(x, kernel, None, conv));
    compare("biased", shapes, |x, kernel, norm, _| conv2d(x, kernel, Some(norm.bias), conv));
    compare("of a transposed map", shapes, |x, kernel, _, _| {
        let conv = Conv { stride: [1, 2], padding: [1, 1], dilation: [2, 1], groups: 2, ..Conv::default() };
        Ok(conv2d(&x.transpose(1, 2)?, &kernel.transpose(0, 1)?, None, conv)?.transpose(1, 2)?)
    });
    compare("of a frozen map", shapes, |x, kernel, _, _| conv2d(&x.detach(), kernel, None, conv));
    compare("with a frozen kernel", shapes, |x, kernel, _, _| conv2d(x, &kernel.detach(), None, conv));
}

/// Where it pays: on a batch large enough for its channels.
#[test]
fn winograd_is_the_composed_form_but_for_rounding() {
    let shapes: (&[usize], &[usize], &[usize]) = (&[40, 8, 8, 64], &[3, 3, 64, 64], &[40, 8, 8, 64]);
    let conv = Conv { winograd: true, ..Conv::same(3, 1) };
    compare_within(1e-5, "bare", shapes, |x, kernel, _, _| conv2d(x, kernel, None, conv));
    compare_within(1e-5, "biased", shapes, |x, kernel, norm, _| conv2d(x, kernel, Some(norm.bias), conv));
    for mode in [Mode::Train, Mode::Eval] {
        compare_within(1e-5, &format!("{mode:?}"), shapes, |x, kernel, norm, residual| {
            conv_norm(x, kernel, conv, norm, Some(residual), true, mode)
        });
    }
}

#[test]
fn what_cannot_work_is_an_error_with_values() {
    let (x, kernel) = (noise("x", &[2, 4, 4, 6]), noise("kernel", &[3, 3, 6, 4]));
    let plain = Conv::default();
    let problems = [
        conv2d(&x, &noise("k", &[3, 3, 5, 4]), None, plain),
        conv2d(&x, &noise("k", &[5, 5, 6, 4]), None, plain),
        conv2d(&x, &kernel, None, Conv { stride: [0, 1], ..plain }),
        conv2d(&x, &kernel, None, Conv { groups: 4, ..plain }),
        conv2d(&x, &kernel, Some(&noise("b", &[3])), plain),
        conv2d(&x.narrow(0, 0, 0).unwrap(), &kernel, None, plain),
        conv2d(&x.squeeze(0).unwrap().narrow(0, 0, 1).unwrap().squeeze(0).unwrap(), &kernel, None, plain),
    ];
    for problem in problems {
        assert!(problem.unwrap_err().to_string().contains("convolution"));
    }
    let [weight, bias, mean, var] = ["weight", "bias", "mean", "var"].map(|name| noise(name, &[6]));
    let norm = Norm { weight: &weight, bias: &bias, mean: &mean, var: &var, eps: 1e-5, momentum: 0.1 };
    let single = noise("x", &[1, 1, 1, 6]);
    for mode in [Mode::Train, Mode::Probe] {
        let error = batch_norm(&single, &norm, None, false, mode).unwrap_err().to_string();
        assert!(error.contains("more than one value per channel"), "{error}");
    }
    assert!(batch_norm(&single, &norm, None, false, Mode::Eval).is_ok());
    assert!(batch_norm(&x.narrow(3, 0, 5).unwrap(), &norm, None, false, Mode::Eval).is_err());
    assert!(batch_norm(&x, &norm, Some(&single), false, Mode::Eval).is_err());
}
