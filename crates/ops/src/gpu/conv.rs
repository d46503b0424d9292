use super::launch::{Arg, Gpu};
use super::norm::{Slices, add_slices};
use super::work::Window;
use crate::kernels::geometry::Geometry;
use crate::record::tensor;
use candle::{Result, Storage, Tensor};

/// A convolution's passes on a GPU: kernels of ours where each channel is a group of its own, cuDNN elsewhere. Kernels are
/// [turned](Gpu::turned); their gradients are not.
impl Gpu {
    /// The kernel as those who convolve read it.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(unused_variables, clippy::unnecessary_wraps, reason = "it is cuDNN that has it turned")
    )]
    pub(crate) fn turned(&self, geometry: &Geometry, kernel: &Tensor) -> Result<Tensor> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(_) if !geometry.depthwise() => super::cudnn::turned(self, geometry, kernel),
            _ => Ok(kernel.clone()),
        }
    }

    pub(crate) fn convolve(&self, geometry: &Geometry, x: &Tensor, kernel: &Tensor) -> Result<Storage> {
        if geometry.depthwise() {
            let count = geometry.batch * geometry.output_len();
            return self.windows("depthwise", [x, kernel], Window::from(geometry), count, geometry.to);
        }
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => super::cudnn::forward(device, geometry, x, kernel),
            #[cfg(feature = "mirror")]
            Self::Mirror => super::mirror::forward(geometry, x, kernel),
        }
    }

    /// The gradients of the map and of the kernel, where they are wanted.
    pub(crate) fn convolve_back(
        &self,
        geometry: &Geometry,
        [x, kernel, gradient]: [&Tensor; 3],
        [of_x, of_kernel]: [bool; 2],
    ) -> Result<[Option<Storage>; 2]> {
        if geometry.depthwise() {
            let of_x = of_x.then(|| {
                let count = geometry.batch * geometry.input_len();
                let window = Window::from(geometry);
                self.windows("depthwise_back", [kernel, gradient], window, count, geometry.from)
            });
            let of_kernel = of_kernel.then(|| self.depthwise_weights(geometry, x, gradient));
            return Ok([of_x.transpose()?, of_kernel.transpose()?]);
        }
        match *self {
            #[cfg(feature = "cuda")]
            Self::Nvidia(ref device) => {
                let of_x = of_x.then(|| super::cudnn::backward_map(device, geometry, kernel, gradient));
                let of_kernel =
                    of_kernel.then(|| super::cudnn::backward_kernel(device, geometry, x, gradient));
                Ok([of_x.transpose()?, of_kernel.transpose()?])
            }
            #[cfg(feature = "mirror")]
            Self::Mirror => super::mirror::backward(geometry, [x, kernel, gradient], [of_x, of_kernel]),
        }
    }

    fn depthwise_weights(&self, geometry: &Geometry, x: &Tensor, gradient: &Tensor) -> Result<Storage> {
        let (pixels, channels) = (geometry.batch * geometry.output[0] * geometry.output[1], geometry.to);
        let places = geometry.kernel[0] * geometry.kernel[1];
        let (slices, tiles) = Slices::of(pixels, channels);
        let mut sums = self.room(slices * places * channels)?;
        let sizes = [pixels, channels, slices].map(Arg::Int);
        let args = [Arg::from(x), Arg::from(gradient), Arg::Write(&mut sums)].into_iter();
        let args = args.chain([Arg::Window(Window::from(geometry))]).chain(sizes).collect();
        self.launch("depthwise_weights", slices * places * tiles, args)?;
        add_slices(self, &tensor(sums, slices * places * channels), places * channels, slices)
    }
}
