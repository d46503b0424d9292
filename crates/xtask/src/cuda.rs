//! Builds the program for NVIDIA's GPUs, also on a machine that has neither GPU nor toolkit.
//!
//! candle compiles its kernels with nvcc and links NVIDIA's libraries by name. Where there is no nvcc, it comes from `PyPI` (104 MB);
//! and the libraries, which a machine with a GPU has, are stood in for by empty ones with the same names and functions. That
//! is all a linker asks for.

mod emulate;
mod plans;

use crate::{Outcome, command, finish, output, root};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HELP: &str = "\
Usage: cargo xtask cuda [--pack] [CARGO OPTIONS]
       cargo xtask cuda --emulate ARGUMENTS OF SOKD
       cargo xtask cuda --plans [VERSION OF CUDNN]
       cargo xtask cuda --check

Builds target/cuda/release/sokd with the feature `cuda`: with the nvcc of this machine, or with one from PyPI (which wants python3 \
and pip). CUDA_COMPUTE_CAP says for which GPUs: 90 (H100, H200) where nothing is said and none is here. It runs where the driver,
CUDA 13's cuBLAS, cuRAND and NVRTC, and cuDNN 9 are installed.

--pack writes target/cuda/sokd-cuda.tar.gz, for a machine that has a GPU and neither Rust nor a network: in the folder that it unpacks \
to, experiments/benches/gpu.sh tries every operation, times networks beside PyTorch and trains one.

--emulate builds, and runs the program where an emulator of NVIDIA's libraries stands for a GPU, for example `cargo xtask cuda \
--emulate doctor --kernels --device cuda`. It computes on this machine, slowly, and holds the program to the rules of the driver; \
EMULATOR=report says what was asked of it. It wants g++.

--plans asks NVIDIA's own cuDNN, of PyPI, for a plan of every convolution on an H200: it makes them, and compiles its kernels, without \
one. It says by which engine, in how many bytes.

--check builds nothing: it asks clippy about what only this build compiles, within minutes and without NVIDIA's compiler.";

/// The compiler with its parts, the runtime that is linked statically, and a header without which nvcc fails.
const WHEELS: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];

/// A library of NVIDIA's.
struct Library {
    /// What is linked.
    name: &'static str,
    /// What is asked for when the program starts.
    soname: &'static str,
    /// Where cudarc declares its functions.
    module: &'static str,
    /// How their names begin.
    prefix: &'static str,
}

const LIBRARIES: [Library; 6] = [
    Library { name: "cuda", soname: "libcuda.so.1", module: "driver", prefix: "cu" },
    Library { name: "cublas", soname: "libcublas.so.13", module: "cublas", prefix: "cublas" },
    Library { name: "cublasLt", soname: "libcublasLt.so.13", module: "cublaslt", prefix: "cublasLt" },
    Library { name: "curand", soname: "libcurand.so.10", module: "curand", prefix: "curand" },
    Library { name: "nvrtc", soname: "libnvrtc.so.13", module: "nvrtc", prefix: "nvrtc" },
    Library { name: "cudnn", soname: "libcudnn.so.9", module: "cudnn", prefix: "cudnn" },
];

pub fn run(args: &[String]) -> Outcome {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    if args.iter().any(|arg| arg == "--check") {
        return check();
    }
    if let Some(at) = args.iter().position(|arg| arg == "--plans") {
        return plans::run(&tools()?, args.get(at + 1).map(String::as_str));
    }
    let (args, emulated) = match args.iter().position(|arg| arg == "--emulate") {
        Some(at) => (&args[..at], Some(&args[at + 1..])),
        None => (args, None),
    };
    let mut build = command("cargo", &["build", "--release", "--package", "sokd-experiments"]);
    build
        .args(["--features", "cuda", "--target-dir", "target/cuda"])
        .args(args.iter().filter(|arg| *arg != PACK));
    if std::env::var_os("CUDA_COMPUTE_CAP").is_none() && output(command("nvidia-smi", &[])).is_err() {
        build.env("CUDA_COMPUTE_CAP", "90");
    }
    if output(command("nvcc", &["--version"])).is_err() {
        use_tools(&mut build, &tools()?)?;
    }
    finish(build)?;
    let program = root().join("target/cuda/release/sokd");
    if let Some(args) = emulated {
        return emulate::run(&program, args);
    }
    println!("{}", program.display());
    if args.iter().any(|arg| arg == PACK) { pack() } else { Ok(()) }
}

const PACK: &str = "--pack";

/// In place of NVIDIA's compiler, where nothing will run: it makes empty files of the names that are asked for.
const STAND_IN: &str = "\
#!/bin/sh
[ \"$1\" = --version ] && printf '%s\\n' nvcc '' '' 'Cuda compilation tools, release 13.0, V13.0.88'
while [ $# -gt 0 ]; do
    case $1 in
        -o) shift; : > \"$1\" ;;
        --output-directory) shift; folder=$1 ;;
        *.cu) source=$1 ;;
    esac
    shift
