//! An emulator of NVIDIA's libraries (`crates/xtask/emulator`): the program for GPUs, on a machine without one.
//!
//! candle's kernels and ours are compiled for this machine from their own texts. A kernel's name and the kinds of its parameters
//! come from the compiler: what a file has compiled to says the names, and C++ says the kinds.

#[path = "../../../ops/src/gpu/text.rs"]
mod text;

use super::package;
use crate::{Outcome, command, finish, output, root};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of candle's kernels whose lanes do not wait for each other.
const CANDLE: [&str; 7] = ["affine", "fill", "cast", "unary", "binary", "ternary", "indexing"];
/// What these include of NVIDIA's.
const HEADERS: [&str; 4] = ["cuda_fp16.h", "cuda_bf16.h", "cuda_fp8.h", "cuda.h"];
/// By which the program asks for the libraries: all of them are one.
const SONAMES: [&str; 6] =
    ["libcuda.so.1", "libcublas.so.13", "libcurand.so.10", "libcudnn.so.9", "libnvrtc.so.13", "libnccl.so.2"];

/// Runs `program` with these arguments where the emulator stands for a GPU.
pub fn run(program: &Path, args: &[String]) -> Outcome {
    let libraries = build()?;
    let mut run = command(&program.to_string_lossy(), &[]);
    // Kernels that NVIDIA's compiler made are none of its.
    run.args(args).env("LD_LIBRARY_PATH", &libraries).env("XDG_CACHE_HOME", libraries.join("cache"));
    finish(run)
}

/// Where the libraries are.
fn build() -> Outcome<PathBuf> {
    let place = root().join("target/cuda/emulator");
    let own = root().join("crates/xtask/emulator");
    let sources = package("candle-kernels")?.join("src");
    let io = |error: std::io::Error| format!("{}: {error}", place.display());
    fs::create_dir_all(place.join("lib")).map_err(io)?;
    for header in HEADERS {
        fs::write(place.join(header), "").map_err(io)?;
    }
    for name in ["cuda_utils.cuh", "binary_op_macros.cuh"] {
        fs::copy(sources.join(name), place.join(name)).map_err(io)?;
    }
    fs::copy(own.join("candle.h"), place.join("compatibility.cuh")).map_err(io)?;

    let mut objects = Vec::new();
    for name in ["driver", "libraries", "nccl", "waiting"] {
        let text = fs::read_to_string(own.join(format!("{name}.cpp"))).map_err(io)?;
        objects.push(compile(&place, name, &text)?);
    }
    for name in CANDLE {
        let text = fs::read_to_string(sources.join(format!("{name}.cu"))).map_err(io)?;
        objects.push(with_names(&place, name, &format!("#include \"compatibility.cuh\"\n{text}"))?);
    }
    let folder = root().join("crates/ops/src/gpu");
    let list = fs::read_to_string(folder.join("mod.rs")).map_err(io)?;
    let mut ours = "#include \"ours.h\"\n".to_owned();
    for name in list.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        ours += &fs::read_to_string(folder.join(name)).map_err(io)?;
    }
    objects.push(with_names(&place, "ours", &text::for_each_map(&ours))?);

    let library = place.join("lib").join(SONAMES[0]);
    // candle's files define the same helpers, each for itself.
    let mut link = command("g++", &["-shared", "-Wl,-z,muldefs", "-o"]);
    finish({
        link.arg(&library).args(&objects);
        link
    })?;
    for soname in &SONAMES[1..] {
        let other = place.join("lib").join(soname);
        finish(command("ln", &["--symbolic", "--force", SONAMES[0], &other.to_string_lossy()]))?;
    }
    Ok(place.join("lib"))
}

/// Compiles kernels, and once more with a line for each that enters it.
fn with_names(place: &Path, name: &str, text: &str) -> Outcome<PathBuf> {
    let object = compile(place, name, text)?;
    let listed = output(command("nm", &["--defined-only", "--extern-only", &object.to_string_lossy()]))?;
    let names = listed.lines().filter_map(|line| line.split_once(" T ")).map(|(_, name)| name);
    let mut text = text.to_owned();
    // Names that C++ has made are helpers'.
    for name in names.filter(|name| !name.starts_with("_Z")) {
        let _ = writeln!(text, "\nENTER({name})");
    }
    compile(place, name, &text)
}

fn compile(place: &Path, name: &str, text: &str) -> Outcome<PathBuf> {
    let (source, object) = (place.join(format!("{name}.cpp")), place.join(format!("{name}.o")));
    fs::write(&source, text).map_err(|error| format!("{}: {error}", source.display()))?;
    let mut cc = command("g++", &["-std=c++20", "-O2", "-fPIC", "-w", "-D__CUDA_ARCH__=500", "-c", "-o"]);
    cc.arg(&object).arg(&source).arg("-I").arg(place);
    cc.arg("-I").arg(root().join("crates/xtask/emulator"));
    finish(cc)?;
    Ok(object)
}
