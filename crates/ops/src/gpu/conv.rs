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
                let what = || (format!("{} and its norm", geometry.name()), geometry.macs());
                let maps = [x, kernel];
                let at_once = || super::cudnn::at_rest(device, geometry, maps, norm, residual, relu, apart);
                match self.timed(what, at_once)? {
                    Some(y) => Ok(y),
                    None => apart(),
                }
            }
            _ => apart(),
        }
    }

    /// The gradients of the map and of the kernel, where they are wanted.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "mirror")),
        expect(unused_variables, reason = "there is no value to call this on")
    )]
    pub(crate) fn convolve_back(
        &self,
        geometry: &Geometry,
        [x, kernel, gradient]: [&Tensor; 3],
        [of_x, of_kernel]: [bool; 2],
    ) -> Result<[Option<Tensor>; 2]> {
        let map = |of_x| tensor(of_x, geometry.batch * geometry.input_len());
        let weights = |of_kernel| tensor(of_kernel, geometry.kernel_len());
        if geometry.depthwise() {
            let of_x = of_x.then(|| {
                let count = geometry.batch * geometry.input_len();
                let window = Window::from(geometry);
                self.windows(
                    over(gradient, "depthwise_back"),
                    [kernel, gradient],
                    window,
                    count,
                    geometry.from,
                )
            });
            let of_kernel = of_kernel.then(|| self.depthwise_weights(geometry, x, gradient));
            return Ok([of_x.transpose()?.map(map), of_kernel.transpose()?.map(weights)]);
        }
        let back = |whose: &str, wanted: [bool; 2]| {
            let what = || (format!("{whose}'s gradient of {}", geometry.name()), geometry.macs());
            self.timed(what, || match *self {
                #[cfg(feature = "cuda")]
                Self::Nvidia(ref device) => {
                    super::cudnn::backward(device, geometry, [x, kernel, gradient], wanted)
                }
                #[cfg(feature = "mirror")]
                Self::Mirror => {
                    let [of_x, of_kernel] = super::mirror::backward(geometry, [x, kernel, gradient], wanted)?;
                    Ok([of_x.map(map), of_kernel.map(weights)])
                }
            })
        };
        let [of_x, _] = if of_x { back("map", [true, false])? } else { [None, None] };
        let [_, of_kernel] = if of_kernel { back("kernel", [false, true])? } else { [None, None] };
        Ok([of_x, of_kernel])
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
