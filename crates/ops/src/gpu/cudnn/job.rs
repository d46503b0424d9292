//! How a task is done: by a plan that is chosen once and kept on disk, on addresses of the moment.

use super::super::kept::kept;
use super::super::{graph, nvidia};
use super::descriptor::Address;
use super::plan::{Plan, Planner};
use super::task::{Part, Pass, Task};
use crate::environment::MEASURE;
use crate::kernels::geometry::Geometry;
use crate::replay::alone;
use crate::tf32;
use candle::cuda_backend::DeviceId;
use candle::cuda_backend::cudarc::cudnn::{result, sys::cudnnHandle_t};
use candle::cuda_backend::cudarc::driver::{CudaSlice, DevicePtrMut, sys};
use candle::{CudaDevice, DType, Error, Result, Storage, Tensor};
use sokd_core::file;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;

/// The plans of tasks; none, where no way suits.
type Plans = HashMap<(DeviceId, Task), Option<Rc<Plan>>>;

thread_local! {
    /// cuDNN's handles stay in their thread.
    static HANDLES: RefCell<HashMap<DeviceId, Rc<Handle>>> = RefCell::default();
    static PLANS: RefCell<Plans> = RefCell::default();
    static ROOMS: RefCell<HashMap<DeviceId, Vec<CudaSlice<u8>>>> = RefCell::default();
}

/// cuDNN, as a thread speaks to it.
struct Handle(cudnnHandle_t);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was made, and nobody else has it.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

impl Handle {
    /// That of this thread.
    fn of(device: &CudaDevice) -> Result<Rc<Self>> {
        if let Some(known) = HANDLES.with_borrow(|handles| handles.get(&device.id()).cloned()) {
            return Ok(known);
        }
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().map_err(Error::wrap)?;
        let handle = Rc::new(Self(result::create_handle()?));
        // SAFETY: devices keep their streams for as long as the process lives.
        unsafe { result::set_stream(handle.0, stream.cu_stream().cast())? };
        HANDLES.with_borrow_mut(|handles| handles.insert(device.id(), Rc::clone(&handle)));
        Ok(handle)
    }
}

/// Some work on the device, other than a plan's.
pub(super) type Other<'a> = &'a dyn Fn() -> Result<()>;

/// A task, and where its parts are.
pub(super) struct Job<'a> {
    device: &'a CudaDevice,
    handle: Rc<Handle>,
    task: Task,
    parts: Vec<(Part, Address)>,
}

impl<'a> Job<'a> {
    /// One that reads tensors.
    pub(super) fn new(
        device: &'a CudaDevice,
        (pass, geometry, map): (Pass, &Geometry, DType),
        reads: &[(Part, &Tensor)],
    ) -> Result<Self> {
        let place = |(part, tensor): &(Part, &Tensor)| Ok((*part, Address(nvidia::address(device, tensor)?)));
        let parts = reads.iter().map(place).collect::<Result<Vec<_>>>()?;
        // What is made lies as well as anything.
        let all = parts.iter().fold(Task::ALIGNMENT, |all, (_, address)| all | address.0);
        let (tf32, alignment) = (map == DType::F32 && tf32(), 1 << all.trailing_zeros());
        let task = Task { pass, geometry: *geometry, map, tf32, alignment };
        Ok(Self { device, handle: Handle::of(device)?, task, parts })
    }

    /// With one more part, a number on this machine.
    pub(super) fn with(mut self, part: Part, number: Address) -> Self {
        self.parts.push((part, number));
        self
    }

    /// Whether it was found before that there is no plan for it.
    pub(super) fn has_none(&self) -> bool {
        let key = (self.device.id(), self.task);
        PLANS.with_borrow(|plans| plans.get(&key).is_some_and(Option::is_none))
    }

