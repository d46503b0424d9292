use super::pool::Taps;
use crate::Conv;
use candle::{Result, Tensor};

/// A product of two matrices per group: the input's windows, gathered tap by tap, and the kernel.
///
/// candle's own convolution has a backward that fails for stride 2 on a map whose height and width differ in
/// parity, and runs groups one after another; products of matrices have neither trouble.
pub(crate) fn conv2d(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, conv: Conv) -> Result<Tensor> {
    let (batch, _, _, channels) = x.dims4()?;
    let (kernel_height, kernel_width, per_group, to) = kernel.dims4()?;
    let padded = x.pad_with_zeros(1, conv.padding[0], conv.padding[0])?;
    let padded = padded.pad_with_zeros(2, conv.padding[1], conv.padding[1])?;
    let taps = Taps::new(&padded, [kernel_height, kernel_width], conv.stride, conv.dilation)?;
    let [height, width] = taps.size;
    let (groups, pixels, count) = (conv.groups, batch * height * width, kernel_height * kernel_width);
    // (taps, pixels, groups, from) → (groups, pixels, taps · from)
    let windows = Tensor::stack(&taps.iter().collect::<Result<Vec<_>>>()?, 0)?
        .reshape((count, pixels, groups, channels / groups))?
        .permute((2, 1, 0, 3))?
        .contiguous()?
        .reshape((groups, pixels, count * per_group))?;
    // (taps, from, groups, to) → (groups, taps · from, to)
    let matrices = kernel
        .reshape((count, per_group, groups, to / groups))?
        .permute((2, 0, 1, 3))?
        .contiguous()?
        .reshape((groups, count * per_group, to / groups))?;
    let y = windows.matmul(&matrices)?.transpose(0, 1)?.contiguous()?.reshape((batch, height, width, to))?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}
