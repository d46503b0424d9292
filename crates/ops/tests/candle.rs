//! Why `clippy.toml` forbids some of candle's operations: what each gives, pinned, beside what ours give.
//!
//! A new version of candle that mends one fails here, and its line in `clippy.toml` can go.

use candle::{DType, Device, Tensor, Var};
use sokd_core::Result;
use sokd_ops::{
    Conv, Pool, abs, avg_pool2d, conv2d, log_softmax, max_pool2d, relu, upsample_bilinear2d,
    upsample_nearest2d,
};

const DEVICE: Device = Device::Cpu;

fn var(numbers: &[f32], shape: &[usize]) -> Result<Var> {
    Ok(Var::from_tensor(&Tensor::from_slice(numbers, shape, &DEVICE)?)?)
}

/// 0, 1, 2 ... as a map of one image and one channel, which is the same in both orders of axes but for its shape.
fn ramp(shape: &[usize]) -> Result<Var> {
    let count: usize = shape.iter().product();
    var(&(0..count).map(|number| number as f32).collect::<Vec<_>>(), shape)
}

/// The gradient of a result's sum.
fn gradient(result: &Tensor, of: &Var) -> Result<Vec<f32>> {
    let store = result.sum_all()?.backward()?;
    Ok(store.get(of).expect("a gradient").flatten_all()?.to_vec1()?)
}

/// What an operation without a gradient says.
fn refusal(result: &Tensor) -> Result<String> {
    Ok(result.sum_all()?.backward().expect_err("a refusal").to_string())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "candle's own is on trial")]
fn max_pool_gradient_is_divided_by_the_window() -> Result<()> {
    let x = ramp(&[1, 1, 2, 2])?;
    assert_eq!(gradient(&x.max_pool2d(2)?, &x)?, [0.0, 0.0, 0.0, 0.25]);
    let x = ramp(&[1, 2, 2, 1])?;
    assert_eq!(gradient(&max_pool2d(&x, Pool::square(2, 2))?, &x)?, [0.0, 0.0, 0.0, 1.0]);
    Ok(())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "candle's own is on trial")]
fn max_pool_gradient_goes_to_all_of_equals() -> Result<()> {
    let x = var(&[1.0; 4], &[1, 1, 2, 2])?;
    assert_eq!(gradient(&x.max_pool2d(2)?, &x)?, [1.0; 4]);
    let x = var(&[1.0; 4], &[1, 2, 2, 1])?;
    assert_eq!(gradient(&max_pool2d(&x, Pool::square(2, 2))?, &x)?, [1.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "candle's own is on trial")]
fn overlapping_pools_have_no_gradient() -> Result<()> {
    let x = ramp(&[1, 1, 3, 3])?;
    assert!(refusal(&x.max_pool2d_with_stride(2, 1)?)?.contains("not supported for maxpool2d"));
    assert!(refusal(&x.avg_pool2d_with_stride(2, 1)?)?.contains("not supported for avgpool2d"));
    let x = ramp(&[1, 3, 3, 1])?;
    let largest = gradient(&max_pool2d(&x, Pool::square(2, 1))?, &x)?;
    assert_eq!(largest, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
    let mean = gradient(&avg_pool2d(&x, Pool::square(2, 1), true)?, &x)?;
    assert_eq!(mean, [0.25, 0.5, 0.25, 0.5, 1.0, 0.5, 0.25, 0.5, 0.25]);
    Ok(())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "candle's own is on trial")]
fn nearest_upsampling_overwrites_another_users_gradient() -> Result<()> {
    // The gradient of a sum of both, whichever of them comes back first: four copies, and three of the other user.
    let x = ramp(&[1, 1, 1, 1])?;
    let both = |up: &dyn Fn() -> Result<Tensor>| -> Result<[Vec<f32>; 2]> {
        let (other, sum) = ((x.sum_all()? * 3.0)?, || -> Result<Tensor> { Ok(up()?.sum_all()?) });
        Ok([gradient(&(sum()? + &other)?, &x)?, gradient(&(&other + sum()?)?, &x)?])
    };
    let of_candle = both(&|| Ok(x.upsample_nearest2d(2, 2)?))?;
    assert!(of_candle.contains(&vec![4.0]), "{of_candle:?}");
    assert_eq!(both(&|| upsample_nearest2d(&x, [2, 2]))?, [[7.0], [7.0]]);
    Ok(())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "candle's own is on trial")]
