//! Every operation, with arguments to try it on: what tests and [`parity`](crate::parity) go through. Long, because it is a
//! list of all operations.

use crate::{
    Conv, GridPadding, GridSample, Norm, Pool, abs, adaptive_avg_pool2d, affine_grid, avg_pool2d, batch_norm,
    channel_concat, channel_interleave, channel_pad, channel_range, channel_shuffle, conv_norm,
    conv_norm_relu, conv2d, cross_entropy, energy, global_avg_pool, grid_sample, linear, log_softmax,
    max_pool2d, narrow, normalize, permute_channels, relu, sigmoid, soft_cross_entropy, softened_divergence,
    softmax, squared_distance, total, unit, upsample_bilinear2d, upsample_nearest2d, widen,
    with_mixed_precision,
};
use candle::{D, DType, Device, Tensor, Var};
use sokd_core::{Error, Key, Mode, Result, Terms};

/// An operation, and what to try it on.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// Axes of each argument.
    pub shapes: Vec<Vec<usize>>,
    /// Computes it, of numbers between -1 and 1.
    pub run: fn(&[Tensor]) -> Result<Tensor>,
    /// Which of the arguments are maps, that a network in mixed precision has in bfloat16.
    pub maps: &'static [usize],
    /// Whether it is tried so.
    pub mixed: bool,
}

impl Case {
    fn new(name: &'static str, shapes: &[&[usize]], run: fn(&[Tensor]) -> Result<Tensor>) -> Self {
        let shapes = shapes.iter().map(|shape| shape.to_vec()).collect();
        Self { name, shapes, run, maps: &[], mixed: false }
    }

    fn of_maps(self, maps: &'static [usize]) -> Self {
        Self { maps, ..self }
    }

    /// Arguments: the same numbers whatever the type and the device.
    pub fn inputs(&self, dtype: DType, device: &Device) -> Result<Vec<Var>> {
        let draw = |(index, shape): (usize, &Vec<usize>)| {
            let mut drawn = noise(Key::new(index as u64).fold(self.name), shape)?;
            if self.rounds(index) {
                drawn = drawn.to_dtype(DType::BF16)?;
            }
            Ok(Var::from_tensor(&drawn.to_dtype(dtype)?.to_device(device)?)?)
        };
        self.shapes.iter().enumerate().map(draw).collect()
    }

    fn rounds(&self, index: usize) -> bool {
        self.mixed && self.maps.contains(&index)
    }

    /// The operation's result.
    pub fn result(&self, inputs: &[Var]) -> Result<Tensor> {
        let argument = |(index, var): (usize, &Var)| {
            let tensor = var.as_tensor();
            if self.rounds(index) { narrow(tensor) } else { Ok(tensor.clone()) }
        };
        let arguments = inputs.iter().enumerate().map(argument).collect::<Result<Vec<_>>>()?;
        if self.mixed {
            return widen(&with_mixed_precision(|| (self.run)(&arguments))?);
        }
        (self.run)(&arguments)
    }

    /// What is differentiated, one number: the result, weighed, and each input once more, weighed otherwise. So every input has
    /// a second user, and a gradient that is written over another's cannot hide.
    pub fn loss(&self, inputs: &[Var]) -> Result<Tensor> {
        let weigh = |name: &str, tensor: &Tensor| -> Result<Tensor> {
            let weights = noise(Key::new(0).fold(name), tensor.dims())?;
            Ok((weights.to_dtype(tensor.dtype())?.to_device(tensor.device())? * tensor)?
                .flatten_all()?
                .sum_all()?)
        };
        let mut loss = weigh("result", &self.result(inputs)?)?;
        for input in inputs {
            loss = (loss + weigh("second user", input)?)?;
        }
        Ok(loss)
    }

    /// The gradients of the loss.
    pub fn gradients(&self, inputs: &[Var]) -> Result<Vec<Tensor>> {
        let store = self.loss(inputs)?.backward()?;
        let of = |input: &Var| match store.get(input) {
            Some(gradient) => Ok(gradient.clone()),
            None => Ok(input.zeros_like()?),
        };
        inputs.iter().map(of).collect()
    }
}

/// Numbers between -1 and 1.
fn noise(key: Key, shape: &[usize]) -> Result<Tensor> {
    let mut stream = key.stream();
    let numbers: Vec<f32> = (0..shape.iter().product()).map(|_| stream.between(-1.0, 1.0) as f32).collect();
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
}

