//! Convolutions by cuDNN, channels last, over maps in single precision or in bfloat16, adding in single precision. What it is
//! told of a convolution is kept, with the algorithms that it chose.

use super::launch::{Arg, Gpu, Kernel, over};
use super::nvidia;
use crate::kernels::geometry::Geometry;
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
use candle::cuda_backend::cudarc::driver::CudaSlice;
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
    /// How it multiplies. Unless it is told so, cuDNN rounds the factors of single precision to ten bits.
    fn math() -> Math;
}

impl Map for f32 {
    const TYPE: DType = DType::F32;
    const ONE: Self = 1.0;
    const ZERO: Self = 0.0;

    fn math() -> Math {
        if tf32() { Math::CUDNN_DEFAULT_MATH } else { Math::CUDNN_FMA_MATH }
    }
}

impl Map for bf16 {
    const TYPE: DType = DType::BF16;
    const ONE: Self = Self::ONE;
    const ZERO: Self = Self::ZERO;

    fn math() -> Math {
        Math::CUDNN_TENSOR_OP_MATH
    }
}

/// A convolution as cuDNN knows it, and how it goes about its three passes, once it was asked: asking takes longer than many a
/// pass.
struct Plan<T: Map> {
    x: TensorDescriptor<T>,
    y: TensorDescriptor<T>,
    kernel: FilterDescriptor<T>,
    conv: ConvDescriptor<f32>,
    forward: Way<Algorithm>,
    to_map: Way<DataAlgorithm>,
    to_kernel: Way<KernelAlgorithm>,
}

/// An algorithm, and how many bytes it works in.
struct Way<A>(Cell<Option<(A, usize)>>);

impl<A> Default for Way<A> {
    fn default() -> Self {
        Self(Cell::new(None))
    }
}

