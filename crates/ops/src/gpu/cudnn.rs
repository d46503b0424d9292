//! Convolutions by cuDNN, channels last. What it is told of a convolution is kept, with the algorithms that it chose.

use super::launch::{Arg, Gpu};
use super::nvidia;
use crate::kernels::geometry::Geometry;
use crate::tf32;
use candle::cuda_backend::DeviceId;
use candle::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as DataAlgorithm, cudnnConvolutionBwdFilterAlgo_t as KernelAlgorithm,
    cudnnConvolutionMode_t as Mode, cudnnMathType_t as Math, cudnnTensorFormat_t as Format,
};
use candle::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, FilterDescriptor,
    TensorDescriptor,
};
use candle::cuda_backend::cudarc::driver::CudaSlice;
use candle::{CudaDevice, Error, Result, Storage, Tensor};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

thread_local! {
    /// cuDNN's handles stay in their thread.
    static HANDLES: RefCell<HashMap<DeviceId, Arc<Cudnn>>> = RefCell::default();
    static PLANS: RefCell<HashMap<(DeviceId, Geometry, bool), Rc<Plan>>> = RefCell::default();
}

/// A convolution as cuDNN knows it.
struct Plan {
    x: TensorDescriptor<f32>,
    y: TensorDescriptor<f32>,
    kernel: FilterDescriptor<f32>,
    conv: ConvDescriptor<f32>,
}

impl Plan {
    /// That of these sizes, in this thread.
    fn of(device: &CudaDevice, geometry: &Geometry) -> Result<Rc<Self>> {
        let key = (device.id(), *geometry, tf32());
        if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).cloned()) {
            return Ok(plan);
        }
        let known = HANDLES.with_borrow(|handles| handles.get(&device.id()).cloned());
        let handle = match known {
            Some(handle) => handle,
            None => Cudnn::new(device.cuda_stream())?,
        };
        HANDLES.with_borrow_mut(|handles| handles.insert(device.id(), Arc::clone(&handle)));
        let plan = Rc::new(Self::new(&handle, geometry)?);
        PLANS.with_borrow_mut(|plans| plans.insert(key, Rc::clone(&plan)));
        Ok(plan)
    }

    fn new(handle: &Arc<Cudnn>, geometry: &Geometry) -> Result<Self> {
        let int = super::launch::int;
        let ints = |[height, width]: [usize; 2]| Ok::<_, Error>([int(height)?, int(width)?]);
        let map = |[height, width]: [usize; 2], channels: usize| {
            let sizes = [int(geometry.batch)?, int(channels)?, int(height)?, int(width)?];
            Ok::<_, Error>(handle.create_4d_tensor::<f32>(Format::CUDNN_TENSOR_NHWC, sizes)?)
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
        // Unless it is told so, cuDNN rounds the factors of single precision to ten bits.
        conv.set_math_type(if tf32() { Math::CUDNN_DEFAULT_MATH } else { Math::CUDNN_FMA_MATH })?;
        Ok(Self {
            x: map(geometry.input, geometry.from)?,
            y: map(geometry.output, geometry.to)?,
            kernel: handle.create_4d_filter(Format::CUDNN_TENSOR_NHWC, sizes)?,
            conv,
        })
    }
}

/// Room that an algorithm works in.
fn workspace(device: &CudaDevice, bytes: usize) -> Result<CudaSlice<u8>> {
    // SAFETY: bytes of any value.
    unsafe { device.alloc::<u8>(bytes.max(1)) }
}

/// `(height, width, from, to)` → `(to, height, width, from)`, as cuDNN reads kernels; and back.
fn turned(gpu: &Gpu, kernel: &Tensor, [rows, columns]: [usize; 2]) -> Result<Tensor> {
    let sizes = [Arg::Int(rows), Arg::Int(columns)];
    let turned = gpu.each("transpose", [kernel], rows * columns, sizes)?;
    Ok(crate::record::tensor(turned, rows * columns))
}

