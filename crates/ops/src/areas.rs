use crate::backend::gpu_for;
use crate::gpu::{Arg, Gpu};
use crate::mixed::widen;
use crate::record::tensor;
use crate::spent::named;
use candle::Tensor;
use sokd_core::{Error, Result};

/// Peaks of an image at most: a lane has each (`kernels/areas.cu`).
const PEAKS: usize = 256;
/// Cells at most: single precision counts them one by one.
const CELLS: usize = 1 << 24;
/// Numbers at most of all heatmaps, and of all peaks.
const NUMBERS: usize = 1 << 30;

/// How [`peak_areas`] finds boxes, and what it counts them for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakAreas {
    /// Peaks of an image.
    pub count: usize,
    /// The side of the window of which a peak is the largest value, odd.
    pub window: usize,
    /// The least side of a box, in cells.
    pub least: f64,
    /// A cell in n > 0 boxes counts n to this power.
    pub power: u32,
    /// Whether a cell counts as a share of what all of its image's count for; of the map, else.
    pub by_area: bool,
}

/// What the boxes around peaks come to, on no graph.
///
/// # Shapes
/// `weights`: `(batch, height, width)`; `readings`: `(5,)`.
#[derive(Clone, Debug)]
pub struct Areas {
    /// What each cell counts for.
    pub weights: Tensor,
    /// What tells a detector from one that has collapsed: the standard deviation of a heatmap over its cells, a mean over
    /// heatmaps and images; different sets of peaks' cells, a share of the images; boxes on the cell that most are on, a share
    /// of the boxes; cells in a box, a share of the map; the mean side of a box in cells.
    pub readings: Tensor,
}

/// The boxes around the highest peaks of heatmaps, found where the heatmaps are: no number comes to this machine. `None` where
/// no GPU's kernels take these tensors, or not so many peaks.
///
/// # Shapes
/// `heat`: `(batch, height, width, heatmaps)`; `sizes`, `offsets`: `(batch, height, width, 2)`, horizontal first, in cells.
///
/// # Errors
/// [`Error::Shape`] when there are not a size and an offset for each cell.
///
/// # Source
/// The crate `sokd-dam`, to whose plain numbers the weights are the same to the bit.
pub fn peak_areas(heat: &Tensor, sizes: &Tensor, offsets: &Tensor, how: &PeakAreas) -> Result<Option<Areas>> {
    let (batch, height, width, channels) = heat.dims4()?;
    for (what, tensor) in [("sizes of boxes", sizes), ("offsets of boxes", offsets)] {
        if tensor.dims() != [batch, height, width, 2] {
            let expected = format!("({batch}, {height}, {width}, 2)");
            return Err(Error::Shape { what, expected, got: tensor.dims().to_vec() });
        }
    }
    let given = |tensor: &Tensor| -> Result<Tensor> { Ok(widen(&tensor.detach())?.contiguous()?) };
    let tensors = [&given(heat)?, &given(sizes)?, &given(offsets)?];
    let gpu = gpu_for(&tensors).filter(|_| how.fits([batch, height, width, channels]));
    let Some(gpu) = gpu else { return Ok(None) };
    Ok(Some(named("peak-areas", || how.find(&gpu, tensors, [batch, height, width, channels]))?))
}

impl PeakAreas {
    /// Whether the kernels count so far.
    fn fits(&self, [batch, height, width, channels]: [usize; 4]) -> bool {
        let cells = height * width;
        (1..=PEAKS).contains(&self.count)
            && (1..=CELLS).contains(&cells)
            && (1..=NUMBERS).contains(&(batch * cells * channels))
            && batch * self.count.max(2 * cells) <= NUMBERS
    }