impl<A: Copy> Way<A> {
    fn or(&self, choose: impl FnOnce() -> Result<(A, usize)>) -> Result<(A, usize)> {
        let way = self.0.get().map_or_else(choose, Ok)?;
        self.0.set(Some(way));
        Ok(way)
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
        let mut conv = handle.create_conv2d::<f32>(
            padding,
            stride,
            ints(geometry.conv.dilation)?,
            Mode::CUDNN_CROSS_CORRELATION,
        )?;
        conv.set_group_count(int(geometry.conv.groups)?)?;
        conv.set_math_type(T::math())?;
        Ok(Self {
            x: map(geometry.input, geometry.from)?,
            y: map(geometry.output, geometry.to)?,
            kernel: handle.create_4d_filter(Format::CUDNN_TENSOR_NHWC, sizes)?,
            conv,
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
    let [rows, columns] = rows_columns(geometry);
    let mut turned = gpu.room_of(map, rows * columns)?;
    let kernels = Kernel::over(map, "transpose_to");
    gpu.walk(kernels, [kernel], &mut turned, rows * columns, [Arg::Int(rows), Arg::Int(columns)])?;
    Ok(crate::record::tensor(turned, rows * columns))
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
    let forward = ConvForward { conv: &plan.conv, x: &plan.x, w: &plan.kernel, y: &plan.y };
    let (algorithm, bytes) = plan.forward.or(|| {
        use Algorithm::{
            CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM as PLAIN,
            CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM as PREPARED,
        };
        let ways = forward.pick_algorithm().into_iter().chain([PREPARED, PLAIN]);
        first(ways, |way| forward.get_workspace_size(way), geometry)
    })?;
    let mut y = gpu.room_of(T::TYPE, geometry.batch * geometry.output_len())?;
    working(device, bytes, |work| {
        nvidia::with([x, kernel], &mut y, |[x, kernel], y| {
            // SAFETY: the maps have the sizes that the descriptors tell.
            unsafe { forward.launch(algorithm, Some(work), (T::ONE, T::ZERO), x, kernel, y) }
                .map_err(Error::from)
        })
    })?;
    Ok(y)
}

/// The gradients of the map and, in single precision, of the kernel, where they are wanted.
pub(super) fn backward<T: Map>(
    device: &CudaDevice,
    geometry: &Geometry,
    [x, kernel, gradient]: [&Tensor; 3],
    [of_x, of_kernel]: [bool; 2],
) -> Result<[Option<Storage>; 2]> {
    let of_x = of_x.then(|| backward_map::<T>(device, geometry, kernel, gradient));
    let of_kernel = of_kernel.then(|| backward_kernel::<T>(device, geometry, x, gradient));
    Ok([of_x.transpose()?, of_kernel.transpose()?])
}

/// The first of these ways that cuDNN can go, and how many bytes it needs for that.
fn first<A: Copy>(
    ways: impl IntoIterator<Item = A>,
    bytes: impl Fn(A) -> std::result::Result<usize, CudnnError>,
    geometry: &Geometry,
) -> Result<(A, usize)> {
    let mut said = None;
    for way in ways {
        match bytes(way) {
            Ok(bytes) => return Ok((way, bytes)),
            Err(error) => said = Some(error),
        }
    }
    candle::bail!("cuDNN has no way of {geometry:?} ({said:?}); SOKD_BACKEND=composed does without it")
}

/// The gradient of `x`. Of cuDNN's algorithms, one adds in any order: it is not taken.
fn backward_map<T: Map>(
    device: &CudaDevice,
    geometry: &Geometry,
    kernel: &Tensor,
    gradient: &Tensor,
) -> Result<Storage> {
    let gpu = Gpu::Nvidia(device.clone());
    let plan = Plan::<T>::of(device, geometry)?;
    let back = ConvBackwardData { conv: &plan.conv, dx: &plan.x, w: &plan.kernel, dy: &plan.y };
    let (algorithm, bytes) = plan.to_map.or(|| {
        use DataAlgorithm::{
            CUDNN_CONVOLUTION_BWD_DATA_ALGO_0 as IN_ANY_ORDER, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1 as PLAIN,
            CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING as TILES,
        };
        let picked = back.pick_algorithm().ok().filter(|way| *way != IN_ANY_ORDER);
        first(picked.into_iter().chain([PLAIN, TILES]), |way| back.get_workspace_size(way), geometry)
    })?;
    let mut of_x = gpu.room_of(T::TYPE, geometry.batch * geometry.input_len())?;
    working(device, bytes, |work| {
        nvidia::with([kernel, gradient], &mut of_x, |[kernel, gradient], of_x| {
            // SAFETY: the maps have the sizes that the descriptors tell.
            unsafe { back.launch(algorithm, Some(work), (T::ONE, T::ZERO), of_x, kernel, gradient) }
                .map_err(Error::from)
        })
    })?;
    Ok(of_x)
}

/// The gradient of the kernel, in single precision. Of cuDNN's algorithms, two add in any order: they are not taken.
fn backward_kernel<T: Map>(
    device: &CudaDevice,
    geometry: &Geometry,
    x: &Tensor,
    gradient: &Tensor,
) -> Result<Storage> {
    let gpu = Gpu::Nvidia(device.clone());
    let plan = Plan::<T>::of(device, geometry)?;
    let back = ConvBackwardFilter { conv: &plan.conv, x: &plan.x, dw: &plan.kernel, dy: &plan.y };
    let (algorithm, bytes) = plan.to_kernel.or(|| {
        use KernelAlgorithm::{
            CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0 as IN_ANY_ORDER,
            CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1 as PLAIN,
            CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3 as IN_ANY_ORDER_TOO,
            CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING as TILES,
        };
        let ordered = |way: &KernelAlgorithm| ![IN_ANY_ORDER, IN_ANY_ORDER_TOO].contains(way);
        let picked = back.pick_algorithm().ok().filter(ordered);
        first(picked.into_iter().chain([PLAIN, TILES]), |way| back.get_workspace_size(way), geometry)
    })?;
    let mut of_kernel = gpu.room_of(T::TYPE, geometry.kernel_len())?;
    working(device, bytes, |work| {
        nvidia::with([x, gradient], &mut of_kernel, |[x, gradient], of_kernel| {
            // SAFETY: the maps have the sizes that the descriptors tell.
            unsafe { back.launch(algorithm, Some(work), (T::ONE, T::ZERO), x, of_kernel, gradient) }
                .map_err(Error::from)
        })
    })?;
    let [rows, columns] = rows_columns(geometry);
    let of_kernel = crate::record::tensor(of_kernel, rows * columns);
    let (mut back, sizes) = (gpu.room(rows * columns)?, [Arg::Int(columns), Arg::Int(rows)]);
    gpu.walk(over(&of_kernel, "transpose_of"), [&of_kernel], &mut back, rows * columns, sizes)?;
    Ok(back)
}
