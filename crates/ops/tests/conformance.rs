//! Every operation that the project uses, ours and candle's: gradients against finite differences in double precision,
//! and our kernels against the composed forms. All axes differ, so that a swapped one cannot hide; and every input has
//! a second user, so that a gradient written over another's cannot either. Long, because it is a list of all operations.

#[path = "../../../tests/src/wave.rs"]
#[allow(dead_code, reason = "shared with the workspace's tests, each of which uses a part")]
mod wave;

use candle::{D, DType, Device, Tensor, Var};
use sokd_core::{Error, Mode, Result};
use sokd_ops::{
    Backend, Conv, GridPadding, GridSample, Norm, Pool, abs, adaptive_avg_pool2d, affine_grid, avg_pool2d,
    batch_norm, channel_concat, channel_pad, channel_range, channel_shuffle, conv_norm, conv2d, energy,
    global_avg_pool, grid_sample, linear, log_softmax, max_pool2d, normalize, permute_channels, relu,
    sigmoid, squared_distance, unit, upsample_bilinear2d, upsample_nearest2d, with_backend,
};
use wave::wave;

struct Case {
    name: &'static str,
    /// Axes of each input.
    shapes: Vec<Vec<usize>>,
    run: fn(&[Tensor]) -> Result<Tensor>,
}

impl Case {
    /// Inputs in (-1, 1).
    fn inputs(&self, dtype: DType) -> Result<Vec<Var>> {
        let draw = |(index, shape): (usize, &Vec<usize>)| {
            let drawn = wave(&format!("{} {index}", self.name), shape, 1.0)?;
            Ok(Var::from_tensor(&drawn.to_dtype(dtype)?)?)
        };
        self.shapes.iter().enumerate().map(draw).collect()
    }

    fn result(&self, inputs: &[Var]) -> Result<Tensor> {
        (self.run)(&inputs.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>())
    }

    /// What is differentiated: the result, weighed, and each input once more, weighed otherwise.
    fn loss(&self, inputs: &[Var]) -> Result<Tensor> {
        let weigh = |name: &str, tensor: &Tensor| -> Result<Tensor> {
            Ok((wave(name, tensor.dims(), 1.0)?.to_dtype(tensor.dtype())? * tensor)?.sum_all()?)
        };
        let mut loss = weigh("result", &self.result(inputs)?)?;
        for input in inputs {
            loss = (loss + weigh("second user", input)?)?;
        }
        Ok(loss)
    }

    fn gradients(&self, inputs: &[Var]) -> Result<Vec<Tensor>> {
        let store = self.loss(inputs)?.backward()?;
        Ok(inputs.iter().map(|input| store.get(input).expect("a second user").clone()).collect())
    }
}

fn cases() -> Vec<Case> {
    let mut cases = ours();
    cases.extend(candles());
    cases
}

/// A map of 2 x 5 x 7 pixels and 3 channels.
const MAP: [usize; 4] = [2, 5, 7, 3];

