//! NVIDIA's own cuDNN, which plans for a GPU that is not here (`crates/ops/src/gpu/cudnn/tests.rs`).

use super::{at, use_tools};
use crate::{Outcome, command, finish, root};
use std::fs;
use std::path::Path;

/// Of cuDNN, unless another is asked for.
const VERSION: &str = "9.28.1.4";
/// What it opens when it plans.
const OTHERS: [&str; 2] = ["nvidia-cublas==13.10.0.20", "nvidia-cuda-nvrtc==13.5.37"];

/// Asks the one of this version.
pub fn run(tools: &Path, version: Option<&str>) -> Outcome {
    let version = version.unwrap_or(VERSION);
    let place = root().join("target/cuda/cudnn").join(version);
    if !place.join("nvidia/cudnn/lib").exists() {
        println!("fetching cuDNN {version} and {}", OTHERS.join(", "));
        let mut pip =
            command("python3", &["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]);
        pip.arg(&place).arg(format!("nvidia-cudnn-cu13=={version}")).args(OTHERS);
        finish(pip)?;
    }
    let driver = place.join("driver");
    fs::create_dir_all(&driver).map_err(at(&driver))?;
    let how = ["-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-Wl,-z,muldefs", "-o"];
    let mut cc = command("cc", &how);
    cc.arg(driver.join("libcuda.so.1")).arg(root().join("crates/xtask/emulator/absent.c"));
    // The program asks for more, of which nothing is called.
    finish({
        cc.arg(tools.join("lib64/cuda.c"));
        cc
    })?;
    // Nobody draws.
    fs::copy(tools.join("lib64/libcurand.so"), driver.join("libcurand.so.10")).map_err(at(&driver))?;

    let mut test = command("cargo", &["test", "--release", "--package", "sokd-ops", "--features", "cuda"]);
    test.args(["--lib", "--target-dir", "target/cuda", "cudnn::", "--", "--nocapture"]);
    test.env("CUDA_COMPUTE_CAP", "90");
    use_tools(&mut test, tools)?;
    let libraries = [place.join("nvidia/cudnn/lib"), place.join("nvidia/cu13/lib"), driver];
    test.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).map_err(|error| error.to_string())?);
    finish(test)
}
