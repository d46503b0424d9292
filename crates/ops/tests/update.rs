//! Steps in place: the kernels against the composed forms in double precision, and what they refuse.

#[path = "../../../tests/src/wave.rs"]
#[allow(dead_code, reason = "shared with the workspace's tests, each of which uses a part")]
mod wave;

use candle::{DType, Tensor, Var};
use sokd_core::Result;
use sokd_ops::{
    AdamStep, Backend, Moved, Rates, SgdStep, Told, adam_, axpby_, clip, put_rows_, sgd_, tally_,
    with_backend,
};
use wave::wave;

/// More than one thread's share, and more tensors than one launch of a GPU takes.
fn shapes() -> Vec<Vec<usize>> {
    let small = (1..70).map(|width| vec![1 + width % 3, width]);
    std::iter::once(vec![3, 101, 131]).chain(small).collect()
}

/// Weights and their `N` memories after three steps.
fn steps<const N: usize>(
    dtype: DType,
    step: impl Fn(&[Moved<'_, N>], u64) -> Result<()>,
) -> Result<Vec<Tensor>> {
    let weights = waves("weight", dtype)?;
    let blank = |weight: &Tensor| std::array::from_fn(|_| weight.zeros_like().expect("zeros"));
    let memories: Vec<[Tensor; N]> = weights.iter().map(blank).collect();
    for count in 1..=3 {
        let grads = waves(&format!("gradient {count}"), dtype)?;
        let all = weights.iter().zip(&memories).zip(&grads);
        let moved: Vec<_> =
            all.map(|((weight, memory), by)| Moved { weight, memory: memory.each_ref(), by }).collect();
        step(&moved, count)?;
    }
    Ok(weights.into_iter().chain(memories.into_iter().flatten()).collect())
}

fn waves(name: &str, dtype: DType) -> Result<Vec<Tensor>> {
    let of = |shape: &Vec<usize>| Ok(wave(&format!("{name} {shape:?}"), shape, 1.0)?.to_dtype(dtype)?);
    shapes().iter().map(of).collect()
}

fn compare<const N: usize>(
    what: &str,
    step: impl Fn(&[Moved<'_, N>], u64) -> Result<()> + Copy,
) -> Result<()> {
    let exact = with_backend(Backend::Composed, || steps(DType::F64, step))?;
    for backend in [Backend::Fast, Backend::Mirror] {
        let fast = with_backend(backend, || steps(DType::F32, step))?;
        for (index, (fast, exact)) in fast.iter().zip(&exact).enumerate() {
            let gap = (fast.to_dtype(DType::F64)? - exact)?.flatten_all()?.to_vec1::<f64>()?;
            let gap = gap.into_iter().map(f64::abs).fold(0.0, f64::max);
            assert!(gap < 3e-7, "{what}, {backend:?}: tensor {index} is off by {gap}");
        }
    }
    Ok(())
}

#[test]
fn axpby() -> Result<()> {
    compare("axpby", |moved, _| axpby_(moved, 0.1, 0.9))
}

#[test]
fn sgd() -> Result<()> {
    for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        compare("sgd", |moved, count| {
            let dampening = if count > 1 { 0.5 } else { 0.0 };
            let step = SgdStep { lr: 0.05, momentum, dampening, weight_decay: 5e-4, nesterov };
            sgd_(moved, &step, &mut Rates::default())
        })?;
    }
    Ok(())
}

#[test]
fn adam() -> Result<()> {
    for decoupled in [false, true] {
        compare("adam", |moved, count| {
            let step =
                AdamStep { lr: 5e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, decoupled, count };
            adam_(moved, &step, &mut Rates::default())
        })?;
    }
    Ok(())
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn near(got: &Tensor, exact: &Tensor, what: &str) -> Result<()> {
    for (got, exact) in numbers(got)?.into_iter().zip(numbers(exact)?) {
        assert!((got - exact).abs() <= 1e-6 * exact.abs().max(1.0), "{what}: {got} for {exact}");
    }
    Ok(())
}

#[test]
fn gradients_are_clipped_alike() -> Result<()> {
    let grads = waves("gradient", DType::F32)?;
    let held: Vec<&Tensor> = grads.iter().collect();
    // Above the norm, below it, and where no gradient is a number.
    let none = [Tensor::new(&[f32::NAN, 1.0], &candle::Device::Cpu)?];
    for (grads, max) in [(&held[..], 0.5), (&held[..], 1e9), (&[&none[0]][..], 1.0), (&[][..], 1.0)] {
        let (exact, norm) = with_backend(Backend::Composed, || clip(grads, max))?;
        for backend in [Backend::Fast, Backend::Mirror] {
            let (scaled, found) = with_backend(backend, || clip(grads, max))?;
            assert_eq!(scaled.len(), grads.len());
            if norm.to_scalar::<f32>()?.is_nan() {
                assert!(
                    found.to_scalar::<f32>()?.is_nan() && numbers(&scaled[0])?[1].to_bits() == 1f64.to_bits()
                );
                continue;
            }
            near(&found, &norm, "the norm")?;
            for (scaled, exact) in scaled.iter().zip(&exact) {
                assert_eq!(scaled.dims(), exact.dims());
                near(scaled, exact, &format!("{backend:?}"))?;
            }
        }
    }
    Ok(())
}

/// Terms of a batch and of an example each, more than a launch takes, in two steps; two of them with one sum.
#[test]
fn terms_come_to_the_same_sums() -> Result<()> {
    let device = &candle::Device::Cpu;
    let tally = |backend, terms: usize, one_sum: bool| -> Result<Vec<f64>> {
        let zero = || Tensor::zeros((), DType::F64, device);
        let (mut sums, loss) = ((0..terms).map(|_| zero()).collect::<candle::Result<Vec<_>>>()?, zero()?);
        if one_sum {
            sums[1] = sums[0].clone();
        }
        let means = Tensor::zeros(terms, DType::F32, device)?;
        for images in [7, 5] {
            let value = |term: usize| match term % 3 {
                0 => wave(&format!("{term} {images}"), &[], 1.0),
                _ => wave(&format!("{term} {images}"), &[images * term], 1.0),
            };
            let values = (0..terms).map(value).collect::<Result<Vec<_>>>()?;
            let told = values.iter().zip(&sums).enumerate();
            let told = told.map(|(term, (value, sum))| Told { value, weight: 0.25 * (term % 5) as f64, sum });
            with_backend(backend, || tally_(&told.collect::<Vec<_>>(), &loss, &means, images))?;
        }
        let all: Vec<&Tensor> = sums.iter().chain([&loss, &means]).collect();
        Ok(all.into_iter().map(numbers).collect::<Result<Vec<_>>>()?.concat())
    };
    for (terms, one_sum) in [(1, false), (9, false), (3, true), (130, false)] {
        let exact = tally(Backend::Composed, terms, one_sum)?;
        for backend in [Backend::Fast, Backend::Mirror] {
            for (got, exact) in tally(backend, terms, one_sum)?.into_iter().zip(&exact) {
                assert!(
                    (got - exact).abs() <= 1e-6 * exact.abs().max(1.0),
                    "{terms} terms: {got} for {exact}"
                );
            }
        }
    }
    Ok(())
}

/// Whoever holds the same storage sees the step, and a view is a place in it.
#[test]
fn storage_is_shared() -> Result<()> {
    for backend in [Backend::Fast, Backend::Mirror, Backend::Composed] {
        let var = Var::from_tensor(&Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle::Device::Cpu)?)?;
        let view = var.as_detached_tensor();
        let ones = Tensor::new(&[[1f32, 1.0]], &candle::Device::Cpu)?;
        with_backend(backend, || axpby_(&[Moved::new(&var.narrow(0, 1, 1)?, &ones)], 10.0, 1.0))?;
        assert_eq!(view.to_vec2::<f32>()?, [[1.0, 2.0], [13.0, 14.0]]);
    }
    Ok(())
}

#[test]
fn rows_take_the_place_of_others() -> Result<()> {
    let device = candle::Device::Cpu;
    for backend in [Backend::Fast, Backend::Mirror, Backend::Composed] {
        let place = Tensor::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &device)?;
        let rows = Tensor::new(&[2u32, 0, 2], &device)?;
        let values = Tensor::new(&[[7f32, 8.0], [9.0, 10.0], [11.0, 12.0]], &device)?;
        let flat = Tensor::new(&[1f32, 2.0, 3.0], &device)?;
        with_backend(backend, || {
            put_rows_(&place, &rows, &values)?;
            put_rows_(&flat, &rows, &values.narrow(1, 1, 1)?.flatten_all()?)?;
            assert!(put_rows_(&place, &rows, &flat).is_err(), "another width");
            assert!(put_rows_(&place, &rows, &values.narrow(0, 0, 2)?).is_err(), "a row too few");
            assert!(put_rows_(&place.t()?, &rows.narrow(0, 0, 1)?, &flat.reshape((1, 3))?).is_err());
            Ok::<_, sokd_core::Error>(())
        })?;
        assert_eq!(place.to_vec2::<f32>()?, [[9.0, 10.0], [3.0, 4.0], [11.0, 12.0]], "{backend:?}");
        assert_eq!(flat.to_vec1::<f32>()?, [10.0, 2.0, 12.0], "{backend:?}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_written_is_refused() -> Result<()> {
    let y = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle::Device::Cpu)?;
    for backend in [Backend::Fast, Backend::Mirror, Backend::Composed] {
        with_backend(backend, || {
            let moves = |y: &Tensor, x: &Tensor| axpby_(&[Moved::new(y, x)], 1.0, 1.0);
            assert!(moves(&y.t()?, &y.copy()?).is_err(), "columns for rows");
            assert!(moves(&y, &y.narrow(0, 0, 1)?.copy()?).is_err(), "another shape");
            axpby_(&[], 1.0, 1.0)?;
            Ok::<_, sokd_core::Error>(())
        })?;
    }
    // The composed form makes its sum first, and may then write it over what it read.
    for backend in [Backend::Fast, Backend::Mirror] {
        assert!(
            with_backend(backend, || axpby_(&[Moved::new(&y, &y)], 1.0, 1.0)).is_err(),
            "itself, {backend:?}"
        );
    }
    assert_eq!(y.to_vec2::<f32>()?, [[1.0, 2.0], [3.0, 4.0]]);
    Ok(())
}
