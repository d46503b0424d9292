use crate::backend::{either, either_of_maps};
use crate::spent::named;
use crate::trace::{Operation, noted};
use crate::{composed, fast};
use candle::Tensor;
use sokd_core::{Error, Result};

/// `max(x, 0)`; its gradient is 0 at 0.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    noted(&[x], || Operation::Relu, || either_of_maps([x], |[x]| fast::relu(x), |[x]| composed::relu(x)))
}

/// `|x|`; its gradient is 0 at 0.
pub fn abs(x: &Tensor) -> Result<Tensor> {
    named("abs", || either([x], |[x]| fast::abs(x), |[x]| composed::abs(x)))
}

/// Channels dealt out anew: read as `(groups, channels / groups)`, transposed.
///
/// # Shapes
/// `(batch, height, width, channels)`, and the same again.
///
/// # Source
/// Zhang et al., "ShuffleNet" (arXiv:1707.01083), section 3.1.
pub fn channel_shuffle(x: &Tensor, groups: usize) -> Result<Tensor> {
    let (_, _, _, channels) = x.dims4()?;
    if groups == 0 || channels % groups != 0 {
        return Err(Error::setting("groups", format!("{groups} do not divide {channels} channels")));
    }
    let each = channels / groups;
    let order = || (0..channels).map(|place| (place % groups * each + place / groups) as u32).collect();
    noted(
        &[x],
        || Operation::Order(order()),
        || {
            either_of_maps(
                [x],
                |[x]| fast::channel_shuffle(x, groups),
                |[x]| composed::channel_shuffle(x, groups),
            )
        },
    )
}

/// Channels in another order: channel `order[i]` in place i.
///
/// # Shapes
/// `(batch, height, width, channels)`, and the same again.
///
/// # Errors
/// [`Error::Setting`] when `order` does not name every channel once.
pub fn permute_channels(x: &Tensor, order: &[u32]) -> Result<Tensor> {
    let (_, _, _, channels) = x.dims4()?;
    let mut back = vec![u32::MAX; channels];
    for (place, &channel) in (0..).zip(order) {
        if let Some(back) = back.get_mut(channel as usize) {
            *back = place;
        }
    }
    if order.len() != channels || back.contains(&u32::MAX) {
        return Err(Error::setting(
            "order",
            format!("{order:?} does not name each of {channels} channels once"),
        ));
    }
    let work = || {
        either_of_maps(
            [x],
            |[x]| fast::permute_channels(x, order, &back),
            |[x]| composed::permute_channels(x, order),
        )
    };
    noted(&[x], || Operation::Order(order.to_vec()), work)
}

/// The logarithm of the softmax over the last axis.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    named("log-softmax", || either([x], |[x]| fast::log_softmax(x), |[x]| composed::log_softmax(x)))
}

/// The softmax over the last axis.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    named("softmax", || either([x], |[x]| fast::softmax(x), |[x]| composed::softmax(x)))
}

/// Vectors along the last axis, scaled to length 1; those shorter than 1e-12 are only divided by it, so that a dead map is no
/// NaN.
///
/// # Source
/// PyTorch's `functional.normalize`, gradient included.
pub fn unit(x: &Tensor) -> Result<Tensor> {
    noted(&[x], || Operation::Unit, || either([x], |[x]| fast::unit(x), |[x]| composed::unit(x)))
}

/// Images with a mean subtracted and divided by a standard deviation, per colour.
///
/// # Shapes
/// `(batch, height, width, 3)`, and the same again.
pub fn normalize(images: &Tensor, mean: [f32; 3], std: [f32; 3]) -> Result<Tensor> {
    let (_, _, _, 3) = images.dims4()? else {
        return Err(Error::Shape {
            what: "images",
            expected: "(batch, height, width, 3)".into(),
            got: images.dims().to_vec(),
        });
    };
    noted(
        &[images],
        || Operation::Normalize { mean, std },
        || either([images], |[x]| fast::normalize(x, mean, std), |[x]| composed::normalize(x, mean, std)),
    )
}
