use candle::{DType, Device, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use sokd_core::{Backbone, BackboneInfo, Build, BuildCx, DatasetInfo, Mode, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a network takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Numbers that training moves.
    pub parameters: usize,
    /// Multiplications of weights with values, of convolutions and linear layers, for one image.
    pub macs: u64,
}

/// What a network takes for the images of a data set: built, shown one image, and forgotten.
///
/// # Example
/// ```
/// # use sokd_core::{DatasetInfo, PixelNorm};
/// # let cifar100 = DatasetInfo {
/// #     name: "cifar100".into(),
/// #     classes: vec![String::new(); 100],
/// #     size: [32, 32],
/// #     pixels: PixelNorm { mean: [0.0; 3], std: [1.0; 3] },
/// #     train: 50_000,
/// #     search: 0,
/// #     test: 10_000,
/// # };
/// let resnet8 = sokd_models::named("resnet8").expect("it is in the zoo");
/// assert_eq!(sokd_models::cost(&resnet8, &cifar100)?.parameters, 83_892);
/// # Ok::<(), sokd_core::Error>(())
/// ```
pub fn cost(spec: &impl Build<dyn Backbone>, data: &DatasetInfo) -> Result<Cost> {
    let count = Arc::new(AtomicUsize::new(0));
    let net = blank(spec, data, &count)?;
    let image = Tensor::zeros((1, data.size[0], data.size[1], 3), DType::F32, &Device::Cpu)?;
    let (shown, macs) = sokd_ops::count_macs(|| net.forward(&image, Mode::Eval));
    shown?;
    Ok(Cost { parameters: count.load(Ordering::Relaxed), macs })
}

/// What is known of a network before it runs, or has weights.
///
/// # Errors
/// Settings that do not fit together.
pub fn info(spec: &impl Build<dyn Backbone>, data: &DatasetInfo) -> Result<BackboneInfo> {
    Ok(blank(spec, data, &Arc::default())?.info().clone())
}

fn blank(
    spec: &impl Build<dyn Backbone>,
    data: &DatasetInfo,
    count: &Arc<AtomicUsize>,
) -> Result<Box<dyn Backbone>> {
    let vars = VarBuilder::from_backend(Box::new(Blank(Arc::clone(count))), DType::F32, Device::Cpu);
    spec.build(&BuildCx::alone(vars, data))
}

/// Weights that are all zero, and counted: drawing them would take longer than all the rest.
struct Blank(Arc<AtomicUsize>);

impl SimpleBackend for Blank {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle::Result<Tensor> {
        if !name.contains("running_") {
            self.0.fetch_add(shape.elem_count(), Ordering::Relaxed);
        }
        Tensor::zeros(shape, dtype, device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle::Result<Tensor> {
        candle::bail!("{name} has no shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
