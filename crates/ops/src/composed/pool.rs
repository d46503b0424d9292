use crate::Pool;
use candle::{Device, Result, Tensor};

/// The positions of a sliding window: for each place in the window, the map of what stands there.
pub(super) struct Taps<'a> {
    map: &'a Tensor,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Positions along height and width.
    pub(super) size: [usize; 2],
}

impl<'a> Taps<'a> {
    /// `map` is padded already.
    pub(super) fn new(
        map: &'a Tensor,
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    ) -> Result<Self> {
        let (_, height, width, _) = map.dims4()?;
        let positions = |length: usize, axis: usize| {
            let window = dilation[axis] * (kernel[axis] - 1) + 1;
            (length.saturating_sub(window)) / stride[axis] + 1
        };
        Ok(Self { map, kernel, stride, dilation, size: [positions(height, 0), positions(width, 1)] })
    }

    /// One map per place in the window, rows first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<Tensor>> + '_ {
        let places = move |row| (0..self.kernel[1]).map(move |column| (row, column));
        (0..self.kernel[0]).flat_map(places).map(|(row, column)| {
            let rows = self.lines(row, 0)?;
            self.map.index_select(&rows, 1)?.index_select(&self.lines(column, 1)?, 2)
        })
    }

    fn lines(&self, place: usize, axis: usize) -> Result<Tensor> {
        let start = (place * self.dilation[axis]) as u32;
        let lines: Vec<u32> =
            (0..self.size[axis] as u32).map(|i| start + i * self.stride[axis] as u32).collect();
        Tensor::new(lines, self.map.device())
    }
}

/// The running maximum over the window's places. Only a larger value replaces what stands, so the gradient goes to
/// the first of equals.
pub(crate) fn max_pool2d(x: &Tensor, pool: Pool) -> Result<Tensor> {
    let (_, height, width, _) = x.dims4()?;
    let padded = pad(x, 1, pool.padding[0], pool.beyond(height, 0))?;
    let padded = pad(&padded, 2, pool.padding[1], pool.beyond(width, 1))?;
    let taps = Taps::new(&padded, pool.kernel, pool.stride, [1, 1])?;
    let mut best: Option<Tensor> = None;
    for tap in taps.iter() {
        let tap = tap?;
        best = Some(match best {
            None => tap,
            Some(best) => {
                let (new, old) = (tap.detach(), best.detach());
                let larger = (new.gt(&old)? + new.ne(&new)?)?;
                larger.where_cond(&tap, &best)?
            }
        });
    }
    best.ok_or_else(|| candle::Error::Msg("max_pool2d: a window without places".into()))
}

/// Minus infinity around a map: what no window ever prefers.
fn pad(x: &Tensor, axis: usize, before: usize, after: usize) -> Result<Tensor> {
    let strip = |length: usize| {
        let mut dims = x.dims().to_vec();
        dims[axis] = length;
        Tensor::full(f32::NEG_INFINITY, dims, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())
    };
    match (before, after) {
        (0, 0) => Ok(x.clone()),
        (0, after) => Tensor::cat(&[x, &strip(after)?], axis),
        (before, 0) => Tensor::cat(&[&strip(before)?, x], axis),
        (before, after) => Tensor::cat(&[&strip(before)?, x, &strip(after)?], axis),
    }
}