fn rows_columns(geometry: &Geometry) -> [usize; 2] {
    [geometry.kernel_len() / geometry.to, geometry.to]
}

pub(super) fn forward(
    device: &CudaDevice,
    geometry: &Geometry,
    x: &Tensor,
    kernel: &Tensor,
) -> Result<Storage> {
    let gpu = Gpu::Nvidia(device.clone());
    let kernel = turned(&gpu, kernel, rows_columns(geometry))?;
    let plan = Plan::of(device, geometry)?;
    let forward = ConvForward { conv: &plan.conv, x: &plan.x, w: &plan.kernel, y: &plan.y };
    let algorithm = forward.pick_algorithm()?;
    let mut work = workspace(device, forward.get_workspace_size(algorithm)?)?;
    let mut y = gpu.room(geometry.batch * geometry.output_len())?;
    nvidia::with([x, &kernel], &mut y, |[x, kernel], y| {
        // SAFETY: the maps have the sizes that the descriptors tell.
        unsafe { forward.launch(algorithm, Some(&mut work), (1.0, 0.0), x, kernel, y) }.map_err(Error::from)
    })?;
    Ok(y)
}

/// The gradient of `x`. Of cuDNN's algorithms, one adds in any order: it is not taken.
pub(super) fn backward_map(
    device: &CudaDevice,
    geometry: &Geometry,
    kernel: &Tensor,
    gradient: &Tensor,
) -> Result<Storage> {
    let gpu = Gpu::Nvidia(device.clone());
    let kernel = turned(&gpu, kernel, rows_columns(geometry))?;
    let plan = Plan::of(device, geometry)?;
    let back = ConvBackwardData { conv: &plan.conv, dx: &plan.x, w: &plan.kernel, dy: &plan.y };
    let algorithm = match back.pick_algorithm()? {
        DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0 => DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
        other => other,
    };
    let mut work = workspace(device, back.get_workspace_size(algorithm)?)?;
    let mut of_x = gpu.room(geometry.batch * geometry.input_len())?;
    nvidia::with([&kernel, gradient], &mut of_x, |[kernel, gradient], of_x| {
        // SAFETY: the maps have the sizes that the descriptors tell.
        unsafe { back.launch(algorithm, Some(&mut work), (1.0, 0.0), of_x, kernel, gradient) }
            .map_err(Error::from)
    })?;
    Ok(of_x)
}

/// The gradient of the kernel. Of cuDNN's algorithms, two add in any order: they are not taken.
pub(super) fn backward_kernel(
    device: &CudaDevice,
    geometry: &Geometry,
    x: &Tensor,
    gradient: &Tensor,
) -> Result<Storage> {
    use KernelAlgorithm::{
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3,
    };
    let gpu = Gpu::Nvidia(device.clone());
    let plan = Plan::of(device, geometry)?;
    let back = ConvBackwardFilter { conv: &plan.conv, x: &plan.x, dw: &plan.kernel, dy: &plan.y };
    let algorithm = match back.pick_algorithm()? {
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0 | CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3 => {
            CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1
        }
        other => other,
    };
    let mut work = workspace(device, back.get_workspace_size(algorithm)?)?;
    let mut of_kernel = gpu.room(geometry.kernel_len())?;
    nvidia::with([x, gradient], &mut of_kernel, |[x, gradient], of_kernel| {
        // SAFETY: the maps have the sizes that the descriptors tell.
        unsafe { back.launch(algorithm, Some(&mut work), (1.0, 0.0), x, of_kernel, gradient) }
            .map_err(Error::from)
    })?;
    let [rows, columns] = rows_columns(geometry);
    let of_kernel = crate::record::tensor(of_kernel, rows * columns);
    gpu.each("transpose", [&of_kernel], rows * columns, [Arg::Int(columns), Arg::Int(rows)])
}