fn ours() -> Vec<Case> {
    let case = |name, shapes: &[&[usize]], run| Case {
        name,
        shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
        run,
    };
    vec![
        case("conv2d", &[&MAP, &[3, 3, 3, 4], &[4]], |x| conv2d(&x[0], &x[1], Some(&x[2]), Conv::same(3, 1))),
        case("conv2d, stride 2, even against odd side", &[&[1, 8, 9, 2], &[3, 3, 2, 3]], |x| {
            conv2d(&x[0], &x[1], None, Conv::same(3, 2))
        }),
        case("conv2d, 1 x 1, stride 2", &[&MAP, &[1, 1, 3, 5]], |x| {
            conv2d(&x[0], &x[1], None, Conv::same(1, 2))
        }),
        case("conv2d, all oblong, in groups", &[&[2, 6, 7, 4], &[3, 2, 2, 6], &[6]], |x| {
            let conv =
                Conv { stride: [1, 2], padding: [2, 1], dilation: [2, 1], groups: 2, ..Conv::default() };
            conv2d(&x[0], &x[1], Some(&x[2]), conv)
        }),
        case("conv2d, depthwise", &[&MAP, &[3, 3, 1, 3]], |x| {
            conv2d(&x[0], &x[1], None, Conv { groups: 3, ..Conv::same(3, 2) })
        }),
        case("conv2d, depthwise, two a channel", &[&MAP, &[3, 3, 1, 6]], |x| {
            conv2d(&x[0], &x[1], None, Conv { groups: 3, ..Conv::same(3, 1) })
        }),
        case("batch norm", &[&MAP, &[3], &[3]], |x| norm(x, None, false, Mode::Train)),
        case("batch norm, residual, relu", &[&MAP, &[3], &[3], &MAP], |x| {
            norm(x, Some(&x[3]), true, Mode::Probe)
        }),
        case("batch norm, at rest", &[&MAP, &[3], &[3], &MAP], |x| norm(x, Some(&x[3]), true, Mode::Eval)),
        case("conv and norm", &[&MAP, &[4], &[4], &[2, 5, 7, 4], &[3, 3, 3, 4]], |x| {
            with_norm(x, |norm| {
                conv_norm(&x[0], &x[4], Conv::same(3, 1), norm, Some(&x[3]), true, Mode::Train)
            })
        }),
        case("conv and norm, at rest", &[&MAP, &[4], &[4], &[2, 3, 4, 4], &[3, 3, 3, 4]], |x| {
            with_norm(x, |norm| {
                conv_norm(&x[0], &x[4], Conv::same(3, 2), norm, Some(&x[3]), true, Mode::Eval)
            })
        }),
        case("relu", &[&MAP], |x| relu(&x[0])),
        case("abs", &[&MAP], |x| abs(&x[0])),
        case("max pool, 2 x 2", &[&[2, 4, 6, 3]], |x| max_pool2d(&x[0], Pool::square(2, 2))),
        case("max pool, overlapping", &[&[2, 5, 7, 17]], |x| {
            max_pool2d(&x[0], Pool { padding: [1; 2], ..Pool::square(3, 2) })
        }),
        case("max pool, oblong, up", &[&MAP], |x| {
            max_pool2d(&x[0], Pool { kernel: [3, 2], stride: [1, 3], padding: [1, 0], ceil: true })
        }),
        case("average pool", &[&[2, 5, 7, 17]], |x| {
            avg_pool2d(&x[0], Pool { padding: [1; 2], ..Pool::square(3, 2) }, true)
        }),
        case("average pool, without padding, up", &[&MAP], |x| {
            avg_pool2d(&x[0], Pool { kernel: [3, 2], stride: [2, 3], padding: [1, 1], ceil: true }, false)
        }),
        case("adaptive average pool", &[&MAP], |x| adaptive_avg_pool2d(&x[0], [3, 2])),
        case("global average pool", &[&MAP], |x| global_avg_pool(&x[0])),
        case("nearest", &[&MAP], |x| upsample_nearest2d(&x[0], [10, 14])),
        case("nearest, uneven", &[&MAP], |x| upsample_nearest2d(&x[0], [8, 4])),
        case("bilinear", &[&MAP], |x| upsample_bilinear2d(&x[0], [8, 4], false)),
        case("bilinear, corners", &[&MAP], |x| upsample_bilinear2d(&x[0], [9, 10], true)),
        case("affine grid", &[&[2, 2, 3]], |x| affine_grid(&x[0], [4, 5], false)),
        case("affine grid, corners", &[&[2, 2, 3]], |x| affine_grid(&x[0], [4, 5], true)),
        case("grid sample, zeros", &[&MAP, &[2, 3, 4, 2]], |x| sample(x, GridPadding::Zeros, false)),
        case("grid sample, border", &[&MAP, &[2, 3, 4, 2]], |x| sample(x, GridPadding::Border, true)),
        case("grid sample, reflection", &[&MAP, &[2, 3, 4, 2]], |x| {
            sample(x, GridPadding::Reflection, false)
        }),
        case("grid sample, nearest", &[&[2, 5, 7, 18], &[2, 3, 4, 2]], |x| {
            let how = GridSample { nearest: true, padding: GridPadding::Reflection, align_corners: true };
            grid_sample(&x[0], &(&x[1] * 1.7)?, how)
        }),
        case("a warp", &[&[2, 5, 7, 18], &[2, 2, 3]], |x| {
            let how = GridSample { padding: GridPadding::Border, ..BILINEAR };
            grid_sample(&x[0], &affine_grid(&x[1], [3, 4], false)?, how)
        }),
        case("channel shuffle", &[&[2, 3, 4, 6]], |x| channel_shuffle(&x[0], 2)),
        case("channels behind channels", &[&MAP, &[2, 5, 7, 2]], |x| channel_concat(&x[0], &x[1])),
        case("channels among channels", &[&[2, 3, 4, 6]], |x| channel_range(&x[0], 1..5)),
        case("channels among zeros", &[&[2, 3, 4, 5]], |x| channel_pad(&x[0], [2, 1])),
        case("permuted channels", &[&[2, 3, 4, 5]], |x| permute_channels(&x[0], &[3, 0, 4, 1, 2])),
        case("linear", &[&[3, 5], &[4, 5], &[4]], |x| linear(&x[0], &x[1], Some(&x[2]))),
        case("energy", &[&[2, 3, 5, 37]], |x| energy(&x[0])),
        case("unit", &[&[2, 3, 5, 37]], |x| unit(&x[0])),
        case("sigmoid", &[&MAP], |x| sigmoid(&(&x[0] * 10.0)?)),
        case("squared distance", &[&MAP, &MAP], |x| squared_distance(&x[0], &x[1])),
        case("squared distance, many channels", &[&[2, 3, 37], &[2, 3, 37]], |x| {
            squared_distance(&x[0], &x[1])
        }),
        case("log softmax", &[&[3, 5]], |x| log_softmax(&(&x[0] * 10.0)?)),
        case("normalize", &[&MAP], |x| normalize(&x[0], [0.5, 0.4, 0.3], [0.25, 0.2, 0.3])),
    ]
}

