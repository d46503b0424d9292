//! Convolutions by cuDNN, channels last, over maps in single precision or in bfloat16, adding in single precision. What it is
//! told of a convolution is kept, with the algorithms that it chose.

use super::launch::Gpu;
use super::{nvidia, turn};
use crate::kernels::geometry::Geometry;
use crate::record::tensor;
use crate::tf32;
use candle::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as DataAlgorithm, cudnnConvolutionBwdFilterAlgo_t as KernelAlgorithm,
    cudnnConvolutionFwdAlgo_t as Algorithm, cudnnConvolutionMode_t as Mode, cudnnMathType_t as Math,
    cudnnTensorFormat_t as Format,
};
use candle::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType, CudnnError,
    FilterDescriptor, TensorDescriptor,
};
use candle::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle::cuda_backend::{CudaDType, DeviceId};
use candle::{CudaDevice, DType, Error, Result, Storage, Tensor};
use half::bf16;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// A convolution of maps of this type.
type Key = (DeviceId, Geometry, DType);

thread_local! {
    /// cuDNN's handles stay in their thread.
    static HANDLES: RefCell<HashMap<DeviceId, Arc<Cudnn>>> = RefCell::default();
    /// Plans of either type.
    static PLANS: RefCell<HashMap<Key, Rc<dyn Any>>> = RefCell::default();
    static ROOMS: RefCell<HashMap<DeviceId, Vec<CudaSlice<u8>>>> = RefCell::default();
}

/// The type of a map's numbers.
pub(super) trait Map: CudaDType + CudnnDataType + Copy + 'static {
    const TYPE: DType;
    const ONE: Self;
    const ZERO: Self;
    /// How it multiplies, at best and otherwise. Unless it is told so, cuDNN rounds the factors of single precision to ten bits.
    fn math() -> &'static [Math];
}

impl Map for f32 {
    const TYPE: DType = DType::F32;
    const ONE: Self = 1.0;
    const ZERO: Self = 0.0;

    fn math() -> &'static [Math] {
        if tf32() { &[Math::CUDNN_DEFAULT_MATH] } else { &[Math::CUDNN_FMA_MATH] }
    }
}

impl Map for bf16 {
    const TYPE: DType = DType::BF16;
    const ONE: Self = Self::ONE;
    const ZERO: Self = Self::ZERO;

    fn math() -> &'static [Math] {
        &[Math::CUDNN_TENSOR_OP_MATH, Math::CUDNN_DEFAULT_MATH]
    }
}

/// A convolution as cuDNN knows it, and how it goes about its three passes, once it was asked: asking takes longer than many a
/// pass.
struct Plan<T: Map> {
    x: TensorDescriptor<T>,
    y: TensorDescriptor<T>,
    kernel: FilterDescriptor<T>,
    /// One for each way of multiplying.
    convs: Vec<ConvDescriptor<f32>>,
    forward: Way<Algorithm>,
    to_map: Way<DataAlgorithm>,
    to_kernel: Way<KernelAlgorithm>,
}

/// A way that was gone: of which multiplication, by which algorithm, in how many bytes.
struct Way<A>(Cell<Option<(usize, A, usize)>>);

impl<A> Default for Way<A> {
    fn default() -> Self {
        Self(Cell::new(None))
    }
}

/// A pass of a convolution over two maps, as cudarc has it.
trait Pass<T: Map> {
    type Algorithm: Copy + 'static;
    /// Those that add in order and that a cuDNN can be expected to have.
    const OTHERS: &'static [Self::Algorithm];

    /// What cuDNN would choose, unless that adds in any order.
    fn choice(&self) -> Option<Self::Algorithm>;

    fn bytes(&self, algorithm: Self::Algorithm) -> std::result::Result<usize, CudnnError>;

