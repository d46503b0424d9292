//! Every operation that the project uses, ours and candle's: gradients against finite differences in double precision,
//! and our kernels against the composed forms.

use candle::{DType, Device, Tensor};
use sokd_core::{Error, Result};
use sokd_ops::{
    Backend, Case, GridPadding, GridSample, Pool, abs, adaptive_avg_pool2d, affine_grid, avg_pool2d, cases,
    cases_in_mixed_precision, cases_of_candle, channel_concat, channel_interleave, channel_range,
    channel_shuffle, global_avg_pool, grid_sample, linear, max_pool2d, normalize, permute_channels, relu,
    upsample_bilinear2d, upsample_nearest2d, with_backend,
};

/// Of `candle-nn`'s, what losses call.
fn softmax() -> Case {
    let run = |x: &[Tensor]| Ok((candle_nn::ops::softmax(&x[0], 1)? * candle_nn::ops::sigmoid(&x[0])?)?);
    Case { name: "softmax, sigmoid", shapes: vec![vec![3, 5]], run, maps: &[], mixed: false }
}

/// A number in each input is moved up and down; how the loss follows is the gradient there.
fn differs_as_promised(case: &Case) -> Result<()> {
    const STEP: f64 = 1e-5;
    let inputs = case.inputs(DType::F64, &Device::Cpu)?;
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
    let all = cases().into_iter().chain(cases_of_candle()).chain([softmax()]);
    all.into_iter().try_for_each(|case| differs_as_promised(&case))
}

/// To a few millionths of the largest number.
fn assert_near(what: &str, got: &Tensor, expected: &Tensor) -> Result<()> {
    assert_within(3e-6, what, got, expected)
}

/// To a share of the largest number.
fn assert_within(share: f64, what: &str, got: &Tensor, expected: &Tensor) -> Result<()> {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let expected = expected.to_dtype(DType::F64)?;
    let gap = (got.to_dtype(DType::F64)? - &expected)?.abs_largest()?;
    let scale = expected.abs_largest()?.max(1e-3);
    assert!(gap <= share * scale, "{what}: off by {gap}, where the largest is {scale}");
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

/// Those of this machine, and those of a GPU as their mirror runs them here.
#[test]
fn kernels_agree_with_the_composed_forms() -> Result<()> {
    for case in cases() {
        let exact = case.inputs(DType::F64, &Device::Cpu)?;
        let exact = (case.result(&exact)?, case.gradients(&exact)?);
        for backend in [Backend::Fast, Backend::Mirror] {
            let inputs = case.inputs(DType::F32, &Device::Cpu)?;
            let (y, gradients) = with_backend(backend, || (case.result(&inputs), case.gradients(&inputs)));
            assert_near(&format!("{}, {backend:?}", case.name), &y?, &exact.0)?;
            for (index, (got, expected)) in gradients?.iter().zip(&exact.1).enumerate() {
                assert_near(&format!("{}, {backend:?}, gradient {index}", case.name), got, expected)?;
            }
        }
    }
    Ok(())
}

/// Of the same maps: what is off is the rounding of results, of gradients on their way back and, on a GPU, of weights, each by
/// 2⁻⁹ of a number at most.
#[test]
fn maps_in_bfloat16_are_rounded_and_no_more() -> Result<()> {
    for case in cases_in_mixed_precision() {
        let exact = case.inputs(DType::F64, &Device::Cpu)?;
        let exact = (case.result(&exact)?, case.gradients(&exact)?);
        for backend in [Backend::Fast, Backend::Mirror, Backend::Composed] {
            let inputs = case.inputs(DType::F32, &Device::Cpu)?;
            let (y, gradients) = with_backend(backend, || (case.result(&inputs), case.gradients(&inputs)));
            assert_within(5e-3, &format!("{}, {backend:?}", case.name), &y?, &exact.0)?;
            for (index, (got, expected)) in gradients?.iter().zip(&exact.1).enumerate() {
                let what = format!("{}, {backend:?}, gradient {index}", case.name);
                assert_eq!(got.dtype(), DType::F32, "{what}");
                assert_within(5e-3, &what, got, expected)?;
            }
        }
    }
    Ok(())
}

/// Inputs whose numbers lie in another order in memory.
#[test]
fn views_are_read_as_what_they_show() -> Result<()> {
    for case in cases() {
        for backend in [Backend::Fast, Backend::Mirror, Backend::Composed] {
            let inputs = case.inputs(DType::F32, &Device::Cpu)?;
            let views = inputs.iter().map(|input| {
                let turned = input.rank().saturating_sub(2);
                Ok(match input.rank() {
                    0 => input.as_tensor().clone(),
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
        let inputs = case.inputs(DType::F32, &Device::Cpu)?;
        let mut bits = case.result(&inputs)?.flatten_all()?.to_vec1::<f32>()?;
        for gradient in case.gradients(&inputs)? {
            bits.extend(gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(bits.into_iter().map(f32::to_bits).collect())
    };
    for mut case in cases() {
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
    for backend in [Backend::Fast, Backend::Mirror, Backend::Composed] {
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
    let bilinear = GridSample { nearest: false, padding: GridPadding::Zeros, align_corners: false };
    let refused = [
        max_pool2d(&small, Pool::square(3, 1)),
        max_pool2d(&small, Pool::square(2, 0)),
        avg_pool2d(&small, Pool { padding: [2; 2], ..Pool::square(3, 1) }, true),
        adaptive_avg_pool2d(&none, [1, 1]),
        upsample_nearest2d(&none, [2, 2]),
        upsample_bilinear2d(&small, [0, 2], true),
        affine_grid(&map(&[1, 3, 2])?, [2, 2], true),
        grid_sample(&small, &map(&[2, 5, 5, 2])?, bilinear),
        channel_shuffle(&small, 3),
        channel_range(&small, 1..5),
        channel_concat(&small, &map(&[1, 3, 2, 4])?),
        channel_interleave(&small, &map(&[1, 2, 3, 5])?),
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
