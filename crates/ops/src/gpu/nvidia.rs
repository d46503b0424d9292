//! Launching on NVIDIA's GPUs.

use super::kept::kept;
use super::launch::{Arg, LANES, Word, int};
use super::work::{Addresses, Firsts, Floats, MANY};
use super::{KERNELS, graph};
use crate::replay::alone;
use candle::backend::BackendStorage;
use candle::cuda_backend::DeviceId;
use candle::cuda_backend::cudarc::cublas::sys::cublasSetWorkspace_v2;
use candle::cuda_backend::cudarc::driver::{
    CudaContext, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg, result, sys,
};
use candle::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts, sys::nvrtcVersion};
use candle::{CudaDevice, CudaStorage, DType, Device, Error, Result, Storage, Tensor};
use half::bf16;
use sokd_core::file;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Of GPUs, as NVIDIA counts them.
type Generation = (i32, i32);

// SAFETY: `repr(C)`, of numbers alone.
unsafe impl DeviceRepr for super::Window {}
// SAFETY: likewise.
unsafe impl DeviceRepr for Addresses {}
// SAFETY: likewise.
unsafe impl DeviceRepr for Firsts {}
// SAFETY: likewise.
unsafe impl DeviceRepr for Floats {}

/// One stream for all threads. candle's own choice, a stream for each thread, would let a step begin before the images have
/// come that another thread has sent.
pub(super) fn open(index: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(index)?;
    let cuda = device.as_cuda_device()?;
    // SAFETY: what one stream does, it does in order; there is nothing for events to tell.
    unsafe { cuda.disable_event_tracking() };
    let mut all = u64::MAX;
    // SAFETY: the driver says which pool is this GPU's, and the threshold is a number of 64 bits. A GPU without pools has none.
    let _ = unsafe {
        result::device::get_mem_pool(cuda.cuda_stream().context().cu_device()).and_then(|pool| {
            let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, threshold, (&raw mut all).cast())
        })
    };
    give_workspace(cuda)?;
    Ok(device)
}

/// Where cuBLAS works, as NVIDIA's own choice for these GPUs: else it asks for memory in every product, in a graph too. It stays for as
/// long as the process, as candle's devices do.
fn give_workspace(device: &CudaDevice) -> Result<()> {
    const BYTES: usize = 32 << 20;
    // SAFETY: bytes of any value.
    let room = unsafe { device.alloc::<u8>(BYTES)? }.leak();
    // SAFETY: the room has so many bytes, and is there for as long as the handle.
    let given = unsafe { cublasSetWorkspace_v2(*device.cublas_handle().handle(), room as *mut _, BYTES) };
    given.result().map_err(Error::wrap)
}

/// The same GPU by another stream, which waits for nobody and for which nobody waits; itself, where a driver does not let that go on
/// beside a capture.
pub(crate) fn aside(device: &CudaDevice) -> Result<CudaDevice> {
    static ASIDE: LazyLock<Mutex<HashMap<DeviceId, CudaDevice>>> = LazyLock::new(Mutex::default);
    let mut known = ASIDE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(aside) = known.get(&device.id()) {
        return Ok(aside.clone());
    }
    let aside = CudaDevice::new_with_stream(device.cuda_stream().context().ordinal())?;
    // SAFETY: nothing on it is read by others.
    unsafe { aside.disable_event_tracking() };
    let beside_a_capture = || -> sokd_core::Result<()> {
        let _captured = device.alloc_zeros::<f32>(1)?;
        drop(aside.alloc_zeros::<f32>(1)?);
        Ok(aside.cuda_stream().context().check_err().map_err(Error::wrap)?)
    };
    let goes_on = alone(|| graph::capture(device, beside_a_capture).is_ok()).unwrap_or(true);
    let aside = if goes_on { aside } else { device.clone() };
    known.insert(device.id(), aside.clone());
    Ok(aside)
}

pub(super) fn count() -> usize {
    CudaContext::device_count().ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

pub(super) fn room(device: &CudaDevice, map: DType, count: usize) -> Result<Storage> {
    // SAFETY: whoever asks for room has a kernel write all of it.
    let storage = unsafe {
        match map {
            DType::BF16 => CudaStorage::wrap_cuda_slice(device.alloc::<bf16>(count)?, device.clone()),
            _ => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(count)?, device.clone()),
        }
    };
    Ok(Storage::Cuda(storage))
}

