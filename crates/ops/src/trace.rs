//! A pass told operation by operation, for programs that are not ours.
//!
//! A network is described once, by the code that runs it. Whoever wants the description in another form (a file of ONNX)
//! lets it run and listens, as [`count_macs`](crate::count_macs) does for multiplications.

use crate::spent::spend;
use crate::{Conv, Norm, Pool};
use candle::{Tensor, TensorId};
use sokd_core::Result;
use std::cell::RefCell;
use std::ops::Range;

/// One operation of a pass: what it does, the maps it reads, the map it gives.
///
/// Maps are known by their identity alone: a trace holds no images. One that no step gives is what the pass began with, or
/// was made by an operation that is not traced.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it does, with the weights that it does it by.
    pub operation: Operation,
    /// Maps, in the order of its arguments.
    pub reads: Vec<TensorId>,
    /// The result.
    pub gives: TensorId,
}

/// What a step does. Weights lie as they do in memory here, maps are `(batch, height, width, channels)`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the operations' arguments")]
pub enum Operation {
    /// [`conv2d`](crate::conv2d).
    Conv { kernel: Tensor, bias: Option<Tensor>, conv: Conv },
    /// [`conv_norm`](crate::conv_norm); a second map is the residual.
    ConvNorm { kernel: Tensor, conv: Conv, norm: Normed, relu: bool },
    /// [`batch_norm`](crate::batch_norm) in evaluation; a second map is the residual.
    Norm { norm: Normed, relu: bool },
    /// [`normalize`](crate::normalize).
    Normalize { mean: [f32; 3], std: [f32; 3] },
    /// [`relu`](crate::relu).
    Relu,
    /// [`add`](crate::add).
    Add,
    /// [`unit`](crate::unit).
    Unit,
    /// [`channel_concat`](crate::channel_concat).
    Concat,
    /// [`channel_range`](crate::channel_range).
    Range(Range<usize>),
    /// [`channel_pad`](crate::channel_pad): how many before and behind.
    Pad([usize; 2]),
    /// [`permute_channels`](crate::permute_channels) and [`channel_shuffle`](crate::channel_shuffle): which channel comes to
    /// each place.
    Order(Vec<u32>),
    /// [`max_pool2d`](crate::max_pool2d).
    MaxPool(Pool),
    /// [`avg_pool2d`](crate::avg_pool2d).
    AvgPool { pool: Pool, count_include_pad: bool },
    /// [`global_avg_pool`](crate::global_avg_pool).
    GlobalAvgPool,
    /// [`linear`](crate::linear).
    Linear { weight: Tensor, bias: Option<Tensor> },
}

impl Operation {
    /// What people call it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv2d",
            Self::ConvNorm { .. } => "conv-norm",
            Self::Norm { .. } => "batch-norm",
            Self::Normalize { .. } => "normalize",
            Self::Relu => "relu",
            Self::Add => "add",
            Self::Unit => "unit",
            Self::Concat => "concat",
            Self::Range(_) => "range",
            Self::Pad(_) => "pad",
            Self::Order(_) => "order",
            Self::MaxPool(_) => "max-pool",
            Self::AvgPool { .. } => "avg-pool",
            Self::GlobalAvgPool => "global-avg-pool",
            Self::Linear { .. } => "linear",
        }
    }
}

/// What a batch normalisation in evaluation goes by: a [`Norm`] that is kept.
#[derive(Clone, Debug)]
pub struct Normed {
    /// Scale.
    pub weight: Tensor,
    /// Shift.
    pub bias: Tensor,
    /// Running mean.
    pub mean: Tensor,
    /// Running variance.
    pub var: Tensor,
    /// Added to variances.
    pub eps: f64,
}

impl From<&Norm<'_>> for Normed {
    fn from(norm: &Norm<'_>) -> Self {
        let [weight, bias, mean, var] = norm.tensors().map(Tensor::clone);
        Self { weight, bias, mean, var, eps: norm.eps }
    }
}

impl Normed {
    /// As a network at rest goes by it.
    pub(crate) fn norm(&self) -> Norm<'_> {
        let Self { weight, bias, mean, var, eps } = self;
        Norm { weight, bias, mean, var, eps: *eps, momentum: 0.0 }
    }
}

thread_local! {
    static STEPS: RefCell<Option<Vec<Step>>> = const { RefCell::new(None) };
}

/// What `work` gives, and the operations that it did in this thread, in order.
///
/// # Example
/// ```
/// # use candle::{Device, Tensor};
/// use sokd_ops::{Operation, linear, relu, trace};
///
/// let (x, weight) = (Tensor::new(&[[1f32, -2.0]], &Device::Cpu)?, Tensor::new(&[[3f32, 4.0]], &Device::Cpu)?);
/// let (y, steps) = trace(|| linear(&relu(&x)?, &weight, None));
/// assert_eq!(y?.to_vec2::<f32>()?, [[3.0]]);
/// assert!(matches!(steps[0].operation, Operation::Relu) && steps[0].reads == [x.id()]);
/// assert!(matches!(steps[1].operation, Operation::Linear { .. }) && steps[1].reads == [steps[0].gives]);
/// # Ok::<(), sokd_core::Error>(())
/// ```
pub fn trace<R>(work: impl FnOnce() -> R) -> (R, Vec<Step>) {
    let before = STEPS.replace(Some(Vec::new()));
    let result = work();
    (result, STEPS.replace(before).unwrap_or_default())
}

/// Whether someone listens.
pub(crate) fn traced() -> bool {
    STEPS.with_borrow(Option::is_some)
}

/// Runs an operation, and notes it where someone listens. What runs inside of it is a part of it, and not noted.
pub(crate) fn noted(
    reads: &[&Tensor],
    operation: impl FnOnce() -> Operation,
    work: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor> {
    let Some(mut steps) = STEPS.take() else {
        return spend(|| (operation().name().to_owned(), 0), work);
    };
    let result = work();
    if let Ok(y) = &result {
        let reads = reads.iter().map(|map| map.id()).collect();
        steps.push(Step { operation: operation(), reads, gives: y.id() });
    }
    STEPS.replace(Some(steps));
    result
}