    /// # Safety
    /// The maps have the sizes that the descriptors tell, and `work` has as many bytes as the algorithm works in.
    unsafe fn launch(
        &self,
        algorithm: Self::Algorithm,
        work: &mut CudaSlice<u8>,
        reads: [&CudaView<'_, T>; 2],
        room: &mut CudaSlice<T>,
    ) -> std::result::Result<(), CudnnError>;
}

/// Says what the three passes of cudarc have in common, which it says of each by itself.
macro_rules! pass {
    ($pass:ident, $algorithm:ident, $others:expr, $in_any_order:expr, |$a:ident, $b:ident, $room:ident| $maps:expr) => {
        impl<T: Map> Pass<T> for $pass<'_, T, f32, T> {
            type Algorithm = $algorithm;
            const OTHERS: &'static [$algorithm] = &$others;

            fn choice(&self) -> Option<$algorithm> {
                let in_any_order: &[$algorithm] = &$in_any_order;
                self.pick_algorithm().ok().filter(|way| !in_any_order.contains(way))
            }

            fn bytes(&self, algorithm: $algorithm) -> std::result::Result<usize, CudnnError> {
                self.get_workspace_size(algorithm)
            }

            unsafe fn launch(
                &self,
                algorithm: $algorithm,
                work: &mut CudaSlice<u8>,
                [$a, $b]: [&CudaView<'_, T>; 2],
                $room: &mut CudaSlice<T>,
            ) -> std::result::Result<(), CudnnError> {
                let (first, second, third) = $maps;
                // SAFETY: as the caller has promised.
                unsafe { self.launch(algorithm, Some(work), (T::ONE, T::ZERO), first, second, third) }
            }
        }
    };
}

pass!(
    ConvForward,
    Algorithm,
    [
        Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
        Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
    ],
    [],
    |x, kernel, y| (x, kernel, y)
);
pass!(
    ConvBackwardData,
    DataAlgorithm,
    [DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1],
    [DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0],
    |kernel, gradient, of_x| (of_x, kernel, gradient)
);
pass!(
    ConvBackwardFilter,
    KernelAlgorithm,
    [KernelAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1],
    [
        KernelAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0,
        KernelAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3,
    ],
    |x, gradient, of_kernel| (x, of_kernel, gradient)
);

impl<A: Copy> Way<A> {
    /// Goes the way that was gone before, or the first that cuDNN can go: by its own choice, or by another, under each way of
    /// multiplying. What it says it can do and then cannot is passed over.
    fn go<T: Map, P: Pass<T, Algorithm = A>>(
        &self,
        device: &CudaDevice,
        passes: &[P],
        reads: [&Tensor; 2],
        room: &mut Storage,
    ) -> Result<()> {
        let mut launch = |pass: usize, algorithm: A, bytes: usize| {
            working(device, bytes, |work| {
                nvidia::with(reads, room, |reads, room| {
                    // SAFETY: the maps have the sizes that the descriptors tell.
                    Ok(unsafe { passes[pass].launch(algorithm, work, reads, room) }?)
                })
            })
        };
        if let Some((pass, algorithm, bytes)) = self.0.get() {
            return launch(pass, algorithm, bytes);
        }
        let mut said = Vec::new();
        for (at, pass) in passes.iter().enumerate() {
            for algorithm in pass.choice().into_iter().chain(P::OTHERS.iter().copied()) {
                let went = pass.bytes(algorithm).map_err(Error::from);
                match went.and_then(|bytes| launch(at, algorithm, bytes).map(|()| bytes)) {
                    Ok(bytes) => {
                        self.0.set(Some((at, algorithm, bytes)));
                        return Ok(());
                    }
                    Err(error) => said.push(error.to_string()),
                }
            }
        }
        candle::bail!("cuDNN has no way ({}); SOKD_BACKEND=composed does without it", said.join("; "))
    }
}

impl<T: Map> Plan<T> {
    /// That of these sizes, in this thread.
    fn of(device: &CudaDevice, geometry: &Geometry) -> Result<Rc<Self>> {
        let key = (device.id(), *geometry, T::TYPE);
        let known = PLANS.with_borrow(|plans| plans.get(&key).cloned());
        if let Some(plan) = known.and_then(|plan| plan.downcast().ok()) {
            return Ok(plan);
        }
        let known = HANDLES.with_borrow(|handles| handles.get(&device.id()).cloned());
        let handle = match known {
            Some(handle) => handle,
            None => Cudnn::new(device.cuda_stream())?,
        };
        HANDLES.with_borrow_mut(|handles| handles.insert(device.id(), Arc::clone(&handle)));
        let plan = Rc::new(Self::new(&handle, geometry)?);
        let kept: Rc<dyn Any> = plan.clone();
        PLANS.with_borrow_mut(|plans| plans.insert(key, kept));
        Ok(plan)
    }

