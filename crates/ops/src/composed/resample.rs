use crate::Axis;
use candle::{Result, Tensor};

/// A product with one matrix per axis.
pub(crate) fn resample(x: &Tensor, rows: &Axis, columns: &Axis) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let matrix = |axis: &Axis| axis.matrix(x.device())?.to_dtype(x.dtype());
    let x = matrix(rows)?.broadcast_matmul(&x.reshape((batch, height, width * channels))?)?;
    let x = matrix(columns)?.broadcast_matmul(&x.reshape((batch * rows.len(), width, channels))?)?;
    x.reshape((batch, rows.len(), columns.len(), channels))
}
