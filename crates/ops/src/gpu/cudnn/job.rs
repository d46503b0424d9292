//! How a task is done: by a plan that is chosen once and kept on disk, on addresses of the moment.

use super::super::kept::kept;
use super::super::nvidia;
use super::descriptor::Address;
use super::plan::{Plan, Planner};
use super::task::{Part, Pass, Task};
use crate::environment::MEASURE;
use crate::kernels::geometry::Geometry;
use crate::tf32;
use candle::cuda_backend::DeviceId;
use candle::cuda_backend::cudarc::cudnn::{result, sys::cudnnHandle_t};
use candle::cuda_backend::cudarc::driver::{CudaSlice, DevicePtrMut, sys};
use candle::{CudaDevice, DType, Error, Result, Storage, Tensor};
use sokd_core::file;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

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
    /// One that reads tensors and fills a room.
    pub(super) fn new(
        device: &'a CudaDevice,
        (pass, geometry, map): (Pass, &Geometry, DType),
        reads: &[(Part, &Tensor)],
        (made, room): (Part, &mut Storage),
    ) -> Result<Self> {
        let place = |(part, tensor): &(Part, &Tensor)| Ok((*part, Address(nvidia::address(device, tensor)?)));
        let mut parts = reads.iter().map(place).collect::<Result<Vec<_>>>()?;
        parts.push((made, Address(nvidia::address_of_room(device, room)?)));
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

    /// Does it by its plan; or says that there is none, or none that is as fast as what is done `apart`.
    pub(super) fn done(&self, apart: Option<Other<'_>>) -> Result<bool> {
        let key = (self.device.id(), self.task);
        let plan = if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).cloned()) {
            plan
        } else {
            let plan = self.choose(apart)?.map(Rc::new);
            PLANS.with_borrow_mut(|plans| plans.insert(key, plan.clone()));
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

    /// The plan that is kept on this machine's disk, else one that is found and kept.
    fn choose(&self, apart: Option<Other<'_>>) -> Result<Option<Plan>> {
        let stream = self.device.cuda_stream();
        let captured = stream.capture_status().map_err(Error::wrap)?
            != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        let measured = !captured && MEASURE.get() == "1";
        let name = stream.context().name().map_err(Error::wrap)?;
        let maker = format!("cuDNN {} on {name}, measured: {measured}", result::get_version());
        // A plan does what the program asked for that had it made.
        let asked = [&format!("{:?}", self.task), include_str!("task.rs"), include_str!("plan.rs")].concat();
        let mut found = None;
        let kept = kept(file::cache().as_deref(), "plan", [&maker, &asked], || {
            let plan = if measured { self.fastest(apart)? } else { self.first()? };
            let text = plan.as_ref().map_or_else(|| Ok(String::new()), Plan::written);
            found = Some(plan);
            text
        });
        match (found, kept) {
            // Whether or not it could be written.
            (Some(found), _) => Ok(found),
            (None, Ok(text)) if text.is_empty() => Ok(None),
            (None, Ok(text)) => {
                self.plan_of(|planner| planner.read(&text)).map(Some).or_else(|_| self.first())
            }
            (None, Err(error)) => Err(error),
        }
    }

    /// A plan that has gone once: what cuDNN says it can do and then cannot is none.
    fn plan_of(&self, plan: impl FnOnce(&Planner) -> Result<Plan>) -> Result<Plan> {
        let plan = plan(&Planner::Handle(self.handle.0))?;
        self.go(&plan)?;
        Ok(plan)
    }

    /// The best by cuDNN's own estimate.
    fn first(&self) -> Result<Option<Plan>> {
        // Two kernels of which cuDNN says how fast they are go before one of which it does not.
        let needed = self.task.pass.is_needed();
        let mut said = Vec::new();
        for way in Planner::Handle(self.handle.0).ways(&self.task, needed)? {
            match self.plan_of(|planner| planner.by(way)) {
                Ok(plan) => return Ok(Some(plan)),
                Err(error) => said.push(error.to_string()),
            }
        }
        if !needed {
            return Ok(None);
        }
        let (name, said) = (self.task.geometry.name(), said.join("; "));
        candle::bail!("cuDNN has no way for a {name} ({said}); SOKD_BACKEND=composed does without it")
    }

    /// The best by the clock; none, where what is done apart is faster.
    fn fastest(&self, apart: Option<Other<'_>>) -> Result<Option<Plan>> {
        // Those that are tried, at most: kernels that do two things are compiled first, for a part of a second each.
        let most = if self.task.pass.is_needed() { 16 } else { 4 };
        let ways = Planner::Handle(self.handle.0).ways(&self.task, true)?;
        let plans = ways.into_iter().take(most).flat_map(|way| self.plan_of(|planner| planner.by(way)));
        let mut least = apart.map_or(Ok(f32::INFINITY), |apart| self.takes(apart))?;
        let mut fastest = None;
        for plan in plans {
            let takes = self.takes(&|| self.go(&plan))?;
            if takes < least {
                (least, fastest) = (takes, Some(plan));
            }
        }
        if fastest.is_some() || apart.is_some() { Ok(fastest) } else { self.first() }
    }

    /// Milliseconds that the device is at some work, after it has done it once.
    fn takes(&self, work: Other<'_>) -> Result<f32> {
        const TIMES: usize = 5;
        let stream = self.device.cuda_stream();
        let mark = || stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(Error::wrap);
        work()?;
        let begin = mark()?;
        for _ in 0..TIMES {
            work()?;
        }
        begin.elapsed_ms(&mark()?).map_err(Error::wrap)
    }
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