fn case(name: &'static str, shapes: &[&[usize]], run: fn(&[Tensor]) -> Result<Tensor>) -> Case {
    Case::new(name, shapes, run)
}

/// Those of them that networks do, on maps in bfloat16.
pub fn cases_in_mixed_precision() -> Vec<Case> {
    let of_networks = cases().into_iter().filter(|case| !case.maps.is_empty());
    of_networks.map(|case| Case { mixed: true, ..case }).collect()
}

/// A map of 2 x 5 x 7 pixels and 3 channels.
const MAP: [usize; 4] = [2, 5, 7, 3];

/// Every operation of this crate.
///
/// All axes differ, so that a swapped one cannot hide.
#[expect(clippy::too_many_lines, reason = "there are so many operations")]
pub fn cases() -> Vec<Case> {
    vec![
        case("conv2d", &[&MAP, &[3, 3, 3, 4], &[4]], |x| conv2d(&x[0], &x[1], Some(&x[2]), Conv::same(3, 1)))
            .of_maps(&[0]),
        case("conv2d, stride 2, even against odd side", &[&[1, 8, 9, 2], &[3, 3, 2, 3]], |x| {
            conv2d(&x[0], &x[1], None, Conv::same(3, 2))
        })
        .of_maps(&[0]),
        case("conv2d, 1 x 1, stride 2", &[&MAP, &[1, 1, 3, 5]], |x| {
            conv2d(&x[0], &x[1], None, Conv::same(1, 2))
        })
        .of_maps(&[0]),
        case("conv2d, all oblong, in groups", &[&[2, 6, 7, 4], &[3, 2, 2, 6], &[6]], |x| {
            let conv =
                Conv { stride: [1, 2], padding: [2, 1], dilation: [2, 1], groups: 2, ..Conv::default() };
            conv2d(&x[0], &x[1], Some(&x[2]), conv)
        })
        .of_maps(&[0]),
        case("conv2d, depthwise", &[&MAP, &[3, 3, 1, 3]], |x| {
            conv2d(&x[0], &x[1], None, Conv { groups: 3, ..Conv::same(3, 2) })
        })
        .of_maps(&[0]),
        case("conv2d, depthwise, two a channel", &[&MAP, &[3, 3, 1, 6]], |x| {
            conv2d(&x[0], &x[1], None, Conv { groups: 3, ..Conv::same(3, 1) })
        })
        .of_maps(&[0]),
        case("batch norm", &[&MAP, &[3], &[3]], |x| norm(x, None, false, Mode::Train)).of_maps(&[0]),
        case("batch norm, relu", &[&MAP, &[3], &[3]], |x| norm(x, None, true, Mode::Train)).of_maps(&[0]),
        case("batch norm, residual, relu", &[&MAP, &[3], &[3], &MAP], |x| {
            norm(x, Some(&x[3]), true, Mode::Probe)
        })
        .of_maps(&[0, 3]),
        case("batch norm, at rest", &[&MAP, &[3], &[3], &MAP], |x| norm(x, Some(&x[3]), true, Mode::Eval))
            .of_maps(&[0, 3]),
        case("conv and norm", &[&MAP, &[4], &[4], &[2, 5, 7, 4], &[3, 3, 3, 4]], |x| {
            with_norm(x, |norm| {
                conv_norm(&x[0], &x[4], Conv::same(3, 1), norm, Some(&x[3]), true, Mode::Train)
            })
        })
        .of_maps(&[0, 3]),
        case("conv and norm, relu", &[&MAP, &[4], &[4], &[3, 3, 3, 4]], |x| {
            with_norm(x, |norm| conv_norm(&x[0], &x[3], Conv::same(3, 1), norm, None, true, Mode::Train))
        })
        .of_maps(&[0]),
        case("conv and norm, and before the relu", &[&MAP, &[4], &[4], &[2, 5, 7, 4], &[3, 3, 3, 4]], |x| {
            with_norm(x, |norm| {
                let (map, before) =
                    conv_norm_relu(&x[0], &x[4], Conv::same(3, 1), norm, Some(&x[3]), Mode::Train)?;
                Ok((widen(&map)? + (widen(&before.tensor()?)? * 0.3)?)?)
            })
        })
        .of_maps(&[0, 3]),
        case("conv and norm, at rest", &[&MAP, &[4], &[4], &[2, 3, 4, 4], &[3, 3, 3, 4]], |x| {
            with_norm(x, |norm| {
                conv_norm(&x[0], &x[4], Conv::same(3, 2), norm, Some(&x[3]), true, Mode::Eval)
            })
        })
        .of_maps(&[0, 3]),
        case("conv and norm, at rest, alone", &[&MAP, &[4], &[4], &[1, 1, 3, 4]], |x| {
            with_norm(x, |norm| conv_norm(&x[0], &x[3], Conv::same(1, 1), norm, None, false, Mode::Eval))
        })
        .of_maps(&[0]),
        case("relu", &[&MAP], |x| relu(&x[0])).of_maps(&[0]),
        case("abs", &[&MAP], |x| abs(&x[0])).of_maps(&[0]),
        case("max pool, 2 x 2", &[&[2, 4, 6, 3]], |x| max_pool2d(&x[0], Pool::square(2, 2))).of_maps(&[0]),
        case("max pool, overlapping", &[&[2, 5, 7, 17]], |x| {
            max_pool2d(&x[0], Pool { padding: [1; 2], ..Pool::square(3, 2) })
        })
        .of_maps(&[0]),
        case("max pool, oblong, up", &[&MAP], |x| {
            max_pool2d(&x[0], Pool { kernel: [3, 2], stride: [1, 3], padding: [1, 0], ceil: true })
        })
        .of_maps(&[0]),
        case("average pool", &[&[2, 5, 7, 17]], |x| {
            avg_pool2d(&x[0], Pool { padding: [1; 2], ..Pool::square(3, 2) }, true)
        })
        .of_maps(&[0]),
        case("average pool, without padding, up", &[&MAP], |x| {
            avg_pool2d(&x[0], Pool { kernel: [3, 2], stride: [2, 3], padding: [1, 1], ceil: true }, false)
        })
        .of_maps(&[0]),
        case("adaptive average pool", &[&MAP], |x| adaptive_avg_pool2d(&x[0], [3, 2])).of_maps(&[0]),
        case("global average pool", &[&MAP], |x| global_avg_pool(&x[0])).of_maps(&[0]),
        case("nearest", &[&MAP], |x| upsample_nearest2d(&x[0], [10, 14])).of_maps(&[0]),
        case("nearest, uneven", &[&MAP], |x| upsample_nearest2d(&x[0], [8, 4])).of_maps(&[0]),
        case("bilinear", &[&MAP], |x| upsample_bilinear2d(&x[0], [8, 4], false)).of_maps(&[0]),
        case("bilinear, corners", &[&MAP], |x| upsample_bilinear2d(&x[0], [9, 10], true)).of_maps(&[0]),
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
        case("channel shuffle", &[&[2, 3, 4, 6]], |x| channel_shuffle(&x[0], 2)).of_maps(&[0]),
        case("channel shuffle, three hands", &[&[2, 3, 4, 12]], |x| channel_shuffle(&x[0], 3)).of_maps(&[0]),
        case("channel shuffle, four hands", &[&[2, 3, 4, 20]], |x| channel_shuffle(&x[0], 4)).of_maps(&[0]),
        case("channels of two in turn", &[&MAP, &MAP], |x| channel_interleave(&x[0], &x[1])).of_maps(&[0, 1]),
        case("channels behind channels", &[&MAP, &[2, 5, 7, 2]], |x| channel_concat(&x[0], &x[1]))
            .of_maps(&[0, 1]),
        case("channels among channels", &[&[2, 3, 4, 6]], |x| channel_range(&x[0], 1..5)).of_maps(&[0]),
        case("channels among zeros", &[&[2, 3, 4, 5]], |x| channel_pad(&x[0], [2, 1])).of_maps(&[0]),
        case("permuted channels", &[&[2, 3, 4, 5]], |x| permute_channels(&x[0], &[3, 0, 4, 1, 2]))
            .of_maps(&[0]),
        case("linear", &[&[3, 5], &[4, 5], &[4]], |x| linear(&x[0], &x[1], Some(&x[2]))).of_maps(&[0]),
        case("energy", &[&[2, 3, 5, 37]], |x| energy(&x[0])),
        case("unit", &[&[2, 3, 5, 37]], |x| unit(&x[0])).of_maps(&[0]),
        case("sigmoid", &[&MAP], |x| sigmoid(&(&x[0] * 10.0)?)),
        case("squared distance", &[&MAP, &MAP], |x| squared_distance(&x[0], &x[1])),
        case("squared distance, many channels", &[&[2, 3, 37], &[2, 3, 37]], |x| {
            squared_distance(&x[0], &x[1])
        }),
        case("log softmax", &[&[3, 5]], |x| log_softmax(&(&x[0] * 10.0)?)),
        case("softmax", &[&[3, 5]], |x| softmax(&(&x[0] * 10.0)?)),
        case("softmax, many classes", &[&[2, 3, 37]], |x| softmax(&(&x[0] * 3.0)?)),
        case("soft cross-entropy", &[&[3, 5], &[3, 5]], |x| soft_cross_entropy(&x[0], &(&x[1] * 10.0)?)),
        case("soft cross-entropy, many classes", &[&[2, 3, 37], &[2, 3, 37]], |x| {
            soft_cross_entropy(&x[0], &(&x[1] * 3.0)?)
        }),
        case("cross-entropy", &[&[3, 5]], |x| cross_entropy(&(&x[0] * 10.0)?, &labels(&x[0])?, 0.0)),
        case("cross-entropy, many classes, smoothed", &[&[3, 37]], |x| {
            cross_entropy(&(&x[0] * 3.0)?, &labels(&x[0])?, 0.1)
        }),
        case("softened divergence", &[&[3, 5], &[3, 5]], |x| {
            softened_divergence(&(&x[0] * 10.0)?, &(&x[1] * 10.0)?, 4.0)
        }),
        case("softened divergence, of a teacher at rest", &[&[3, 37]], |x| {
            softened_divergence(&fixed(&x[0])?, &(&x[0] * 3.0)?, 1.5)
        }),
        case("normalize", &[&MAP], |x| normalize(&x[0], [0.5, 0.4, 0.3], [0.25, 0.2, 0.3])),
        case("total of terms", &[&[6], &[2, 3], &[], &[7], &[1, 5]], |x| {
            let named = [("a", 1.0), ("b", 0.3), ("c", -2.0), ("d", 0.0), ("e", 7.0)];
            let mut terms = Terms::default();
            for (value, (name, weight)) in x.iter().zip(named) {
                terms = terms.with(name, weight, value.clone());
            }
            // Of those that count nothing, no gradient is found.
            let idle = x[3].sum_all()?;
            Ok((total(&terms)?.ok_or_else(|| Error::setting("total", "of no terms"))? + idle)?)
        }),
    ]
}

