//! How the gradients of processes that train together go: from GPU to GPU where NCCL is there, else over their hosts.

use crate::Result;
use crate::progress::Stage;
use candle::Device;
use sokd_world::{Fabric, World};

/// What a process has, as a word to the others.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "without it, nobody has any"))]
enum Has {
    NoGpu = 0,
    Gpu = 1,
    Nccl = 2,
}

/// The world, over NCCL where every process has it: all call this, and rank 0 says what came of it, if all have GPUs.
///
/// # Errors
/// When one of them is gone.
pub fn over_gpus(world: World, device: &Device, stage: &Stage) -> Result<World> {
    if world.is_alone() {
        return Ok(world);
    }
    let all = world.gather(&[found(device) as u8])?;
    let first = |has: Has| all.iter().position(|said| *said == [has as u8]);
    if first(Has::NoGpu).is_some() {
        return Ok(world);
    }
    let joined = match first(Has::Gpu) {
        Some(rank) => {
            Err(format!("rank {rank} goes without NCCL: there is no libnccl.so.2, or SOKD_NCCL=0 is set"))
        }
        None => join(&world, device)?,
    };
    let (way, fabric) = match joined {
        Ok(fabric) => ("from GPU to GPU, by NCCL".to_owned(), Some(fabric)),
        Err(problem) => (format!("over the hosts: {problem}"), None),
    };
    if world.leads() {
        stage.say(&format!("gradients go {way}"));
    }
    Ok(match fabric {
        Some(fabric) => world.over(fabric),
        None => world,
    })
}

#[cfg(not(feature = "cuda"))]
fn found(_: &Device) -> Has {
    Has::NoGpu
}

#[cfg(feature = "cuda")]
fn found(device: &Device) -> Has {
    match (device.is_cuda(), sokd_ops::Nccl::is_here()) {
        (false, _) => Has::NoGpu,
        (true, false) => Has::Gpu,
        (true, true) => Has::Nccl,
    }
}

/// In words why not, where one of them could not.
#[cfg(not(feature = "cuda"))]
#[expect(clippy::unnecessary_wraps, reason = "where there are GPUs, someone may be gone")]
fn join(_: &World, _: &Device) -> Result<std::result::Result<Box<dyn Fabric>, String>> {
    Ok(Err("this build does without GPUs".to_owned()))
}

#[cfg(feature = "cuda")]
fn join(world: &World, device: &Device) -> Result<std::result::Result<Box<dyn Fabric>, String>> {
    use sokd_ops::Nccl;
    let (id, place) = (if world.leads() { Nccl::id() } else { Ok(Vec::new()) }, (world.rank(), world.size()));
    // All wait for a word of rank 0's, also where it has no name to tell: nobody can join by an empty one.
    let told = world.follow(id.as_deref().unwrap_or_default())?;
    let joined = id.and_then(|_| Nccl::join(device, place, &told, || world.check()));
    let problem = joined.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let problems = world.gather(problem.as_bytes())?;
    let problem = problems.iter().enumerate().find(|(_, problem)| !problem.is_empty());
    Ok(match (joined, problem) {
        (Ok(nccl), None) => Ok(Box::new(Wire(nccl))),
        (_, Some((rank, problem))) => Err(format!("rank {rank}: {}", String::from_utf8_lossy(problem))),
        (Err(problem), None) => Err(problem.to_string()),
    })
}

#[cfg(feature = "cuda")]
#[derive(Debug)]
struct Wire(sokd_ops::Nccl);

#[cfg(feature = "cuda")]
impl Fabric for Wire {
    fn mean(
        &self,
        own: &candle::Tensor,
        weights: &[f64],
        gone: &dyn Fn() -> sokd_core::Result<()>,
    ) -> sokd_core::Result<candle::Tensor> {
        self.0.mean(own, weights, gone)
    }
}
