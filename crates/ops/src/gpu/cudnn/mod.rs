//! Convolutions by cuDNN's graph interface, channels last, over maps in single precision or in bfloat16, adding in single precision.

mod descriptor;
mod job;
mod plan;
mod task;
#[cfg(test)]
mod tests;

use super::launch::Gpu;
use super::{nvidia, turn};
use crate::Norm;
use crate::kernels::geometry::Geometry;
use crate::record::tensor;
use candle::{CudaDevice, DType, Result, Storage, Tensor};
use descriptor::here;
use job::Job;
use task::{Part, Pass};

/// `(height, width, from, to)` → `(to, height, width, from)`, as cuDNN reads kernels, in the type of the maps.
pub(super) fn turned(gpu: &Gpu, geometry: &Geometry, kernel: &Tensor, map: DType) -> Result<Tensor> {
    turn::turned(gpu, kernel, map, rows_columns(geometry))
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
    let count = geometry.batch * geometry.output_len();
    let mut y = nvidia::room(device, x.dtype(), count)?;
    let reads = [(Part::X, x), (Part::Kernel, kernel)];
    let what = (Pass::Forward, geometry, x.dtype());
    Job::new(device, what, &reads)?.fills(Part::Y, &mut y, None)?;
    Ok(y)
}

/// Forward and through a norm at rest at once; nothing, where cuDNN has no way for that, or none as fast as to do it `apart`.
pub(super) fn at_rest(
    device: &CudaDevice,
    geometry: &Geometry,
    [x, kernel]: [&Tensor; 2],
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    apart: impl Fn() -> Result<Storage>,
) -> Result<Option<Storage>> {
    let [mean, var, weight, bias] = [norm.mean, norm.var, norm.weight, norm.bias].map(Tensor::contiguous);
    let (mean, var, weight, bias) = (mean?, var?, weight?, bias?);
    let eps = norm.eps as f32;
    let mut reads = vec![
        (Part::X, x),
        (Part::Kernel, kernel),
        (Part::Mean, &mean),
        (Part::Var, &var),
        (Part::Weight, &weight),
        (Part::Bias, &bias),
    ];
    reads.extend(residual.map(|residual| (Part::Residual, residual)));
    let pass = Pass::AtRest { residual: residual.is_some(), relu };
    let job = Job::new(device, (pass, geometry, x.dtype()), &reads)?;
    if job.has_none() {
        return Ok(None);
    }
    let mut y = nvidia::room(device, x.dtype(), geometry.batch * geometry.output_len())?;
    let job = job.with(Part::Eps, here(&eps));
    let filled = Gpu::Nvidia(device.clone()).timed(
        || (format!("{} and its norm", geometry.name()), geometry.macs()),
        || job.fills(Part::Y, &mut y, Some(&|| apart().map(drop))),
    )?;
    Ok(filled.then_some(y))
}

/// The gradient of `x`.
pub(super) fn backward_map(
    device: &CudaDevice,
    geometry: &Geometry,
    kernel: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    let count = geometry.batch * geometry.input_len();
    let mut of_x = nvidia::room(device, gradient.dtype(), count)?;
    let reads = [(Part::Kernel, kernel), (Part::Y, gradient)];
    let what = (Pass::ToMap { onto: false }, geometry, gradient.dtype());
    Job::new(device, what, &reads)?.fills(Part::X, &mut of_x, None)?;
    Ok(tensor(of_x, count))
}

/// What others had of the gradient of `x`, and this added; nothing, where cuDNN has no way for that, or none as fast as to do it `apart`.
pub(super) fn backward_map_onto(
    device: &CudaDevice,
    geometry: &Geometry,
    [kernel, gradient, onto]: [&Tensor; 3],
    apart: impl Fn() -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let reads = [(Part::Kernel, kernel), (Part::Y, gradient), (Part::Onto, onto)];
    let job = Job::new(device, (Pass::ToMap { onto: true }, geometry, gradient.dtype()), &reads)?;
    if job.has_none() {
        return Ok(None);
    }
    let count = geometry.batch * geometry.input_len();
    let mut sum = nvidia::room(device, gradient.dtype(), count)?;
    let filled = Gpu::Nvidia(device.clone()).timed(
        || (format!("map's gradient of {}, and others'", geometry.name()), geometry.macs()),
        || job.fills(Part::X, &mut sum, Some(&|| apart().map(drop))),
    )?;
    Ok(filled.then(|| tensor(sum, count)))
}

/// The gradient of the kernel, in single precision: of maps in bfloat16, cuDNN adds it up so, and rounds it.
pub(super) fn backward_kernel(
    device: &CudaDevice,
    geometry: &Geometry,
    x: &Tensor,
    gradient: &Tensor,
) -> Result<Tensor> {
    let count = geometry.kernel_len();
    let mut of_kernel = nvidia::room(device, x.dtype(), count)?;
    let reads = [(Part::X, x), (Part::Y, gradient)];
    let what = (Pass::ToKernel, geometry, x.dtype());
    Job::new(device, what, &reads)?.fills(Part::Kernel, &mut of_kernel, None)?;
    let gpu = Gpu::Nvidia(device.clone());
    turn::turned_back(&gpu, tensor(of_kernel, count), rows_columns(geometry))
}
