//! NCCL, by which the GPUs of several processes speak to each other: found at run time, where it is.

use super::launch::{Arg, Gpu};
use super::nvidia::address;
use crate::environment;
use crate::record::tensor;
use candle::cuda_backend::cudarc::driver::sys::CUstream;
use candle::{CudaDevice, DType, Device, Error, Storage, Tensor};
use libloading::Library;
use sokd_core::Result;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// By which name its processes find each other.
#[repr(C)]
#[derive(Clone, Copy)]
struct Id([u8; 128]);

#[derive(Clone, Copy)]
struct Comm(*mut c_void);

// SAFETY: NCCL lets any thread use it, one at a time.
unsafe impl Send for Comm {}

/// `ncclFloat32`.
const FLOAT: c_int = 7;

/// What of it is called here (nccl.h, the same in all of NCCL 2).
struct Functions {
    unique_id: unsafe extern "C" fn(*mut Id) -> c_int,
    init_rank: unsafe extern "C" fn(*mut *mut c_void, c_int, Id, c_int) -> c_int,
    abort: unsafe extern "C" fn(*mut c_void) -> c_int,
    async_error: unsafe extern "C" fn(*mut c_void, *mut c_int) -> c_int,
    group_start: unsafe extern "C" fn() -> c_int,
    group_end: unsafe extern "C" fn() -> c_int,
    send: unsafe extern "C" fn(*const c_void, usize, c_int, c_int, *mut c_void, CUstream) -> c_int,
    receive: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, *mut c_void, CUstream) -> c_int,
    all_gather:
        unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, *mut c_void, CUstream) -> c_int,
    error: unsafe extern "C" fn(c_int) -> *const c_char,
}

/// The library, which stays loaded.
fn functions() -> Option<&'static Functions> {
    static FOUND: OnceLock<Option<Functions>> = OnceLock::new();
    let find = || {
        // SAFETY: it does nothing when it is loaded, and its functions have these types.
        unsafe {
            let library = Library::new("libnccl.so.2").ok()?;
            let found = Functions {
                unique_id: *library.get(b"ncclGetUniqueId").ok()?,
                init_rank: *library.get(b"ncclCommInitRank").ok()?,
                abort: *library.get(b"ncclCommAbort").ok()?,
                async_error: *library.get(b"ncclCommGetAsyncError").ok()?,
                group_start: *library.get(b"ncclGroupStart").ok()?,
                group_end: *library.get(b"ncclGroupEnd").ok()?,
                send: *library.get(b"ncclSend").ok()?,
                receive: *library.get(b"ncclRecv").ok()?,
                all_gather: *library.get(b"ncclAllGather").ok()?,
                error: *library.get(b"ncclGetErrorString").ok()?,
            };
            std::mem::forget(library);
            Some(found)
        }
    };
    FOUND.get_or_init(find).as_ref()
}

impl Functions {
    fn check(&self, status: c_int) -> candle::Result<()> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: it tells of any status, by a text that stays.
        let said = unsafe { CStr::from_ptr((self.error)(status)) };
        Err(Error::Msg(format!("NCCL: {}", said.to_string_lossy())))
    }
}

/// A GPU among those of other processes.
pub struct Nccl {
    functions: &'static Functions,
    device: CudaDevice,
    ranks: usize,
    /// None once it was given up.
    comm: Mutex<Option<Comm>>,
}

impl Debug for Nccl {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "NCCL among {} GPUs", self.ranks)
    }
}

impl Nccl {
    /// Whether its library is here, and may be asked (`SOKD_NCCL=0` has it not be).
    pub fn is_here() -> bool {
        environment::NCCL.get() == "1" && functions().is_some()
    }

    /// A name by which the processes find each other: one of them makes it, for all.
    ///
    /// # Errors
    /// What the library says, and where it is not.
    pub fn id() -> Result<Vec<u8>> {
        let functions = functions().ok_or_else(absent)?;
        let mut id = Id([0; 128]);
        // SAFETY: it writes the name.
        functions.check(unsafe { (functions.unique_id)(&raw mut id) })?;
        Ok(id.0.to_vec())
    }