fn norm(x: &[Tensor], residual: Option<&Tensor>, relu: bool, mode: Mode) -> Result<Tensor> {
    with_norm(x, |norm| batch_norm(&x[0], norm, residual, relu, mode))
}

/// A normalisation by `x[1]` and `x[2]`, with statistics of its own.
fn with_norm(x: &[Tensor], work: impl FnOnce(&Norm<'_>) -> Result<Tensor>) -> Result<Tensor> {
    let (mean, var) = (x[1].detach().affine(0.0, 0.25)?, x[1].detach().affine(0.0, 2.0)?);
    work(&Norm { weight: &x[1], bias: &x[2], mean: &mean, var: &var, eps: 1e-5, momentum: 0.1 })
}

const BILINEAR: GridSample = GridSample { nearest: false, padding: GridPadding::Zeros, align_corners: false };

/// Beyond the map too.
fn sample(x: &[Tensor], padding: GridPadding, align_corners: bool) -> Result<Tensor> {
    grid_sample(&x[0], &(&x[1] * 1.7)?, GridSample { padding, align_corners, ..BILINEAR })
}

/// candle's own, as losses, plug-ins and networks call them.
fn candles() -> Vec<Case> {
    let case = |name, shapes: &[&[usize]], run| Case {
        name,
        shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
        run,
    };
    vec![
        case(
            "+ - * /",
            &[&[3, 5], &[3, 5]],
            |x| Ok((((&x[0] + &x[1])? * (&x[0] - &x[1])?)? / away(&x[1])?)?),
        ),
        case("broadcast + - * /", &[&[3, 4, 5], &[4, 1], &[3, 1, 5]], |x| {
            let y = x[0].broadcast_add(&x[1])?.broadcast_mul(&x[2])?;
            Ok(y.broadcast_sub(&x[2])?.broadcast_div(&away(&x[1])?)?)
        }),
        case("broadcast as", &[&[3, 1, 5]], |x| Ok(x[0].broadcast_as((2, 3, 4, 5))?)),
        case("affine, neg, recip", &[&[3, 5]], |x| {
            Ok((x[0].affine(0.7, -0.2)?.neg()? + away(&x[0])?.recip()?)?)
        }),
        case("exp, log, sqrt, sqr, powf, tanh", &[&[3, 5]], |x| {
            let up = away(&x[0])?;
            let y = ((x[0].exp()? + up.log()?)? * up.sqrt()?)?;
            Ok((((y + up.powf(1.3)?)? * x[0].tanh()?)? + x[0].sqr()?)?)
        }),
        case("sin, cos", &[&[3, 5]], |x| Ok((x[0].sin()? * x[0].cos()?)?)),
        case("maximum, minimum, clamp", &[&[3, 5], &[3, 5]], |x| {
            Ok((x[0].maximum(&x[1])? + (x[0].minimum(&x[1])? * x[0].clamp(-0.5, 0.5)?)?)?)
        }),
        case("where", &[&[3, 5], &[3, 5]], |x| Ok(x[0].gt(&x[1])?.where_cond(&x[0], &(&x[1] * 2.0)?)?)),
        case("sums", &[&[3, 4, 5]], |x| {
            let y = x[0].sum_keepdim((0, 2))?.broadcast_mul(&x[0])?;
            Ok(y.broadcast_add(&x[0].sum(1)?.unsqueeze(1)?)?)
        }),
        case("means", &[&[3, 4, 5]], |x| {
            let y = x[0].broadcast_sub(&x[0].mean_keepdim(D::Minus1)?)?;
            Ok(y.broadcast_mul(&x[0].mean((0, 1))?)?.broadcast_mul(&x[0].mean_all()?)?)
        }),
        case("variance", &[&[3, 4, 5]], |x| Ok(x[0].var_keepdim(1)?)),
        case("largest and least of an axis", &[&[3, 4, 5]], |x| {
            Ok((x[0].max_keepdim(1)? * x[0].min_keepdim(1)?)?)
        }),
        case("log of a sum of exponentials", &[&[3, 4, 5]], |x| Ok(x[0].log_sum_exp(1)?)),
        case("matmul", &[&[3, 5], &[4, 5]], |x| Ok(x[0].matmul(&x[1].t()?)?)),
        case("matmul in batches", &[&[2, 3, 5], &[2, 5, 4]], |x| Ok(x[0].matmul(&x[1])?)),
        case("matmul, broadcast", &[&[1, 3, 5], &[2, 5, 4]], |x| Ok(x[0].broadcast_matmul(&x[1])?)),
        case("gather", &[&[3, 5]], |x| {
            let picks = Tensor::new(&[[4u32, 0], [1, 1], [2, 3]], &Device::Cpu)?;
            Ok(x[0].gather(&picks, 1)?)
        }),
        case("index select", &[&[3, 5]], |x| {
            Ok(x[0].index_select(&Tensor::new(&[4u32, 0, 0, 2], &Device::Cpu)?, 1)?)
        }),
        case("index add", &[&[3, 5], &[3, 2]], |x| {
            Ok(x[0].index_add(&Tensor::new(&[4u32, 0], &Device::Cpu)?, &x[1], 1)?)
        }),
        case("cat, stack, chunks", &[&[3, 4], &[3, 2]], |x| {
            let y = Tensor::cat(&[&x[0], &x[1], &x[0]], 1)?;
            let parts = y.chunk(2, 1)?;
            Ok(Tensor::stack(&parts, 0)?)
        }),
        case("narrow, pad, repeat", &[&[3, 5]], |x| {
            Ok(x[0].narrow(1, 1, 3)?.pad_with_zeros(0, 1, 2)?.repeat((1, 2))?)
        }),
        case("axes turned and joined", &[&[2, 3, 4, 5]], |x| {
            let y = x[0].permute((0, 3, 1, 2))?.flatten_from(2)?.transpose(1, 2)?;
            Ok(y.reshape((2, 4, 15))?.unsqueeze(1)?.squeeze(1)?.contiguous()?)
        }),
        case("softmax, sigmoid", &[&[3, 5]], |x| {
            Ok((candle_nn::ops::softmax(&x[0], 1)? * candle_nn::ops::sigmoid(&x[0])?)?)
        }),
        case("sorted, summed on", &[&[3, 5]], |x| {
            let (sorted, _) = x[0].sort_last_dim(false)?;
            Ok(sorted.cumsum(1)?)
        }),
        case("flip", &[&[3, 5]], |x| Ok(x[0].flip(&[1])?)),
        case("types", &[&[3, 5]], |x| Ok(x[0].to_dtype(DType::F64)?.sqr()?.to_dtype(x[0].dtype())?)),
    ]
}

/// At least 0.5.
fn away(x: &Tensor) -> Result<Tensor> {
    Ok((x.sqr()? + 0.5)?)
}

/// A number in each input is moved up and down; how the loss follows is the gradient there.
fn differs_as_promised(case: &Case) -> Result<()> {
    const STEP: f64 = 1e-5;
    let inputs = case.inputs(DType::F64)?;
    for (index, gradient) in case.gradients(&inputs)?.iter().enumerate() {
        let gradient = gradient.flatten_all()?.to_vec1::<f64>()?;
        let start = inputs[index].as_tensor().copy()?;
        let moved = |place: usize, by: f64| -> Result<f64> {
            let mut numbers = start.flatten_all()?.to_vec1::<f64>()?;
            numbers[place] += by;
            inputs[index].set(&Tensor::from_vec(numbers, start.shape(), &Device::Cpu)?)?;
            Ok(case.loss(&inputs)?.to_scalar::<f64>()?)
        };
        // Of large inputs a third: the strides of all axes are prime to three.
        for place in (0..gradient.len()).step_by(if gradient.len() > 60 { 3 } else { 1 }) {
            let slope = (moved(place, STEP)? - moved(place, -STEP)?) / (2.0 * STEP);
            assert!(
                (slope - gradient[place]).abs() < 1e-6 * (1.0 + slope.abs()),
                "{}: input {index}, number {place}: gradient {}, difference {slope}",
                case.name,
                gradient[place],
            );
        }
        inputs[index].set(&start)?;
    }
    Ok(())
}

#[test]
fn gradients_are_what_finite_differences_say() -> Result<()> {
    cases().iter().try_for_each(differs_as_promised)
}

/// To a share of the largest number.
fn assert_near(what: &str, got: &Tensor, expected: &Tensor) -> Result<()> {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let expected = expected.to_dtype(DType::F64)?;
    let gap = (got.to_dtype(DType::F64)? - &expected)?.abs_largest()?;
    let scale = expected.abs_largest()?.max(1e-3);
    assert!(gap <= 3e-6 * scale, "{what}: off by {gap}, where the largest is {scale}");
    Ok(())
}

trait AbsLargest {
    fn abs_largest(&self) -> Result<f64>;
}

impl AbsLargest for Tensor {
    fn abs_largest(&self) -> Result<f64> {
        Ok(self.sqr()?.flatten_all()?.max(0)?.sqrt()?.to_scalar()?)
    }
}

#[test]
fn kernels_agree_with_the_composed_forms() -> Result<()> {
    for case in ours() {
        let (kernels, exact) = (case.inputs(DType::F32)?, case.inputs(DType::F64)?);
        let fast =
            |inputs: &[Var]| with_backend(Backend::Fast, || (case.result(inputs), case.gradients(inputs)));
        let ((y, gradients), exact) = (fast(&kernels), (case.result(&exact)?, case.gradients(&exact)?));
        assert_near(case.name, &y?, &exact.0)?;
        for (index, (got, expected)) in gradients?.iter().zip(&exact.1).enumerate() {
            assert_near(&format!("{}, gradient {index}", case.name), got, expected)?;
        }
    }
    Ok(())
}

/// Inputs whose numbers lie in another order in memory.
#[test]
fn views_are_read_as_what_they_show() -> Result<()> {
    for case in ours() {
        for backend in [Backend::Fast, Backend::Composed] {
            let inputs = case.inputs(DType::F32)?;
            let views = inputs.iter().map(|input| {
                let turned = input.rank().saturating_sub(2);
                Ok(match input.rank() {
                    1 => Tensor::stack(&[input.as_tensor(), input.as_tensor()], 1)?
                        .narrow(1, 1, 1)?
                        .squeeze(1)?,
                    _ => input.transpose(turned, turned + 1)?.contiguous()?.transpose(turned, turned + 1)?,
                })
            });
            let views: Vec<Tensor> = views.collect::<Result<_>>()?;
            with_backend(backend, || {
                let of_views = (case.run)(&views)?;
                assert_near(case.name, &of_views, &case.result(&inputs)?)?;
                let store = of_views.sqr()?.sum_all()?.backward()?;
                let expected = case.result(&inputs)?.sqr()?.sum_all()?.backward()?;
                for input in &inputs {
                    if let (Some(got), Some(expected)) = (store.get(input), expected.get(input)) {
                        assert_near(case.name, got, expected)?;
                    }
                }
                Ok::<_, sokd_core::Error>(())
            })?;
        }
    }
    Ok(())
}

/// Enough numbers that work is shared, in threads that are one, two or five.
#[test]
fn threads_do_not_change_a_bit() -> Result<()> {
    let big = |case: &Case| -> Result<Vec<u32>> {
        let inputs = case.inputs(DType::F32)?;
        let mut bits = case.result(&inputs)?.flatten_all()?.to_vec1::<f32>()?;
        for gradient in case.gradients(&inputs)? {
            bits.extend(gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(bits.into_iter().map(f32::to_bits).collect())
    };
    for mut case in ours() {
        // The batch is the first axis of every map, grid and row.
        let batch = case.shapes[0][0];
        let each: usize = case.shapes[0][1..].iter().product();
        for shape in &mut case.shapes {
            if shape.len() > 1 && shape[0] == batch {
                shape[0] = (1usize << 16).div_ceil(each) | 1;
            }
        }
        let results: Vec<Vec<u32>> = [1, 2, 5]
            .map(|threads| {
                let pool =
                    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a few threads");
                pool.install(|| big(&case))
            })
            .into_iter()
            .collect::<Result<_>>()?;
        assert!(results[0] == results[1] && results[0] == results[2], "{}", case.name);
    }
    Ok(())
}

/// Training that diverges must say so: neither a maximum nor a gate may swallow what is not a number.
#[test]
fn what_is_not_a_number_is_passed_on() -> Result<()> {
    let map = Tensor::new(&[[[[f32::NAN], [1.0]], [[2.0], [3.0]]]], &Device::Cpu)?;
    for backend in [Backend::Fast, Backend::Composed] {
        with_backend(backend, || {
            for y in [max_pool2d(&map, Pool::square(2, 2))?, relu(&map)?, abs(&map)?, global_avg_pool(&map)?]
            {
                let first = y.flatten_all()?.to_vec1::<f32>()?[0];
                assert!(first.is_nan(), "{backend:?}: {first}");
            }
            Ok::<_, sokd_core::Error>(())
        })?;
    }
    Ok(())
}

#[test]
fn what_cannot_work_is_an_error_with_values() -> Result<()> {
    let map = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let (small, none) = (map(&[1, 2, 3, 4])?, map(&[1, 0, 3, 4])?);
    let refused = [
        max_pool2d(&small, Pool::square(3, 1)),
        max_pool2d(&small, Pool::square(2, 0)),
        avg_pool2d(&small, Pool { padding: [2; 2], ..Pool::square(3, 1) }, true),
        adaptive_avg_pool2d(&none, [1, 1]),
        upsample_nearest2d(&none, [2, 2]),
        upsample_bilinear2d(&small, [0, 2], true),
        affine_grid(&map(&[1, 3, 2])?, [2, 2], true),
        grid_sample(&small, &map(&[2, 5, 5, 2])?, BILINEAR),
        channel_shuffle(&small, 3),
        channel_range(&small, 1..5),
        channel_concat(&small, &map(&[1, 3, 2, 4])?),
        permute_channels(&small, &[0, 1]),
        permute_channels(&small, &[0; 4]),
        linear(&map(&[2, 3])?, &map(&[4, 5])?, None),
        linear(&map(&[2, 3])?, &map(&[4, 3])?, Some(&map(&[3])?)),
        normalize(&small, [0.0; 3], [1.0; 3]),
    ];
    for (index, refused) in refused.into_iter().enumerate() {
        let error = refused.expect_err("a refusal");
        assert!(matches!(error, Error::Shape { .. } | Error::Setting { .. }), "{index}: {error}");
    }
    Ok(())
}