    /// Fills a room by its plan; or says that there is none, or none that is as fast as what is done `apart`.
    pub(super) fn fills(mut self, part: Part, room: &mut Storage, apart: Option<Other<'_>>) -> Result<bool> {
        self.parts.push((part, Address(nvidia::address_of_room(self.device, room)?)));
        let key = (self.device.id(), self.task);
        let plan = if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).cloned()) {
            plan
        } else {
            let measured = self.is_to_be_measured()?;
            let plan = self.choose(measured, apart)?.map(Rc::new);
            // One that could not be measured yet, is later.
            if measured == is_measuring() {
                PLANS.with_borrow_mut(|plans| plans.insert(key, plan.clone()));
            }
            plan
        };
        plan.map(|plan| self.go(&plan)).transpose().map(|went| went.is_some())
    }

    fn go(&self, plan: &Plan) -> Result<()> {
        working(self.device, plan.bytes, |work| {
            // SAFETY: the tensors have the sizes of the geometry, of which the task's parts are.
            unsafe { plan.execute(self.handle.0, &self.parts, work) }
        })
    }

    /// Whether the ways are to be measured, which they cannot be while a graph is captured.
    fn is_to_be_measured(&self) -> Result<bool> {
        let status = self.device.cuda_stream().capture_status().map_err(Error::wrap)?;
        Ok(is_measuring() && status == sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
    }

    /// The plan that is kept on this machine's disk, else one that is found, and kept if it would be found another time too.
    fn choose(&self, measured: bool, apart: Option<Other<'_>>) -> Result<Option<Plan>> {
        let maker = format!("cuDNN {} for {}, measured: {measured}", result::get_version(), self.gpu()?);
        // A plan does what the program asked for that had it made.
        let asked = [&format!("{:?}", self.task), include_str!("task.rs"), include_str!("plan.rs")].concat();
        let planner = Planner::Handle(self.handle.0);
        let read = |text: &str| match text {
            "" => Some(None),
            text => planner.read(text).and_then(|plan| self.go(&plan).map(|()| plan)).ok().map(Some),
        };
        let make = || {
            let Found { plan, sure } = if measured { self.fastest(apart)? } else { self.first()? };
            // Whether or not it can be written.
            let text = match &plan {
                Some(plan) => plan.written().ok(),
                None => Some(String::new()),
            };
            Ok((plan, text.filter(|_| sure)))
        };
        kept(file::cache().as_deref(), "plan", [&maker, &asked], read, make)
    }

    /// For what plans are made: another driver takes none of them.
    fn gpu(&self) -> Result<String> {
        use sys::CUdevice_attribute as Of;
        let stream = self.device.cuda_stream();
        let context = stream.context();
        let mut driver = 0;
        // SAFETY: it writes a number.
        let _ = unsafe { sys::cuDriverGetVersion(&raw mut driver) };
        let of = |what| context.attribute(what).map_err(Error::wrap);
        let (major, minor) = context.compute_capability().map_err(Error::wrap)?;
        let processors = of(Of::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let shared = of(Of::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let name = context.name().map_err(Error::wrap)?;
        Ok(format!("{name} {major}.{minor}, {processors} x {shared}, driver {driver}"))
    }

    /// The best by cuDNN's own estimate. What it says it can do and then cannot is passed over.
    fn first(&self) -> Result<Found> {
        // Two kernels of which cuDNN says how fast they are go before one of which it does not.
        let (planner, needed) = (Planner::Handle(self.handle.0), self.task.pass.is_needed());
        let ways = match planner.ways(&self.task, needed) {
            Err(error) if needed => return Err(error),
            ways => ways.unwrap_or_default(),
        };
        let (mut said, mut sure) = (Vec::new(), true);
        for way in ways {
            match planner.by(way) {
                Err(error) => said.push(error.to_string()),
                Ok(plan) => match self.go(&plan) {
                    Ok(()) => return Ok(Found { plan: Some(plan), sure }),
                    // Memory may be short but now.
                    Err(error) => {
                        sure = false;
                        said.push(error.to_string());
                    }
                },
            }
        }
        if !needed {
            // A library that is missing today is no reason.
            return Ok(Found { plan: None, sure: false });
        }
        let (name, said) = (self.task.geometry.name(), said.join("; "));
        candle::bail!("cuDNN has no way for a {name} ({said}); SOKD_BACKEND=composed does without it")
    }

    /// The best by the clock; none, where what is done apart is faster.
    fn fastest(&self, apart: Option<Other<'_>>) -> Result<Found> {
        /// Bytes that one may work in.
        const ROOM: usize = 1 << 30;
        let (planner, needed) = (Planner::Handle(self.handle.0), self.task.pass.is_needed());
        // Those that are tried, at most: kernels that do two things are compiled first, for a part of a second each.
        let most = if needed { 16 } else { 4 };
        let ways = planner.ways(&self.task, true).unwrap_or_default();
        let plans = ways.into_iter().take(most).flat_map(|way| planner.by(way));
        let mut least = apart.map_or(Ok(f32::INFINITY), |apart| self.takes(apart))?;
        let (mut fastest, mut tried) = (None, 0);
        for plan in plans.filter(|plan| plan.bytes <= ROOM) {
            let Ok(takes) = self.takes(&|| self.go(&plan)) else { continue };
            tried += 1;
            if takes < least {
                (least, fastest) = (takes, Some(plan));
            }
        }
        match (fastest, needed) {
            (None, true) => self.first(),
            (plan, _) => Ok(Found { plan, sure: tried > 0 }),
        }
    }

    /// Milliseconds that the device is at some work: told at one word, if that can be, for this side may be slower.
    fn takes(&self, work: Other<'_>) -> Result<f32> {
        const TIMES: usize = 10;
        let stream = self.device.cuda_stream();
        let mark = || stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(Error::wrap);
        let often = || (0..TIMES).try_for_each(|_| work());
        work()?;
        let captured = alone(|| graph::capture(self.device, || Ok(often()?)));
        let graph = captured.and_then(sokd_core::Result::ok).filter(|graph| graph.launch().is_ok());
        let begin = mark()?;
        match &graph {
            Some(graph) => graph.launch().map_err(Error::wrap)?,
            None => often()?,
        }
        begin.elapsed_ms(&mark()?).map_err(Error::wrap)
    }
}

/// A plan, if there is one, and whether that would be so another time.
struct Found {
    plan: Option<Plan>,
    sure: bool,
}

fn is_measuring() -> bool {
    static MEASURING: LazyLock<bool> = LazyLock::new(|| MEASURE.get() == "1");
    *MEASURING
}

/// Lends a plan so many bytes to work in: those that the last one had, where they are enough. On one stream, that one is done. A
/// smaller room stays: what was captured works there. All of them together are less than twice the largest.
fn working<R>(device: &CudaDevice, bytes: usize, work: impl FnOnce(Address) -> Result<R>) -> Result<R> {
    ROOMS.with_borrow_mut(|rooms| {
        let rooms = rooms.entry(device.id()).or_default();
        if rooms.last().is_none_or(|room| room.len() < bytes) {
            // SAFETY: bytes of any value.
            rooms.push(unsafe { device.alloc::<u8>(bytes.max(1).next_power_of_two())? });
        }
        let last = rooms.len() - 1;
        work(Address(rooms[last].device_ptr_mut(&device.cuda_stream()).0))
    })
}