fn bilinear_upsampling_has_no_gradient() -> Result<()> {
    let x = ramp(&[1, 1, 2, 2])?;
    assert!(refusal(&x.upsample_bilinear2d(3, 3, true)?)?.contains("not supported for upsample_bilinear2d"));
    let x = ramp(&[1, 2, 2, 1])?;
    assert_eq!(gradient(&upsample_bilinear2d(&x, [3, 3], true)?, &x)?, [2.25; 4]);
    Ok(())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "candle's own is on trial")]
fn kinks_have_a_gradient() -> Result<()> {
    let x = var(&[-2.0, 0.0, 3.0], &[3])?;
    assert_eq!(gradient(&x.relu()?, &x)?, [0.0, 1.0, 1.0]);
    assert_eq!(gradient(&relu(&x)?, &x)?, [0.0, 0.0, 1.0]);
    assert_eq!(gradient(&x.abs()?, &x)?, [-1.0, 1.0, 1.0]);
    assert_eq!(gradient(&abs(&x)?, &x)?, [-1.0, 0.0, 1.0]);
    Ok(())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "candle's own is on trial")]
fn oblong_maps_have_no_way_back_through_stride_2() -> Result<()> {
    let (x, kernel) = (ramp(&[1, 1, 8, 9])?, var(&[1.0; 9], &[1, 1, 3, 3])?);
    assert!(refusal(&x.conv2d(&kernel, 1, 2, 1, 1)?)?.contains("shape mismatch"));
    let (x, kernel) = (ramp(&[1, 8, 9, 1])?, var(&[1.0; 9], &[3, 3, 1, 1])?);
    let back = gradient(&conv2d(&x, &kernel, None, Conv::same(3, 2))?, &x)?;
    // How many windows lie over each pixel: two where an odd row or column lies between two of them.
    assert_eq!(back[..18], [1., 2., 1., 2., 1., 2., 1., 2., 1., 2., 4., 2., 4., 2., 4., 2., 4., 2.]);
    Ok(())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "candle's own is on trial")]
fn scattering_has_its_gradients_exchanged() -> Result<()> {
    let (x, index) = (ramp(&[1, 3])?, Tensor::new(&[[2u32]], &DEVICE)?);
    let new = Tensor::new(&[[5f32]], &DEVICE)?;
    // The last number was overwritten, and has a gradient.
    assert_eq!(gradient(&x.scatter(&index, &new, 1)?, &x)?, [1.0, 1.0, 1.0]);
    // It was added to, and has none.
    let index = Tensor::new(&[[2u32, 2, 2]], &DEVICE)?;
    let new = Tensor::new(&[[5f32, 5.0, 5.0]], &DEVICE)?;
    assert_eq!(gradient(&x.scatter_add(&index, &new, 1)?, &x)?, [1.0, 1.0, 0.0]);
    // What to write instead.
    let mask = Tensor::new(&[[0u8, 0, 1]], &DEVICE)?;
    assert_eq!(gradient(&mask.where_cond(&new, &x)?, &x)?, [1.0, 1.0, 0.0]);
    let added = x.index_add(&Tensor::new(&[2u32], &DEVICE)?, &new.narrow(1, 0, 1)?, 1)?;
    assert_eq!(gradient(&added, &x)?, [1.0, 1.0, 1.0]);
    Ok(())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "candle's own is on trial")]
fn the_fused_softmax_has_no_gradient() -> Result<()> {
    let x = ramp(&[1, 2])?;
    let first = |y: Tensor| y.narrow(1, 0, 1);
    let fused = first(candle_nn::ops::softmax_last_dim(&x)?)?.sum_all()?.backward()?;
    assert!(fused.get(&x).is_none());
    let ours = gradient(&first(log_softmax(&x)?.exp()?)?, &x)?;
    assert!((ours[0] - 0.196_611_93).abs() < 1e-6 && (ours[0] + ours[1]).abs() < 1e-6, "{ours:?}");
    Ok(())
}

#[test]
#[allow(clippy::disallowed_methods, reason = "candle's own is on trial")]
fn chance_on_the_cpu_takes_no_seed() -> Result<()> {
    assert!(DEVICE.set_seed(7).is_err());
    assert_eq!(Tensor::randn(0f32, 1.0, 3, &DEVICE)?.dtype(), DType::F32);
    Ok(())
}

/// No stand-in: nothing here differentiates twice, and whoever wants to must know.
#[test]
fn a_gradient_of_a_gradient_forgets_the_chain() -> Result<()> {
    let x = var(&[2.0], &[1])?;
    let first = x.sqr()?.sqr()?.sum_all()?.backward()?;
    let second = first.get(&x).expect("a gradient").sum_all()?.backward()?;
    let second = second.get(&x).expect("a gradient").to_vec1::<f32>()?;
    assert_eq!(second, [16.0], "and not 12 x² = 48");
    Ok(())
}