/// Numbers of the same kind that are no argument.
fn fixed(like: &Tensor) -> Result<Tensor> {
    let numbers = (0..like.elem_count()).map(|at| (at * 89 % 251) as f32 / 50.0 - 2.5);
    let fixed = Tensor::from_iter(numbers, &Device::Cpu)?.reshape(like.dims())?;
    Ok(fixed.to_dtype(like.dtype())?.to_device(like.device())?)
}

/// For each row of scores another class.
fn labels(scores: &Tensor) -> Result<Tensor> {
    let (rows, classes) = scores.dims2()?;
    let labels: Vec<u32> = (0..rows).map(|row| ((3 * row + 1) % classes) as u32).collect();
    Ok(Tensor::new(labels, scores.device())?)
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

/// Those of candle's own that losses, plug-ins and networks call.
pub fn cases_of_candle() -> Vec<Case> {
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
        case("comparisons", &[&[3, 5], &[3, 5]], |x| {
            let halves = |x: &Tensor| -> Result<Tensor> { Ok((x * 2.0)?.round()?.detach()) };
            let (one, other) = (halves(&x[0])?, halves(&x[1])?);
            let mut sum = x[0].clone();
            for (factor, found) in (1..).zip([
                one.eq(&other)?,
                one.ne(&other)?,
                one.lt(&other)?,
                one.le(&other)?,
                one.gt(&other)?,
                one.ge(&other)?,
            ]) {
                sum = (sum + (found.to_dtype(x[0].dtype())? * f64::from(factor))?)?;
            }
            Ok(sum)
        }),
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
            let picks = Tensor::new(&[[4u32, 0], [1, 1], [2, 3]], x[0].device())?;
            Ok(x[0].gather(&picks, 1)?)
        }),
        case("index select", &[&[3, 5]], |x| {
            Ok(x[0].index_select(&Tensor::new(&[4u32, 0, 0, 2], x[0].device())?, 1)?)
        }),
        case("index add", &[&[3, 5], &[3, 2]], |x| {
            Ok(x[0].index_add(&Tensor::new(&[4u32, 0], x[0].device())?, &x[1], 1)?)
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