    /// Meets the others, each of which calls this too. `gone` is asked while it waits for them.
    ///
    /// # Errors
    /// What the library or `gone` says, a name that is none, a device that is no GPU of NVIDIA's.
    pub fn join(
        device: &Device,
        (rank, ranks): (usize, usize),
        id: &[u8],
        gone: impl Fn() -> Result<()>,
    ) -> Result<Self> {
        let functions = functions().ok_or_else(absent)?;
        let device = device.as_cuda_device()?.clone();
        let id = Id(id.try_into().map_err(|_| Error::Msg("a name of NCCL's has 128 bytes".into()))?);
        let context = Arc::clone(device.cuda_stream().context());
        let (tell, told) = mpsc::channel();
        // Whoever waits there for someone who is gone waits for ever.
        thread::spawn(move || {
            let mut comm = std::ptr::null_mut();
            let joined = context.bind_to_thread().map_err(Error::wrap).and_then(|()| {
                // SAFETY: it writes where the communicator is.
                functions
                    .check(unsafe { (functions.init_rank)(&raw mut comm, ranks as c_int, id, rank as c_int) })
            });
            tell.send(joined.map(|()| Comm(comm))).ok();
        });
        let comm = loop {
            match told.recv_timeout(PAUSE) {
                Ok(joined) => break joined?,
                Err(mpsc::RecvTimeoutError::Timeout) => gone()?,
                Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::Msg("NCCL: nobody joined".into()))?,
            }
        };
        Ok(Self { functions, device, ranks, comm: Mutex::new(Some(comm)) })
    }

    /// The mean of all processes' vectors, each counting for its weight: summed in double precision, in the order of ranks. Each
    /// GPU sums one part for all.
    ///
    /// # Shapes
    /// `own`: `(count,)`, as many everywhere → `(count,)`.
    ///
    /// # Errors
    /// What the library says, and what `gone` says, which is asked while it waits for the others: all is given up then.
    pub fn mean(&self, own: &Tensor, weights: &[f64], gone: impl Fn() -> Result<()>) -> Result<Tensor> {
        let mut comm = self.comm.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Comm(at)) = *comm else { return Err(Error::Msg("NCCL: it was given up".into()).into()) };
        let waited = self.told(at, own, weights).map_err(Into::into).and_then(|mean| {
            self.wait(at, gone)?;
            Ok(mean)
        });
        if waited.is_err() {
            *comm = None;
            // SAFETY: nobody uses it from now on.
            unsafe { (self.functions.abort)(at) };
        }
        waited
    }

    /// Tells the GPU what to do.
    fn told(&self, comm: *mut c_void, own: &Tensor, weights: &[f64]) -> candle::Result<Tensor> {
        let gpu = Gpu::Nvidia(self.device.clone());
        let (count, ranks) = (own.dims1()?, self.ranks);
        let part = count.div_ceil(ranks).max(1);
        let own = own.to_dtype(DType::F32)?.pad_with_zeros(0, 0, part * ranks - count)?.contiguous()?;
        let weights: Vec<f32> = weights.iter().map(|weight| *weight as f32).collect();
        let weights = Tensor::new(weights, own.device())?;
        let room = |count: usize| Ok::<_, Error>(tensor(gpu.room(count)?, count));
        let (parts, all) = (room(part * ranks)?, room(part * ranks)?);
        let at = |tensor: &Tensor, number: usize| -> candle::Result<*mut c_void> {
            Ok((address(&self.device, tensor)? + (number * size_of::<f32>()) as u64) as *mut c_void)
        };
        let (check, stream) = (|status| self.functions.check(status), self.device.cuda_stream().cu_stream());
        // SAFETY: there is room for as many numbers as are sent and received, until the stream has come so far; the communicator
        // is there.
        unsafe {
            check((self.functions.group_start)())?;
            let swapped = (0..ranks).try_for_each(|rank| {
                let (from, to) = (at(&own, rank * part)?, at(&parts, rank * part)?);
                check((self.functions.send)(from, part, FLOAT, rank as c_int, comm, stream))?;
                check((self.functions.receive)(to, part, FLOAT, rank as c_int, comm, stream))
            });
            // A group that is left open would keep whatever comes next, also the giving up.
            let ended = check((self.functions.group_end)());
            swapped.and(ended)?;
        }
        let mean: Storage = gpu.each("mean_of_ranks", [&parts, &weights], part, [Arg::Int(ranks)])?;
        let mean = tensor(mean, part);
        // SAFETY: likewise.
        check(unsafe {
            (self.functions.all_gather)(at(&mean, 0)?, at(&all, 0)?, part, FLOAT, comm, stream)
        })?;
        all.narrow(0, 0, count)
    }

    /// Until the GPU has done it.
    fn wait(&self, comm: *mut c_void, gone: impl Fn() -> Result<()>) -> Result<()> {
        let done = self.device.cuda_stream().record_event(None).map_err(Error::wrap)?;
        let mut looks = 0;
        while !done.try_is_complete().map_err(Error::wrap)? {
            looks += 1;
            if looks % LOOKS != 0 {
                thread::yield_now();
                continue;
            }
            let mut error = 0;
            // SAFETY: it writes a number.
            self.functions.check(unsafe { (self.functions.async_error)(comm, &raw mut error) })?;
            self.functions.check(error)?;
            gone()?;
        }
        Ok(())
    }
}

/// Looks at the GPU, for each at whether everyone is still there: some milliseconds.
const LOOKS: usize = 4096;
/// The same while they meet.
const PAUSE: Duration = Duration::from_millis(50);

fn absent() -> Error {
    Error::Msg("NCCL: libnccl.so.2 is not where the loader looks for libraries".into())
}

impl Drop for Nccl {
    fn drop(&mut self) {
        let comm = self.comm.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Comm(comm)) = comm.take() {
            // SAFETY: nobody uses it from now on. What it was told is done by then, here and by the others, whose word over their
            // hosts comes after every collective: nothing is broken off.
            unsafe { (self.functions.abort)(comm) };
        }
    }
}
