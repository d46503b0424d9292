use super::launch::{Arg, Gpu, over};
use super::norm::{Slices, add_slices, at_rest};
use super::work::Window;
use crate::Norm;
use crate::kernels::geometry::Geometry;
use crate::record::tensor;
use candle::{DType, Result, Storage, Tensor};

/// A convolution's passes on a GPU: kernels of ours where each channel is a group of its own, cuDNN elsewhere. Kernels are
/// [turned](Gpu::turned); their gradients are not.
impl Gpu {
    /// The kernel as those read it who convolve maps of this type.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(unused_variables, clippy::unnecessary_wraps, reason = "it is cuDNN that has it turned")
    )]
    pub(crate) fn turned(&self, geometry: &Geometry, kernel: &Tensor, map: DType) -> Result<Tensor> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(_) if !geometry.depthwise() => super::cudnn::turned(self, geometry, kernel, map),
            _ => Ok(kernel.clone()),
        }
    }

    pub(crate) fn convolve(&self, geometry: &Geometry, x: &Tensor, kernel: &Tensor) -> Result<Storage> {
        if geometry.depthwise() {
            let count = geometry.batch * geometry.output_len();
            return self.windows(
                over(x, "depthwise"),
                [x, kernel],
                Window::from(geometry),
                count,
                geometry.to,
            );
        }
        self.timed(
            || (geometry.name(), geometry.macs()),
            || match *self {
                #[cfg(feature = "cuda")]
                Self::Nvidia(ref device) => super::cudnn::forward(device, geometry, x, kernel),
                #[cfg(feature = "mirror")]
                Self::Mirror => super::mirror::forward(geometry, x, kernel),
            },
        )
    }

    /// Forward, and through a norm at rest, from which nobody goes back: at once, where cuDNN can.
    pub(super) fn convolve_at_rest(
        &self,
        geometry: &Geometry,
        [x, kernel]: [&Tensor; 2],
        norm: &Norm<'_>,
        residual: Option<&Tensor>,
        relu: bool,
    ) -> Result<Storage> {
        let apart = || {
            let z = tensor(self.convolve(geometry, x, kernel)?, geometry.shape().as_slice());
            at_rest(self, &z, norm, residual, relu)
        };
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) if !geometry.depthwise() => {
                match super::cudnn::at_rest(device, geometry, [x, kernel], norm, residual, relu, apart)? {
                    Some(y) => Ok(y),
                    None => apart(),
                }
            }
            _ => apart(),
        }
    }

    /// The gradients of the map and of the kernel, where they are wanted; that of the map added to what others had of it.
    pub(crate) fn convolve_back(
        &self,
        geometry: &Geometry,
        [x, kernel, gradient]: [&Tensor; 3],
        [of_x, of_kernel]: [bool; 2],
        onto: Option<&Tensor>,
    ) -> Result<[Option<Tensor>; 2]> {
        let arguments = [x, kernel, gradient];
        let of_x = match onto {
            _ if !of_x => None,
            None => Some(self.back_to_map(geometry, arguments)?),
            Some(onto) => Some(self.back_to_map_onto(geometry, arguments, onto)?),
        };
        let of_kernel = of_kernel.then(|| self.back_to_kernel(geometry, arguments)).transpose()?;
        Ok([of_x, of_kernel])
    }

    fn back_to_map(&self, geometry: &Geometry, arguments: [&Tensor; 3]) -> Result<Tensor> {
        let [_, kernel, gradient] = arguments;
        let count = geometry.batch * geometry.input_len();
        if geometry.depthwise() {
            let (kernel_back, window) = (over(gradient, "depthwise_back"), Window::from(geometry));
            let of_x = self.windows(kernel_back, [kernel, gradient], window, count, geometry.from)?;
            return Ok(tensor(of_x, count));
        }
        self.timed(
            || (format!("map's gradient of {}", geometry.name()), geometry.macs()),
            || match *self {
                #[cfg(feature = "cuda")]
                Self::Nvidia(ref device) => super::cudnn::backward_map(device, geometry, kernel, gradient),
                #[cfg(feature = "mirror")]
                Self::Mirror => Ok(tensor(super::mirror::back_to_map(geometry, arguments)?, count)),
            },
        )
    }

    /// The same, and what others had of it: at once, where cuDNN can.
    fn back_to_map_onto(
        &self,
        geometry: &Geometry,
        [x, kernel, gradient]: [&Tensor; 3],
        onto: &Tensor,
    ) -> Result<Tensor> {
        let apart = || {
            let own = self.back_to_map(geometry, [x, kernel, gradient])?;
            let sum = self.each(over(&own, "total").by_fours(), [&own, onto], own.elem_count(), [])?;
            Ok(tensor(sum, own.elem_count()))
        };
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) if !geometry.depthwise() && onto.dtype() == gradient.dtype() => {
                match super::cudnn::backward_map_onto(device, geometry, [kernel, gradient, onto], apart)? {
                    Some(sum) => Ok(sum),
                    None => apart(),
                }
            }
            _ => apart(),
        }
    }

    fn back_to_kernel(&self, geometry: &Geometry, arguments: [&Tensor; 3]) -> Result<Tensor> {
        let [x, _, gradient] = arguments;
        if geometry.depthwise() {
            let of_kernel = self.depthwise_weights(geometry, x, gradient)?;
            return Ok(tensor(of_kernel, geometry.kernel_len()));
        }
        self.timed(
            || (format!("kernel's gradient of {}", geometry.name()), geometry.macs()),
            || match *self {
                #[cfg(feature = "cuda")]
                Self::Nvidia(ref device) => super::cudnn::backward_kernel(device, geometry, x, gradient),
                #[cfg(feature = "mirror")]
                Self::Mirror => {
                    let of_kernel = super::mirror::back_to_kernel(geometry, arguments)?;
                    Ok(tensor(of_kernel, geometry.kernel_len()))
                }
            },
        )
    }

    fn depthwise_weights(&self, geometry: &Geometry, x: &Tensor, gradient: &Tensor) -> Result<Storage> {
        let (pixels, channels) = (geometry.batch * geometry.output[0] * geometry.output[1], geometry.to);
        let places = geometry.kernel[0] * geometry.kernel[1];
        let (slices, tiles) = Slices::of(pixels, channels);
        let mut sums = self.room(slices * places * channels)?;
        let sizes = [pixels, channels, slices].map(Arg::Int);
        let args = [Arg::from(x), Arg::from(gradient), Arg::Write(&mut sums)].into_iter();
        let args = args.chain([Arg::Window(Window::from(geometry))]).chain(sizes).collect();
        self.launch(over(x, "depthwise_weights"), slices * places * tiles, args)?;
        add_slices(self, &tensor(sums, slices * places * channels), places * channels, slices)
    }
}