    fn find(
        &self,
        gpu: &Gpu,
        [heat, sizes, offsets]: [&Tensor; 3],
        [batch, height, width, channels]: [usize; 4],
    ) -> candle::Result<Areas> {
        let (blocks, cells, count) = (Gpu::blocks(batch, 1), height * width, self.count);
        // As far as the map reaches, all windows are one.
        let reach = (self.window / 2).min(height.max(width));
        let numbers = ints([batch, height, width, channels, count, reach]);
        let [peaks] = made(gpu, "highest_peaks", blocks, &[heat], [&[batch, count]], numbers)?;
        let [spread] = made(gpu, "heat_spread", blocks, &[heat], [&[batch]], ints([batch, cells, channels]))?;

        let mut numbers = ints([batch, height, width, count, self.power as usize, self.by_area.into()]);
        numbers.push(Arg::Float(self.least));
        let shapes: [&[usize]; 3] = [&[batch, height, width], &[batch, 3], &[batch, count]];
        let [weights, figures, centres] =
            made(gpu, "cells_in_boxes", blocks, &[&peaks, sizes, offsets], shapes, numbers)?;

        let told = [&spread, &peaks, &figures, &centres];
        let [readings] = made(gpu, "areas_readings", 1, &told, [&[5]], ints([batch, cells, count]))?;
        Ok(Areas { weights, readings })
    }
}

fn ints<const N: usize>(numbers: [usize; N]) -> Vec<Arg<'static>> {
    numbers.map(Arg::Int).into()
}

/// Runs `kernel(reads .., makes .., rest ..)`.
fn made<'a, const N: usize>(
    gpu: &Gpu,
    kernel: &'static str,
    blocks: usize,
    reads: &[&'a Tensor],
    shapes: [&[usize]; N],
    rest: Vec<Arg<'a>>,
) -> candle::Result<[Tensor; N]> {
    let rooms = shapes.iter().map(|shape| gpu.room(shape.iter().product()));
    let mut rooms = rooms.collect::<candle::Result<Vec<_>>>()?;
    let reads = reads.iter().map(|&read| Arg::from(read));
    gpu.launch(kernel, blocks, reads.chain(rooms.iter_mut().map(Arg::from)).chain(rest).collect())?;
    let tensors: Vec<_> = rooms.into_iter().zip(shapes).map(|(room, shape)| tensor(room, shape)).collect();
    Ok(tensors.try_into().unwrap_or_else(|_| unreachable!("as many as there are shapes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, with_backend};
    use candle::{DType, Device};

    const HOW: PeakAreas = PeakAreas { count: 2, window: 3, least: 0.0, power: 1, by_area: false };

    fn found(shape: [usize; 4], dtype: DType, how: &PeakAreas) -> Result<Option<Areas>> {
        let [batch, height, width, _] = shape;
        let zeros = |shape: [usize; 4]| Tensor::zeros(&shape, dtype, &Device::Cpu);
        let pairs = zeros([batch, height, width, 2])?;
        with_backend(Backend::Mirror, || peak_areas(&zeros(shape)?, &pairs, &pairs, how))
    }

    #[test]
    fn what_the_kernels_do_not_take_is_left_to_others() -> Result<()> {
        let shape = [2, 3, 4, 5];
        for dtype in [DType::F32, DType::BF16] {
            assert_eq!(found(shape, dtype, &HOW)?.expect("areas").weights.dims(), [2, 3, 4]);
        }
        assert!(found(shape, DType::F32, &PeakAreas { count: PEAKS, ..HOW })?.is_some());
        for how in [PeakAreas { count: 0, ..HOW }, PeakAreas { count: PEAKS + 1, ..HOW }] {
            assert!(found(shape, DType::F32, &how)?.is_none(), "{how:?}");
        }
        assert!(found(shape, DType::F64, &HOW)?.is_none());
        for axis in 0..4 {
            let mut empty = shape;
            empty[axis] = 0;
            assert!(found(empty, DType::F32, &HOW)?.is_none(), "{empty:?}");
        }
        Ok(())
    }

    #[test]
    fn a_size_and_an_offset_for_each_cell_are_asked_for() -> Result<()> {
        let [heat, pairs] = [5, 2].map(|last| Tensor::zeros((2, 3, 4, last), DType::F32, &Device::Cpu));
        let (heat, pairs) = (heat?, pairs?);
        for (sizes, offsets) in [(&heat, &pairs), (&pairs, &heat)] {
            let error = peak_areas(&heat, sizes, offsets, &HOW).expect_err("five are not two").to_string();
            assert!(error.contains("of boxes: expected (2, 3, 4, 2), got [2, 3, 4, 5]"), "{error}");
        }
        Ok(())
    }
}