    fn new(handle: &Arc<Cudnn>, geometry: &Geometry) -> Result<Self> {
        let int = super::launch::int;
        let ints = |[height, width]: [usize; 2]| Ok::<_, Error>([int(height)?, int(width)?]);
        let map = |[height, width]: [usize; 2], channels: usize| {
            let sizes = [int(geometry.batch)?, int(channels)?, int(height)?, int(width)?];
            Ok::<_, Error>(handle.create_4d_tensor::<T>(Format::CUDNN_TENSOR_NHWC, sizes)?)
        };
        let [height, width] = ints(geometry.kernel)?;
        let sizes = [int(geometry.to)?, int(geometry.group_from())?, height, width];
        let (stride, padding) = (ints(geometry.conv.stride)?, ints(geometry.conv.padding)?);
        let (dilation, groups) = (ints(geometry.conv.dilation)?, int(geometry.conv.groups)?);
        let conv = |math: &Math| {
            let mode = Mode::CUDNN_CROSS_CORRELATION;
            let mut conv = handle.create_conv2d::<f32>(padding, stride, dilation, mode)?;
            conv.set_group_count(groups)?;
            conv.set_math_type(*math)?;
            Ok::<_, Error>(conv)
        };
        Ok(Self {
            x: map(geometry.input, geometry.from)?,
            y: map(geometry.output, geometry.to)?,
            kernel: handle.create_4d_filter(Format::CUDNN_TENSOR_NHWC, sizes)?,
            convs: T::math().iter().map(conv).collect::<Result<_>>()?,
            forward: Way::default(),
            to_map: Way::default(),
            to_kernel: Way::default(),
        })
    }
}

/// Lends an algorithm so many bytes to work in: those that the last one had, where they are enough. On one stream, that one is
/// done. A smaller room stays: what was captured works there. All of them together are less than twice the largest.
fn working<R>(
    device: &CudaDevice,
    bytes: usize,
    work: impl FnOnce(&mut CudaSlice<u8>) -> Result<R>,
) -> Result<R> {
    ROOMS.with_borrow_mut(|rooms| {
        let rooms = rooms.entry(device.id()).or_default();
        if rooms.last().is_none_or(|room| room.len() < bytes) {
            // SAFETY: bytes of any value.
            rooms.push(unsafe { device.alloc::<u8>(bytes.max(1).next_power_of_two())? });
        }
        let last = rooms.len() - 1;
        work(&mut rooms[last])
    })
}

/// `(height, width, from, to)` → `(to, height, width, from)`, as cuDNN reads kernels, in the type of the maps.
pub(super) fn turned(gpu: &Gpu, geometry: &Geometry, kernel: &Tensor, map: DType) -> Result<Tensor> {
    turn::turned(gpu, kernel, map, rows_columns(geometry))
}

fn rows_columns(geometry: &Geometry) -> [usize; 2] {
    [geometry.kernel_len() / geometry.to, geometry.to]
}

pub(super) fn forward<T: Map>(
    device: &CudaDevice,
    geometry: &Geometry,
    x: &Tensor,
    kernel: &Tensor,
) -> Result<Storage> {
    let gpu = Gpu::Nvidia(device.clone());
    let plan = Plan::<T>::of(device, geometry)?;
    let Plan { x: of_x, y: of_y, kernel: w, convs, .. } = &*plan;
    let passes: Vec<_> = convs.iter().map(|conv| ConvForward { conv, x: of_x, w, y: of_y }).collect();
    let mut y = gpu.room_of(T::TYPE, geometry.batch * geometry.output_len())?;
    plan.forward.go(device, &passes, [x, kernel], &mut y)?;
    Ok(y)
}

/// The gradients of the map and, in single precision, of the kernel, where they are wanted.
pub(super) fn backward<T: Map>(
    device: &CudaDevice,
    geometry: &Geometry,
    [x, kernel, gradient]: [&Tensor; 3],
    [of_x, of_kernel]: [bool; 2],
) -> Result<[Option<Tensor>; 2]> {
    let of_x = of_x.then(|| backward_map::<T>(device, geometry, kernel, gradient));
    let of_kernel = of_kernel.then(|| backward_kernel::<T>(device, geometry, x, gradient));
    Ok([of_x.transpose()?, of_kernel.transpose()?])
}

/// The gradient of `x`.
fn backward_map<T: Map>(
    device: &CudaDevice,
    geometry: &Geometry,
    kernel: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    let gpu = Gpu::Nvidia(device.clone());
    let plan = Plan::<T>::of(device, geometry)?;
    let Plan { x: dx, y: dy, kernel: w, convs, .. } = &*plan;
    let passes: Vec<_> = convs.iter().map(|conv| ConvBackwardData { conv, dx, w, dy }).collect();
    let mut of_x = gpu.room_of(T::TYPE, geometry.batch * geometry.input_len())?;
    plan.to_map.go(device, &passes, [kernel, gradient], &mut of_x)?;
    Ok(tensor(of_x, geometry.batch * geometry.input_len()))
}

/// The gradient of the kernel, in single precision: of maps in bfloat16, cuDNN adds it up so, and rounds it.
fn backward_kernel<T: Map>(
    device: &CudaDevice,
    geometry: &Geometry,
    x: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    let gpu = Gpu::Nvidia(device.clone());
    let plan = Plan::<T>::of(device, geometry)?;
    let Plan { x: of_x, y: dy, kernel: dw, convs, .. } = &*plan;
    let passes: Vec<_> = convs.iter().map(|conv| ConvBackwardFilter { conv, x: of_x, dw, dy }).collect();
    let mut of_kernel = gpu.room_of(T::TYPE, geometry.kernel_len())?;
    plan.to_kernel.go(device, &passes, [x, gradient], &mut of_kernel)?;
    turn::turned_back(&gpu, tensor(of_kernel, geometry.kernel_len()), rows_columns(geometry))
}
