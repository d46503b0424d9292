use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// How many multiplications of weights with values `work` made in convolutions and linear layers, forwards, in this
/// thread.
///
/// # Example
/// ```
/// # use candle::{DType, Device, Tensor};
/// let zeros = |shape| Tensor::zeros(shape, DType::F32, &Device::Cpu);
/// let (x, weight) = (zeros((2, 3))?, zeros((5, 3))?);
/// let (y, macs) = sokd_ops::count_macs(|| sokd_ops::linear(&x, &weight, None));
/// assert_eq!((y?.dims(), macs), (&[2, 5][..], 30));
/// # Ok::<(), sokd_core::Error>(())
/// ```
pub fn count_macs<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = COUNT.get();
    let result = work();
    (result, COUNT.get() - before)
}

/// Called by every operation that multiplies weights with values.
pub(crate) fn count(macs: usize) {
    COUNT.set(COUNT.get() + macs as u64);
}
