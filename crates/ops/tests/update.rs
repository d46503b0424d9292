//! Steps in place: the kernels against the composed forms in double precision, and what they refuse.

#[path = "../../../tests/src/wave.rs"]
#[allow(dead_code, reason = "shared with the workspace's tests, each of which uses a part")]
mod wave;

use candle::{DType, Tensor, Var};
use sokd_core::Result;
use sokd_ops::{AdamStep, Backend, SgdStep, adam_, axpby_, sgd_, with_backend};
use wave::wave;

/// More than one thread's share.
const SHAPE: [usize; 3] = [3, 101, 131];

/// A weight and its state after three steps.
fn steps(
    dtype: DType,
    state: usize,
    step: impl Fn(&[Tensor], &Tensor, u64) -> Result<()>,
) -> Result<Vec<Tensor>> {
    let mut written = vec![wave("weight", &SHAPE, 1.0)?.to_dtype(dtype)?];
    written.resize_with(1 + state, || written_zeros(dtype));
    for count in 1..=3 {
        step(&written, &wave(&format!("gradient {count}"), &SHAPE, 1.0)?.to_dtype(dtype)?, count)?;
    }
    Ok(written)
}

fn written_zeros(dtype: DType) -> Tensor {
    Tensor::zeros(&SHAPE, dtype, &candle::Device::Cpu).expect("zeros")
}

fn compare(
    what: &str,
    state: usize,
    step: impl Fn(&[Tensor], &Tensor, u64) -> Result<()> + Copy,
) -> Result<()> {
    let exact = with_backend(Backend::Composed, || steps(DType::F64, state, step))?;
    for backend in [Backend::Fast, Backend::Mirror] {
        let fast = with_backend(backend, || steps(DType::F32, state, step))?;
        for (index, (fast, exact)) in fast.iter().zip(&exact).enumerate() {
            let gap = (fast.to_dtype(DType::F64)? - exact)?;
            let gap = gap.sqr()?.flatten_all()?.max(0)?.sqrt()?.to_scalar::<f64>()?;
            assert!(gap < 3e-7, "{what}, {backend:?}: tensor {index} is off by {gap}");
        }
    }
    Ok(())
}

#[test]
fn axpby() -> Result<()> {
    compare("axpby", 0, |y, x, _| axpby_(&y[0], 0.1, x, 0.9))
}

#[test]
fn sgd() -> Result<()> {
    for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        compare("sgd", 1, |w, gradient, count| {
            let dampening = if count > 1 { 0.5 } else { 0.0 };
            let step = SgdStep { lr: 0.05, momentum, dampening, weight_decay: 5e-4, nesterov };
            sgd_(&w[0], &w[1], gradient, &step)
        })?;
    }
    Ok(())
}

#[test]
fn adam() -> Result<()> {
    for decoupled in [false, true] {
        compare("adam", 2, |w, gradient, count| {
            let step =
                AdamStep { lr: 5e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, decoupled, count };
            adam_(&w[0], &w[1], &w[2], gradient, &step)
        })?;
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
        with_backend(backend, || axpby_(&var.narrow(0, 1, 1)?, 10.0, &ones, 1.0))?;
        assert_eq!(view.to_vec2::<f32>()?, [[1.0, 2.0], [13.0, 14.0]]);
    }
    Ok(())
}

#[test]
fn what_cannot_be_written_is_refused() -> Result<()> {
    let y = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle::Device::Cpu)?;
    for backend in [Backend::Fast, Backend::Mirror, Backend::Composed] {
        with_backend(backend, || {
            assert!(axpby_(&y.t()?, 1.0, &y.copy()?, 1.0).is_err(), "columns for rows");
            assert!(axpby_(&y, 1.0, &y.narrow(0, 0, 1)?.copy()?, 1.0).is_err(), "another shape");
            Ok::<_, sokd_core::Error>(())
        })?;
    }
    // The composed form makes its sum first, and may then write it over what it read.
    for backend in [Backend::Fast, Backend::Mirror] {
        assert!(with_backend(backend, || axpby_(&y, 1.0, &y, 1.0)).is_err(), "itself, {backend:?}");
    }
    assert_eq!(y.to_vec2::<f32>()?, [[1.0, 2.0], [3.0, 4.0]]);
    Ok(())
}