pub(super) fn launch(device: &CudaDevice, kernel: &str, blocks: usize, mut args: Vec<Arg<'_>>) -> Result<()> {
    let words = args.iter_mut().map(|arg| word(device, arg)).collect::<Result<Vec<_>>>()?;
    let function = device.get_or_load_custom_func(kernel, "sokd", compiled(device)?)?;
    let mut builder = function.builder();
    for word in &words {
        match word {
            Word::Address(address) => builder.arg(address),
            Word::Addresses(all) => builder.arg(&**all),
            Word::Int(int) => builder.arg(int),
            Word::Float(float) => builder.arg(float),
            Word::Window(window) => builder.arg(window),
            Word::Firsts(firsts) => builder.arg(&**firsts),
            Word::Floats(floats) => builder.arg(&**floats),
        };
    }
    let grid = LaunchConfig {
        grid_dim: (int(blocks)? as u32, 1, 1),
        block_dim: (LANES as u32, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the mirror runs the same launches in the tests, and compares the kinds of the words with the kernel's
    // parameters, and what is written with what there is room for. Memory lives until its turn on this stream, where it is
    // freed too.
    unsafe { builder.launch(grid) }.map_err(Error::wrap)?;
    Ok(())
}

/// The kernels in the assembler of a GPU's generation, of which its driver makes what it runs. Both keep what they made on disk.
fn compiled(device: &CudaDevice) -> Result<&'static str> {
    thread_local! {
        static OF_DEVICE: RefCell<HashMap<DeviceId, &'static str>> = RefCell::default();
    }
    if let Some(text) = OF_DEVICE.with_borrow(|known| known.get(&device.id()).copied()) {
        return Ok(text);
    }
    let generation = device.cuda_stream().context().compute_capability().map_err(Error::wrap)?;
    let text = compiled_for(generation)?;
    OF_DEVICE.with_borrow_mut(|known| known.insert(device.id(), text));
    Ok(text)
}

fn compiled_for(generation: Generation) -> Result<&'static str> {
    static PTX: LazyLock<Mutex<HashMap<Generation, &'static str>>> = LazyLock::new(Mutex::default);
    let mut known = PTX.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = known.get(&generation) {
        return Ok(text);
    }
    let source = [include_str!("kernels/nvidia.h"), KERNELS.as_str()].concat();
    let (mut major, mut minor) = (0, 0);
    // SAFETY: it writes two numbers.
    let _ = unsafe { nvrtcVersion(&raw mut major, &raw mut minor) };
    let asked = format!("--gpu-architecture=compute_{}{}", generation.0, generation.1);
    // A driver may be too old for what a newer compiler makes.
    let maker = format!("NVRTC {major}.{minor} {asked}");
    let make = || {
        let how =
            |options| compile_ptx_with_opts(&source, CompileOptions { options, ..CompileOptions::default() });
        // A compiler older than the GPU does not know its generation, but another that it runs too.
        let made = how(vec![asked]).or_else(|_| how(Vec::new()));
        let made = made.map_err(|error| Error::Msg(format!("the kernels for CUDA: {error:?}")))?.to_src();
        Ok((made.clone(), Some(made)))
    };
    let read = |text: &str| Some(text.to_owned());
    let text: &'static str = kept(file::cache().as_deref(), "ptx", [&maker, &source], read, make)?.leak();
    known.insert(generation, text);
    Ok(text)
}

fn word(device: &CudaDevice, arg: &mut Arg<'_>) -> Result<Word> {
    Ok(match arg {
        Arg::Read(None) | Arg::Change(None) => Word::Address(0),
        Arg::Read(Some(tensor)) | Arg::Change(Some(tensor)) => Word::Address(address(device, tensor)?),
        Arg::Write(room) => Word::Address(address_of_room(device, room)?),
        Arg::ChangeAll(tensors) => {
            let mut all = [0; MANY];
            for (one, tensor) in all.iter_mut().zip(tensors) {
                *one = address(device, tensor)?;
            }
            Word::Addresses(Box::new(Addresses(all)))
        }
        Arg::Int(number) => Word::Int(int(*number)?),
        Arg::Float(number) => Word::Float(*number as f32),
        Arg::Window(window) => Word::Window(*window),
        Arg::Firsts(firsts) => Word::Firsts(firsts.clone()),
        Arg::Floats(floats) => Word::Floats(floats.clone()),
    })
}

/// Where a tensor's numbers are.
pub(super) fn address(device: &CudaDevice, tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, _))) = (&*storage, layout.contiguous_offsets()) else {
        candle::bail!("a kernel of a GPU got a tensor that is elsewhere or not contiguous");
    };
    let stream = device.cuda_stream();
    let (address, width) = match storage.dtype() {
        DType::F32 => (storage.as_cuda_slice::<f32>()?.device_ptr(&stream).0, size_of::<f32>()),
        DType::F64 => (storage.as_cuda_slice::<f64>()?.device_ptr(&stream).0, size_of::<f64>()),
        DType::BF16 => (storage.as_cuda_slice::<bf16>()?.device_ptr(&stream).0, size_of::<bf16>()),
        DType::U8 => (storage.as_cuda_slice::<u8>()?.device_ptr(&stream).0, size_of::<u8>()),
        DType::U32 => (storage.as_cuda_slice::<u32>()?.device_ptr(&stream).0, size_of::<u32>()),
        other => candle::bail!("a kernel of a GPU got numbers of type {other:?}"),
    };
    Ok(address + (start * width) as u64)
}

/// Where a room's numbers are to go.
pub(super) fn address_of_room(device: &CudaDevice, room: &mut Storage) -> Result<u64> {
    let Storage::Cuda(room) = room else { candle::bail!("a kernel's room is elsewhere") };
    let stream = device.cuda_stream();
    Ok(match room.dtype() {
        DType::BF16 => room.as_cuda_slice_mut::<bf16>()?.device_ptr_mut(&stream).0,
        _ => room.as_cuda_slice_mut::<f32>()?.device_ptr_mut(&stream).0,
    })
}
