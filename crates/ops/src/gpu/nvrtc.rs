//! NVIDIA's compiler over the kernels, where its library can be had: it asks for no GPU.

use super::KERNELS;
use super::mirror::signatures;
use libloading::{Library, Symbol};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::ptr::null;

/// A program that it knows of.
type Program = *mut c_void;
type Create = extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = extern "C" fn(Program, *mut usize) -> c_int;
type Text = extern "C" fn(Program, *mut c_char) -> c_int;

/// The library, by the loader's own search or among the packages of the Python that `SOKD_PYTHON` names.
fn library() -> Option<Library> {
    // SAFETY: NVIDIA's libraries do nothing when they are loaded.
    let load = |name: &Path| unsafe { Library::new(name).ok() };
    let found = ["libnvrtc.so.13", "libnvrtc.so.12"].iter().find_map(|name| load(name.as_ref()));
    if found.is_some() {
        return found;
    }
    let python = std::env::var_os("SOKD_PYTHON").unwrap_or_else(|| "python3".into());
    let script = "import glob, nvidia; print(*(f for p in nvidia.__path__ for f in glob.glob(p + '/*/lib/libnvrtc*.so.*')), sep='\\n')";
    let told = Command::new(python).args(["-c", script]).output().ok()?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let (own, library): (Vec<_>, Vec<_>) = told.lines().partition(|path| path.contains("builtins.so"));
    // What it asks for by name is found where it is loaded already.
    own.into_iter().filter_map(|path| load(path.as_ref())).for_each(std::mem::forget);
    library.into_iter().filter(|path| path.contains("libnvrtc.so")).find_map(|path| load(path.as_ref()))
}

/// What it makes of a text for GPUs of a generation, or what it has against it.
fn compile(library: &Library, text: &str, generation: &str) -> Result<String, String> {
    let source = CString::new(text).expect("a text without zeros");
    let option = CString::new(format!("--gpu-architecture=compute_{generation}")).expect("one without zeros");
    // SAFETY: the functions have these types in every version (nvrtc.h); texts get the room that their sizes tell.
    unsafe {
        let create: Symbol<'_, Create> = library.get(b"nvrtcCreateProgram").expect("it creates");
        let compile: Symbol<'_, Compile> = library.get(b"nvrtcCompileProgram").expect("it compiles");
        let told = |size: &[u8], text: &[u8], program: Program| {
            let size: Symbol<'_, Size> = library.get(size).expect("it tells how long");
            let text: Symbol<'_, Text> = library.get(text).expect("it tells");
            let mut count = 0;
            assert_eq!(size(program, &raw mut count), 0);
            let mut bytes = vec![0u8; count + 1];
            assert_eq!(text(program, bytes.as_mut_ptr().cast()), 0);
            CStr::from_bytes_until_nul(&bytes).expect("an end").to_string_lossy().into_owned()
        };
        let mut program = std::ptr::null_mut();
        assert_eq!(create(&raw mut program, source.as_ptr(), null(), 0, null(), null()), 0);
        match compile(program, 1, [option.as_ptr()].as_ptr()) {
            0 => Ok(told(b"nvrtcGetPTXSize", b"nvrtcGetPTX", program)),
            _ => Err(told(b"nvrtcGetProgramLogSize", b"nvrtcGetProgramLog", program)),
        }
    }
}

#[test]
fn nvidias_compiler_takes_every_kernel() {
    let Some(library) = library() else {
        println!("skipped, because there is no libnvrtc: PyPI's nvidia-cuda-nvrtc has it, for SOKD_PYTHON");
        return;
    };
    let text = [include_str!("kernels/nvidia.h"), KERNELS.as_str()].concat();
    for generation in ["75", "90"] {
        let made = compile(&library, &text, generation).unwrap_or_else(|said| panic!("{said}"));
        for (name, _) in signatures() {
            let (_, entry) = made
                .split_once(&format!(".entry {name}("))
                .unwrap_or_else(|| panic!("{name} is none of its kernels"));
            let body = entry.split(".entry").next().expect("a body");
            // That lies in the GPU's far memory, lane by lane.
            assert!(!body.contains(".local"), "{name} keeps something in a lane's own memory");
        }
        // Newer ones round to bfloat16 by themselves.
        assert_eq!(made.contains("cvt.rn.bf16.f32"), generation == "90");
    }
    let faulty = text.replace("y[at] = fabsf(x[at])", "z[at] = fabsf(x[at])");
    assert!(compile(&library, &faulty, "75").is_err_and(|said| said.contains("\"z\"")), "it would say so");
}
