//! Work that a GPU does again at one word: on small networks it waits for whoever tells it operation by operation.

use crate::backend::{Backend, backend};
use crate::environment;
use crate::gpu::Gpu;
use candle::Device;
use sokd_core::{Error, Result, scope};
use std::cell::Cell;
use std::sync::{LazyLock, PoisonError, RwLock};

/// What a device was told, in memory that stays where it is: whoever puts other numbers there has it do the same with those.
pub struct Replay(How);

enum How {
    #[cfg(feature = "cuda")]
    Graph(crate::gpu::Graph),
    /// This machine does as if, and is told again.
    #[cfg(feature = "mirror")]
    Again,
}

/// Held by who captures; by who sends work to a device from another thread, with others of that kind.
static TURN: RwLock<()> = RwLock::new(());

static WANTED: LazyLock<bool> = LazyLock::new(|| environment::CUDA_GRAPHS.get() == "1");

thread_local! {
    static WHOLE: Cell<bool> = const { Cell::new(false) };
}

/// Whether a device can be told work at one word: an NVIDIA GPU, by our kernels, unless the environment says
/// `SOKD_CUDA_GRAPHS=0` or whoever runs this wants it [whole](operation_by_operation).
pub fn replays(device: &Device) -> bool {
    let nvidia = cfg!(feature = "cuda") && device.is_cuda() && backend() == Backend::Fast;
    (nvidia || Gpu::mirrors()) && *WANTED && !WHOLE.get()
}

/// Runs `work` so that no device is told anything of it at one word, in this thread.
pub fn operation_by_operation<R>(work: impl FnOnce() -> R) -> R {
    scope(&WHOLE, true, work)
}

/// Does `work` as ever, and lays up on the device the small numbers that it sends there: a [`capture`] of the same work finds them,
/// and cannot send any.
pub fn rehearse<R>(device: &Device, work: impl FnOnce() -> R) -> R {
    #[cfg(feature = "cuda")]
    let _laid_up = device.as_cuda_device().ok().map(candle::CudaDevice::enable_cuda_graph_htod_cache);
    let _ = device;
    work()
}

/// Writes down what `work` asks of a device; nothing of it is done.
///
/// Whatever `work` reads and leaves must lie in memory that was there before; what it makes on the way is gone with it. What it
/// does on this side, it does once, and a [replay](Replay::run) does not.
///
/// # Errors
/// Where `work` fails, waits for a number, sends new ones, or keeps something that it made (it is then done once after all); for a
/// device that is not one of those that [replay](replays).
pub fn capture(device: &Device, work: impl FnOnce() -> Result<()>) -> Result<Replay> {
    let _turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
    #[cfg(feature = "mirror")]
    if Gpu::mirrors() {
        return Ok(Replay(How::Again));
    }
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return rehearse(&Device::Cuda(device.clone()), || {
            crate::gpu::capture(device, work).map(|graph| Replay(How::Graph(graph)))
        });
    }
    let _ = work;
    Err(Error::setting("device", format!("{device:?} cannot be told work at one word")))
}

impl Replay {
    /// Has the device do it again; `again` is the same work, for a device that must be told all of it.
    ///
    /// # Errors
    /// What the driver says of work before this, too.
    #[cfg_attr(
        not(feature = "mirror"),
        expect(unused_variables, reason = "no device must be told all of it")
    )]
    pub fn run(&self, again: impl FnOnce() -> Result<()>) -> Result<()> {
        match self.0 {
            #[cfg(feature = "cuda")]
            How::Graph(ref graph) => graph.launch(),
            #[cfg(feature = "mirror")]
            How::Again => again(),
        }
    }
}

/// Does work while nobody captures, and nobody sends work beside that; `None` where someone does for a second: this thread, maybe.
#[cfg(feature = "cuda")]
pub(crate) fn alone<R>(work: impl FnOnce() -> R) -> Option<R> {
    for _ in 0..100 {
        if let Ok(_turn) = TURN.try_write() {
            return Some(work());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    None
}

/// Does work of a thread that makes something ready on a device, while no other [captures](capture): all threads tell a GPU in one
/// row, and what this one says would be written down too.
pub fn beside_captures<R>(work: impl FnOnce() -> R) -> R {
    let _turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
    work()
}

#[cfg(all(test, feature = "mirror"))]
mod tests {
    use super::*;
    use crate::with_backend;
    use std::cell::Cell;

    #[test]
    fn what_is_written_down_is_done_by_whoever_is_told() {
        let (done, device) = (Cell::new(0), Device::Cpu);
        let work = || {
            done.set(done.get() + 1);
            Ok(())
        };
        let error = capture(&device, work).err().expect("a CPU is told operation by operation");
        assert!(!replays(&device) && error.to_string().contains("Cpu cannot be told work at one word"));
        with_backend(Backend::Mirror, || {
            assert!(replays(&device) && !operation_by_operation(|| replays(&device)));
            let replay = capture(&device, work)?;
            assert_eq!(done.get(), 0, "it is only written down");
            replay.run(work)?;
            replay.run(work)
        })
        .unwrap();
        assert_eq!(done.get(), 2);
        rehearse(&device, work).unwrap();
        assert_eq!(done.get(), 3);
    }

    #[test]
    fn nobody_sends_work_while_another_captures() {
        let turn = TURN.write().unwrap();
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| beside_captures(|| 7));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!sent.is_finished());
            drop(turn);
            assert_eq!(sent.join().unwrap(), 7);
        });
    }
}
