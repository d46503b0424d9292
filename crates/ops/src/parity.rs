use crate::{Backend, Case, Pick, Pictures, cases, cases_in_mixed_precision, cases_of_candle, with_backend};
use candle::{DType, Device, Tensor};
use sokd_core::Result;

/// How far an operation on a device is from the truth: its composed form on this machine, in double precision.
#[derive(Clone, Copy, Debug)]
pub struct Parity {
    /// What it is called.
    pub operation: &'static str,
    /// Whether its maps were in bfloat16.
    pub mixed: bool,
    /// The largest error of the result, as a share of its largest number.
    pub result: f64,
    /// The largest error of a gradient, as a share of that gradient's largest number.
    pub gradients: f64,
}

/// Tries every operation on a device in single precision, ours and candle's, and those of networks in mixed precision too.
///
/// # Example
/// ```
/// for tried in sokd_ops::parity(&candle::Device::Cpu) {
///     let tried = tried?;
///     let within = if tried.mixed { 1e-2 } else { 1e-5 };
///     assert!(tried.result.max(tried.gradients) < within, "{tried:?}");
/// }
/// # Ok::<(), sokd_core::Error>(())
/// ```
pub fn parity(device: &Device) -> impl Iterator<Item = Result<Parity>> {
    let cases = cases().into_iter().chain(cases_of_candle()).chain(cases_in_mixed_precision());
    cases.map(|case| held(&case, device)).chain(std::iter::once_with(|| crops(device)))
}

/// Of images, which have no gradient.
fn crops(device: &Device) -> Result<Parity> {
    let pick = |image: u32| Pick { image, down: 2 - image as i32, right: 1, mirrored: image > 1 };
    let picks: Vec<Pick> = (0..4).map(pick).collect();
    let of = |device: &Device| {
        let bytes = (0..4 * 5 * 7 * 3).map(|at: usize| (at * 89 % 251) as u8).collect();
        Pictures::new(bytes, [5, 7], device)?.crops(&picks, false)
    };
    let exact = with_backend(Backend::Composed, || of(&Device::Cpu))?;
    Ok(Parity { operation: "crops", mixed: false, result: error(&of(device)?, &exact)?, gradients: 0.0 })
}

fn held(case: &Case, device: &Device) -> Result<Parity> {
    let (inputs, exact) = (case.inputs(DType::F32, device)?, case.inputs(DType::F64, &Device::Cpu)?);
    let result = error(&case.result(&inputs)?, &case.result(&exact)?)?;
    let mut gradients: f64 = 0.0;
    for (got, exact) in case.gradients(&inputs)?.iter().zip(&case.gradients(&exact)?) {
        gradients = gradients.max(error(got, exact)?);
    }
    Ok(Parity { operation: case.name, mixed: case.mixed, result, gradients })
}

/// Infinite where a shape is wrong or a number is none.
fn error(got: &Tensor, exact: &Tensor) -> Result<f64> {
    if got.dims() != exact.dims() {
        return Ok(f64::INFINITY);
    }
    let numbers = |tensor: &Tensor| -> Result<Vec<f64>> {
        Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let (got, exact) = (numbers(got)?, numbers(exact)?);
    let largest = exact.iter().fold(1e-3, |most: f64, number| most.max(number.abs()));
    let apart = |(got, exact): (&f64, &f64)| if got.is_nan() { f64::INFINITY } else { (got - exact).abs() };
    Ok(got.iter().zip(&exact).map(apart).fold(0.0, f64::max) / largest)
}
