use crate::backend::{either_of_maps, on_cpu};
use crate::mixed::in_single;
use crate::spent::named;
use crate::trace::{Operation, noted, traced};
use crate::{channel_shuffle, composed, fast};
use candle::{D, Tensor};
use sokd_core::{Error, Result};
use std::ops::Range;

/// The channels of `a`, and those of `b` behind them.
///
/// # Shapes
/// `(batch, height, width, channels)`, all but the channels alike → `(batch, height, width, both)`.
///
/// # Errors
/// [`Error::Shape`] when batches or maps differ.
pub fn channel_concat(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (batch, height, width, _) = a.dims4()?;
    let (_, _, _, right) = b.dims4()?;
    if b.dims() != [batch, height, width, right] {
        let expected = format!("({batch}, {height}, {width}, channels), as what it is put behind");
        return Err(Error::Shape { what: "channels", expected, got: b.dims().to_vec() });
    }
    noted(
        &[a, b],
        || Operation::Concat,
        || either_of_maps([a, b], |[a, b]| fast::channel_concat(a, b), |[a, b]| Tensor::cat(&[a, b], 3)),
    )
}

/// The channels of `a` and those of `b` in turn: [`channel_concat`], then [`channel_shuffle`] by two.
///
/// Here they are one pass over memory. What listens, and other devices, get the two.
///
/// # Shapes
/// `(batch, height, width, channels)` both → `(batch, height, width, 2 · channels)`.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn channel_interleave(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.dims4()?;
    if a.dims() != b.dims() {
        let expected = format!("{:?}, as what it takes turns with", a.dims());
        return Err(Error::Shape { what: "channels", expected, got: b.dims().to_vec() });
    }
    if traced() || a.elem_count() == 0 || !on_cpu(&[a, b]) {
        return channel_shuffle(&channel_concat(a, b)?, 2);
    }
    named("interleave", || Ok(fast::channel_interleave(&a.contiguous()?, &b.contiguous()?)?))
}

/// Some neighbouring channels.
///
/// # Shapes
/// `(batch, height, width, channels)` → `(batch, height, width, range)`.
///
/// # Errors
/// [`Error::Setting`] when the range is empty or reaches beyond the channels.
pub fn channel_range(x: &Tensor, range: Range<usize>) -> Result<Tensor> {
    let (_, _, _, channels) = x.dims4()?;
    if range.is_empty() || range.end > channels {
        return Err(Error::setting("range", format!("{range:?} are no channels of {channels}")));
    }
    let [fast, composed] = [range.clone(), range.clone()];
    noted(
        &[x],
        || Operation::Range(range),
        || {
            either_of_maps(
                [x],
                |[x]| fast::channel_range(x, fast),
                |[x]| composed::channel_range(x, composed),
            )
        },
    )
}

/// Channels of zeros in front of those that there are, and behind them.
///
/// # Shapes
/// `(batch, height, width, channels)` → `(batch, height, width, before + channels + behind)`.
pub fn channel_pad(x: &Tensor, [before, behind]: [usize; 2]) -> Result<Tensor> {
    x.dims4()?;
    // Candle's own is right, and its gradient too.
    let pad = |[x]: [&Tensor; 1]| Ok(x.pad_with_zeros(D::Minus1, before, behind)?);
    noted(&[x], || Operation::Pad([before, behind]), || in_single([x], pad))
}

#[cfg(test)]
mod tests {
    use super::{channel_concat, channel_interleave};
    use crate::{Operation, channel_shuffle, trace};
    use candle::{Device, Tensor};

    #[test]
    fn channels_in_turn_are_two_operations_to_who_listens() {
        let map = |from: f32| {
            Tensor::arange(from, from + 60.0, &Device::Cpu).unwrap().reshape((2, 2, 3, 5)).unwrap()
        };
        let (a, b) = (map(0.0), map(100.0));
        let numbers = |map: Tensor| map.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let once = numbers(channel_interleave(&a, &b).unwrap());
        assert_eq!(once[..4], [0.0, 100.0, 1.0, 101.0]);
        assert_eq!(once, numbers(channel_shuffle(&channel_concat(&a, &b).unwrap(), 2).unwrap()));
        let (traced, steps) = trace(|| channel_interleave(&a, &b));
        assert_eq!(once, numbers(traced.unwrap()));
        assert!(matches!(
            steps.iter().map(|step| &step.operation).collect::<Vec<_>>()[..],
            [Operation::Concat, Operation::Order(_)]
        ));
    }
}
