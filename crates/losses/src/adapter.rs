//! What brings a student's map to the shape of a teacher's.

use candle::Tensor;
use candle_nn::VarBuilder;
use sokd_core::{DatasetInfo, Error, Mode, Result, StageInfo};
use sokd_nn::{BatchNorm, Conv2d, ConvNorm, init};
use sokd_ops::Conv;

/// A convolution that ends in the teacher's channels and size, then batch norm and ReLU.
///
/// # Source
/// `ConvReg` of RepDistiller and mdistiller. Ours: no bias, which the batch norm behind it would take away again, and the
/// transposed convolution of a student whose map is the smaller is an ordinary one over the same map with zeros
/// between its pixels: the same function, its kernel mirrored.
pub(crate) struct Adapter {
    spreads: bool,
    layers: ConvNorm,
}

impl Adapter {
    /// # Errors
    /// [`Error::Setting`] when the teacher's map is larger than the student's by another factor than 2.
    pub(crate) fn new(
        student: StageInfo,
        teacher: StageInfo,
        data: Option<&DatasetInfo>,
        vars: &VarBuilder<'_>,
    ) -> Result<Self> {
        let (from, to) = (student.channels, teacher.channels);
        let (kernel, conv) = window(student.stride, teacher.stride, data)?;
        let spreads = student.stride > teacher.stride;
        // As PyTorch draws them: the fan of a transposed convolution is counted on its other side.
        let draw = init::kaiming_uniform(kernel * kernel * if spreads { to } else { from });
        let conv = Conv2d::new(from, to, kernel, conv, draw, None, vars.pp("conv"))?;
        Ok(Self { spreads, layers: ConvNorm::new(conv, BatchNorm::new(to, vars.pp("bn"))?) })
    }

    /// `map: (batch, height, width, channels)` of the student → the teacher's height, width and channels.
    pub(crate) fn forward(&self, map: &Tensor, mode: Mode) -> Result<Tensor> {
        let map = if self.spreads { spread(map)? } else { map.clone() };
        self.layers.forward(&map, None, true, mode)
    }
}

/// The side of the kernel, and how it moves, that turn a map of one stride into a map of the other.
fn window(student: usize, teacher: usize, data: Option<&DatasetInfo>) -> Result<(usize, Conv)> {
    Ok(if student == teacher {
        (1, Conv::default())
    } else if student * 2 == teacher {
        (3, Conv::same(3, 2))
    } else if student < teacher {
        let [height, _] = data.ok_or(Error::NoData("fitnet"))?.size;
        (1 + height.div_ceil(student) - height.div_ceil(teacher), Conv::default())
    } else if student == teacher * 2 {
        (4, Conv { padding: [1; 2], ..Conv::default() })
    } else {
        let problem = format!(
            "a pixel of the student's map stands for {student} pixels of the image and one of the teacher's for \
             {teacher}; an adapter doubles a map, not more: choose another stage"
        );
        return Err(Error::setting("fitnet.stage", problem));
    })
}

/// Zeros before, between and after the pixels: `(batch, height, width, channels)` → `(batch, 2 height + 1,
/// 2 width + 1, channels)`.
fn spread(map: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = map.dims4()?;
    let row = map.reshape((batch, height * width, 1, channels))?.pad_with_zeros(2, 1, 0)?;
    let plane = row.reshape((batch, height, 1, 2 * width * channels))?.pad_with_zeros(2, 1, 0)?;
    let plane = plane.reshape((batch, 2 * height, 2 * width, channels))?;
    Ok(plane.pad_with_zeros(1, 0, 1)?.pad_with_zeros(2, 0, 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle::Device;

    #[test]
    fn zeros_stand_around_every_pixel() -> Result<()> {
        let map = Tensor::new(&[[[[1f32, 10.0], [2.0, 20.0]]]], &Device::Cpu)?;
        let first = spread(&map)?.squeeze(0)?.narrow(2, 0, 1)?.squeeze(2)?;
        let expected = [[0.0; 5], [0.0, 1.0, 0.0, 2.0, 0.0], [0.0; 5]];
        assert_eq!(first.to_vec2::<f32>()?, expected);
        Ok(())
    }

    #[test]
    fn a_window_fits_or_says_why_not() -> Result<()> {
        assert_eq!(window(4, 4, None)?.0, 1);
        assert_eq!(window(2, 4, None)?.0, 3);
        assert_eq!(window(4, 2, None)?.0, 4);
        assert!(matches!(window(1, 4, None), Err(Error::NoData(_))));
        let problem = window(8, 2, None).expect_err("no adapter quadruples a map").to_string();
        assert!(problem.contains("choose another stage"), "{problem}");
        Ok(())
    }
}
