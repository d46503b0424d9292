//! Devices by their names, and in words what keeps one of them from being used.

use crate::{Error, Misfit, Result};
use candle::Device;
use candle::utils::{cuda_is_available, metal_is_available};
use std::path::Path;

/// A device: `cpu`, `cuda`, `cuda:1`, `metal`.
///
/// # Errors
/// For a name that is none, and for a device that this build or this machine does not have, with what is missing.
pub fn named(name: &str) -> Result<Device> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let unknown = || {
        let misfit = Misfit::new(format!("--device {name}: no such device"));
        Error::from(misfit.help("cpu, cuda, cuda:1, metal, metal:0 are the names of devices"))
    };
    let index: usize = index.parse().map_err(|_| unknown())?;
    let (found, lacks) = match kind {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => (sokd_ops::cuda(index), CUDA.lacks()),
        "metal" => (Device::new_metal(index), METAL.lacks()),
        _ => return Err(unknown()),
    };
    found.map_err(|error| {
        let said = lacks.unwrap_or_else(|| error.to_string());
        let misfit = Misfit::new(format!("--device {name}: {said}"));
        Error::from(misfit.help("`sokd doctor` says which devices this build and this machine have"))
    })
}

/// Each kind of device, and how it stands with it here.
pub fn kinds() -> Vec<(String, String)> {
    let state = |name: &str, found: candle::Result<Device>, lacks: Option<String>| {
        let lacks = lacks.or_else(|| found.err().map(|error| error.to_string()));
        (name.to_owned(), lacks.unwrap_or_else(|| "ready".to_owned()))
    };
    vec![
        state("cpu", Ok(Device::Cpu), None),
        state("cuda", sokd_ops::cuda(0), CUDA.lacks()),
        state("metal", Device::new_metal(0), METAL.lacks()),
    ]
}

/// What a kind of device needs of a build and of a machine.
struct Needs {
    built: fn() -> bool,
    build: &'static str,
    /// Where its driver tells of itself.
    driver: &'static str,
    here: &'static str,
}

const CUDA: Needs = Needs {
    built: cuda_is_available,
    build: "`cargo xtask cuda` makes one that has",
    driver: "/proc/driver/nvidia/version",
    here: "an NVIDIA GPU is here",
};

const METAL: Needs = Needs {
    built: metal_is_available,
    build: "on a Mac, `cargo build --release --features metal` makes one that has",
    driver: "/System/Library/Frameworks/Metal.framework",
    here: "Metal is here",
};

impl Needs {
    /// What the build lacks. What a machine lacks, its driver says.
    fn lacks(&self) -> Option<String> {
        let Self { built, build, driver, here } = *self;
        let here = if Path::new(driver).exists() { format!("{here}, and ") } else { String::new() };
        (!built()).then(|| format!("{here}this build does not have it; {build}"))
    }
}
