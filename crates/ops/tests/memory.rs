//! What a graph holds between the two ways through it.

use candle::{DType, Device, Tensor, Var};
use peak_alloc::PeakAlloc;
use sokd_core::{Mode, Result};
use sokd_ops::{Conv, Norm, batch_norm, channel_shuffle, conv_norm, conv2d};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Maps of half a megabyte.
const SHAPE: (usize, usize, usize, usize) = (8, 32, 32, 16);
const MAP: f64 = (8 * 32 * 32 * 16 * size_of::<f32>()) as f64;

struct Layer {
    kernel: Var,
    affine: [Var; 4],
}

impl Layer {
    fn new() -> Result<Self> {
        let channels = || Var::ones(SHAPE.3, DType::F32, &Device::Cpu);
        Ok(Self {
            kernel: Var::ones((3, 3, SHAPE.3, SHAPE.3), DType::F32, &Device::Cpu)?,
            affine: [channels()?, channels()?, channels()?, channels()?],
        })
    }

    fn norm(&self) -> Norm<'_> {
        let [weight, bias, mean, var] = &self.affine;
        Norm { weight, bias, mean, var, eps: 1e-5, momentum: 0.1 }
    }

    fn conv_norm(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        conv_norm(x, &self.kernel, Conv::same(3, 1), &self.norm(), residual, true, Mode::Train)
    }
}

/// The maps that the graph of a network holds, its input and its output aside, and those of its gradient.
fn held(depth: usize, block: impl Fn(&Tensor, [&Layer; 2]) -> Result<Tensor>) -> Result<f64> {
    let layers: Vec<[Layer; 2]> =
        (0..depth).map(|_| Ok([Layer::new()?, Layer::new()?])).collect::<Result<_>>()?;
    let x = Var::ones(SHAPE, DType::F32, &Device::Cpu)?;
    let before = HEAP.current_usage();
    let y = layers.iter().try_fold(x.as_tensor().clone(), |x, block_of| block(&x, block_of.each_ref()))?;
    let held = HEAP.current_usage() - before;
    y.sum_all()?.backward()?;
    Ok(held as f64 / MAP - 1.0)
}

/// By how much a block more adds to what is held.
fn each(block: impl Fn(&Tensor, [&Layer; 2]) -> Result<Tensor>) -> Result<f64> {
    Ok((held(6, &block)? - held(2, &block)?) / 4.0)
}

#[test]
fn a_map_that_can_be_made_again_is_not_held() -> Result<()> {
    let plain = each(|x, [first, second]| second.conv_norm(&first.conv_norm(x, None)?, None))?;
    assert!((2.0..2.1).contains(&plain), "a map for each convolution: {plain}");
    let residual = each(|x, [first, second]| second.conv_norm(&first.conv_norm(x, None)?, Some(x)))?;
    assert!((2.5..2.6).contains(&residual), "and one for every second sum: {residual}");
    let shuffled = each(|x, [first, second]| {
        let y = channel_shuffle(&first.conv_norm(x, None)?, 4)?;
        second.conv_norm(&y, None)
    })?;
    assert!((2.0..2.1).contains(&shuffled), "none for channels in another order: {shuffled}");
    // Norms in front of convolutions: what is summed, and what the first convolution makes.
    let before = each(|x, [first, second]| {
        let y = batch_norm(x, &first.norm(), None, true, Mode::Train)?;
        let y = first.conv_norm(&y, None)?;
        sokd_ops::add(&conv2d(&y, &second.kernel, None, Conv::same(3, 1))?, x)
    })?;
    assert!((2.0..2.1).contains(&before), "nothing of the normalised map: {before}");
    Ok(())
}