done
[ -z \"$folder\" ] || : > \"$folder/$(basename \"$source\" .cu).ptx\"
";

/// What clippy says of the operations for NVIDIA's GPUs: no other crate has code of its own for them.
pub fn check() -> Outcome {
    let fetched = ["metadata", "--format-version", "1", "--features", "sokd-ops/cuda"];
    let here = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    if let Err(error) = output(command("cargo", &[&fetched[..], &here].concat())) {
        println!("skipped, because the packages of that build cannot be had: {error}");
        return Ok(());
    }
    let tools = root().join("target/cuda/stand-in");
    let nvcc = tools.join("bin/nvcc");
    fs::create_dir_all(tools.join("bin")).map_err(at(&nvcc))?;
    fs::write(&nvcc, STAND_IN).map_err(at(&nvcc))?;
    finish(command("chmod", &["+x", &nvcc.to_string_lossy()]))?;
    let mut clippy = command("cargo", &["clippy", "--package", "sokd-ops", "--features", "cuda"]);
    clippy.args(["--target-dir", "target/cuda", "--", "--deny", "warnings"]).env("CUDA_COMPUTE_CAP", "90");
    use_tools(&mut clippy, &tools)?;
    finish(clippy)
}

/// What the script needs, besides the programs.
const PACKED: [&str; 4] = [
    "experiments/benches/gpu.sh",
    "experiments/benches/step.py",
    "experiments/results/bench",
    "tests/golden",
];

/// The program, this one, and the script with what it reads, in one file.
fn pack() -> Outcome {
    let (folder, archive) =
        (root().join("target/cuda/sokd-cuda"), root().join("target/cuda/sokd-cuda.tar.gz"));
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    for (from, name) in [(root().join("target/cuda/release/sokd"), "sokd"), (this, "xtask")] {
        let to = folder.join(name);
        fs::copy(&from, &to).map_err(at(&from))?;
        finish(command("strip", &[&to.to_string_lossy()]))?;
    }
    let mut tar = command("tar", &["--create", "--gzip", "--exclude", "*.json*", "--file"]);
    tar.arg(&archive).arg("--directory").arg(&folder).args(["sokd", "xtask"]);
    finish({
        tar.arg("--directory").arg(root()).args(PACKED);
        tar
    })?;
    println!("{}", archive.display());
    Ok(())
}

/// Lets a build find the tools, before whatever else calls itself so.
fn use_tools(build: &mut Command, tools: &Path) -> Outcome {
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(tools.join("bin")).chain(std::env::split_paths(&others));
    build.env("PATH", std::env::join_paths(path).map_err(|error| format!("PATH: {error}"))?);
    for name in ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"] {
        build.env(name, tools);
    }
    Ok(())
}

/// A tree as a toolkit's, fetched once.
fn tools() -> Outcome<PathBuf> {
    let place = root().join("target/cuda/tools");
    let home = place.join("nvidia/cu13");
    if !home.join("bin/nvcc").exists() {
        println!("no nvcc here: fetching {}", WHEELS.join(", "));
        let mut pip =
            command("python3", &["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]);
        pip.arg(&place).args(WHEELS);
        finish(pip)?;
    }
    let libraries = home.join("lib64");
    fs::create_dir_all(&libraries).map_err(at(&libraries))?;
    // Without a shared one beside it, the linker takes this.
    let runtime = libraries.join("libcudart.a");
    fs::copy(home.join("lib/libcudart_static.a"), &runtime).map_err(at(&runtime))?;
    let bindings = package("cudarc")?.join("src");
    for library in LIBRARIES {
        library.stand_in(&libraries, &bindings)?;
    }
    Ok(home)
}

/// The folder of a package that the build for GPUs uses.
fn package(name: &str) -> Outcome<PathBuf> {
    let told = output(command(
        "cargo",
        &["metadata", "--format-version", "1", "--features", "sokd-experiments/cuda"],
    ))?;
    let told: Value = serde_json::from_str(&told).map_err(|error| format!("cargo metadata: {error}"))?;
    let mut packages = told["packages"].as_array().into_iter().flatten();
    let found = packages.find(|package| package["name"] == name);
    let manifest = found.and_then(|package| package["manifest_path"].as_str());
    let manifest = manifest.ok_or_else(|| format!("no package is called {name}"))?;
    Ok(Path::new(manifest).with_file_name(""))
}

impl Library {
    fn stand_in(&self, place: &Path, bindings: &Path) -> Outcome {
        let bindings = bindings.join(self.module).join("sys/mod.rs");
        let text = fs::read_to_string(&bindings).map_err(at(&bindings))?;
        let source = place.join(format!("{}.c", self.name));
        let mut code = String::new();
        for function in functions(&text, self.prefix) {
            let _ = writeln!(code, "void {function}(void) {{}}");
        }
        fs::write(&source, code).map_err(at(&source))?;
        let library = place.join(format!("lib{}.so", self.name));
        let mut cc =
            command("cc", &["-shared", "-fPIC", "-w", &format!("-Wl,-soname,{}", self.soname), "-o"]);
        cc.arg(&library).arg(&source);
        finish(cc)
    }
}

/// The functions that bindings declare.
fn functions<'a>(bindings: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let declared = bindings.split("pub fn ").chain(bindings.split("pub unsafe fn ")).skip(1);
    let name =
        |rest: &'a str| rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next();
    declared.filter_map(name).filter(|name| name.starts_with(prefix) && *name != "culib").collect()
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_of_a_library() {
        let text = "extern \"C\" { pub fn cuInit(flags: u32); pub fn nvrtcX(); }\npub unsafe fn cuCtxGet() {}\npub unsafe fn culib() {}";
        assert_eq!(functions(text, "cu").into_iter().collect::<Vec<_>>(), ["cuCtxGet", "cuInit"]);
    }
}
