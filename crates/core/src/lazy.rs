use crate::Result;
use candle::Tensor;
use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

/// A tensor that is made when someone asks for it, so that who might be asked need not hold it.
///
/// # Example
/// ```
/// # use candle::{Device, Tensor};
/// use sokd_core::Lazy;
///
/// let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let square = Lazy::new(move || Ok(x.sqr()?));
/// assert_eq!(square.tensor()?.to_vec1::<f32>()?, [1.0, 4.0]);
/// # Ok::<(), sokd_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Lazy(Arc<dyn Fn() -> Result<Tensor> + Send + Sync>);

impl Lazy {
    /// What `make` gives, whoever asks, however often.
    pub fn new(make: impl Fn() -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// Makes it.
    ///
    /// # Errors
    /// Those of its making.
    pub fn tensor(&self) -> Result<Tensor> {
        (self.0)()
    }
}

/// One that is there already.
impl From<Tensor> for Lazy {
    fn from(tensor: Tensor) -> Self {
        Self::new(move || Ok(tensor.clone()))
    }
}

impl Debug for Lazy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Lazy")
    }
}
