//! The kernels for GPUs on this machine, for the tests: between guards, and with every launch held against the kernel's
//! parameters.

use super::KERNELS;
use super::launch::{Arg, Word, int};
use super::work::{Addresses, Firsts, Floats, MANY, Window};
use crate::kernels::backward::{Given, Gradients, Wanted, backward as gradients};
use crate::kernels::forward::{Epilogue, forward as convolved};
use crate::kernels::geometry::Geometry;
use crate::record::{Numbers, read};
use crate::simd::simd;
use candle::{CpuStorage, DType, Result, Storage, Tensor};
use half::bf16;
use libloading::{Library, Symbol};
use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt::Write;
use std::process::Command;
use std::sync::LazyLock;

/// Numbers on either side of what a kernel may touch: what it reads there it cannot use, what it writes there is seen.
const GUARD: usize = 64;
const GUARDED: f32 = f32::NAN;

/// Room that says so wherever it was not written.
pub(super) fn room(map: DType, count: usize) -> Storage {
    match map {
        DType::BF16 => Storage::Cpu(CpuStorage::BF16(vec![bf16::NAN; count])),
        _ => vec![f32::NAN; count].storage(),
    }
}

/// A kernel that was compiled for this machine.
struct Kernel {
    /// The types of its parameters.
    parameters: Vec<String>,
    run: extern "C" fn(*const *const c_void, i32),
}

/// All of them. The library stays loaded.
static COMPILED: LazyLock<HashMap<String, Kernel>> = LazyLock::new(|| compile().expect("a C compiler, `cc`"));

/// The name of each kernel and the types of its parameters.
pub(super) fn signatures() -> impl Iterator<Item = (String, Vec<String>)> {
    KERNELS.match_indices("\nkernel ").map(|(at, found)| {
        let text = &KERNELS[at + found.len()..];
        let (head, _) = text.split_once(')').expect("a kernel's parameters end");
        let (name, parameters) = head.split_once('(').expect("a kernel has parameters");
        let parameters = parameters.split(',').map(|parameter| {
            let parameter = parameter.trim();
            let name = parameter.rfind([' ', '*']).expect("a type and a name");
            parameter[..=name].trim().to_owned()
        });
        (name.to_owned(), parameters.collect())
    })
}

fn compile() -> std::result::Result<HashMap<String, Kernel>, Box<dyn std::error::Error>> {
    let mut source = [include_str!("kernels/mirror.h"), KERNELS.as_str()].concat();
    for (name, parameters) in signatures() {
        let args: Vec<String> =
            (0..).zip(&parameters).map(|(at, kind)| format!("*({kind} *)args[{at}]")).collect();
        let (args, loops) = (args.join(", "), "for (block = 0; block < count; block++)");
        writeln!(
            source,
            "void run_{name}(void **args, int count) {{ blocks = count; {loops} {name}({args}); }}"
        )?;
    }
    let folder = std::env::temp_dir().join(format!("sokd-mirror-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (text, library) = (folder.join("kernels.c"), folder.join("kernels.so"));
    std::fs::write(&text, source)?;
    let flags = ["-std=c11", "-O1", "-ffp-contract=off", "-shared", "-fPIC"];
    let made = Command::new("cc").args(flags).arg(&text).arg("-o").arg(&library).arg("-lm").output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    // SAFETY: the library is what was compiled just now, and does nothing when it is loaded.
    let loaded = unsafe { Library::new(&library)? };
    std::fs::remove_dir_all(&folder)?;
    let mut kernels = HashMap::new();
    for (name, parameters) in signatures() {
        // SAFETY: the function was written above, with this signature.
        let run: Symbol<'_, extern "C" fn(*const *const c_void, i32)> =
            unsafe { loaded.get(format!("run_{name}").as_bytes())? };
        let run = *run;
        kernels.insert(name, Kernel { parameters, run });
    }
    // What is loaded is called until the end.
    std::mem::forget(loaded);
    Ok(kernels)
}

/// Numbers between guards.
struct Lent {
    numbers: Vec<f32>,
    len: usize,
}

impl Lent {
    fn new(numbers: &[f32]) -> Self {
        let guard = [GUARDED; GUARD];
        Self { numbers: [&guard, numbers, &guard].concat(), len: numbers.len() }
    }

    fn address(&mut self) -> u64 {
        self.numbers[GUARD..].as_mut_ptr() as u64
    }

    /// What the kernel left; its guards must stand.
    fn back(self, kernel: &str) -> Vec<f32> {
        let Self { mut numbers, len } = self;
        let behind = numbers.split_off(GUARD + len);
        let inside = numbers.split_off(GUARD);
        let touched = |guard: &f32| guard.to_bits() != GUARDED.to_bits();
        assert!(!numbers.iter().chain(&behind).any(touched), "{kernel} wrote beside what it was given");
        inside
    }
}

pub(super) fn launch(name: &str, blocks: usize, mut args: Vec<Arg<'_>>) -> Result<()> {
    let kernel = COMPILED.get(name).unwrap_or_else(|| panic!("a kernel that is none: {name}"));
    assert_eq!(args.len(), kernel.parameters.len(), "arguments of {name}");
    let mut lent = Vec::new();
    let mut words = Vec::new();
    for (arg, kind) in args.iter().zip(&kernel.parameters) {
        let (expected, mut given) = lend(arg)?;
        assert!(expected.contains(&kind.as_str()), "{name}: {expected:?} for {kind}");
        words.push(match arg {
            Arg::Read(_) | Arg::Change(_) | Arg::Write(_) => {
                Word::Address(given.first_mut().map_or(0, Lent::address))
            }
            Arg::ChangeAll(_) => {
                let mut all = [0; MANY];
                all.iter_mut().zip(&mut given).for_each(|(one, lent)| *one = lent.address());
                Word::Addresses(Box::new(Addresses(all)))
            }
            Arg::Int(number) => Word::Int(int(*number)?),
            Arg::Float(number) => Word::Float(*number as f32),
            Arg::Window(window) => Word::Window(*window),
            Arg::Firsts(firsts) => Word::Firsts(firsts.clone()),
            Arg::Floats(floats) => Word::Floats(floats.clone()),
        });
        lent.push(given);
    }
    let addresses: Vec<*const c_void> = words
        .iter()
        .map(|word| match word {
            Word::Address(address) => std::ptr::from_ref(address).cast(),
            Word::Int(number) => std::ptr::from_ref(number).cast(),
            Word::Float(number) => std::ptr::from_ref(number).cast(),
            Word::Window(window) => std::ptr::from_ref::<Window>(window).cast(),
            Word::Addresses(all) => std::ptr::from_ref::<Addresses>(all).cast(),
            Word::Firsts(firsts) => std::ptr::from_ref::<Firsts>(firsts).cast(),
            Word::Floats(floats) => std::ptr::from_ref::<Floats>(floats).cast(),
        })
        .collect();
    (kernel.run)(addresses.as_ptr(), int(blocks)?);
    for (arg, lent) in args.iter_mut().zip(lent) {
        let mut numbers = lent.into_iter().map(|lent| lent.back(name));
        match arg {
            Arg::Write(storage) => fill(storage, &numbers.next().expect("its room was lent"))?,
            Arg::Change(Some(tensor)) => put(tensor, numbers)?,
            Arg::ChangeAll(tensors) => tensors.iter().try_for_each(|tensor| put(tensor, &mut numbers))?,
            // What was only read must still be whole.
            _ => numbers.for_each(drop),
        }
    }
    Ok(())
}

/// What a kernel's parameter may be for this argument, and what it is lent.
fn lend(arg: &Arg<'_>) -> Result<(&'static [&'static str], Vec<Lent>)> {
    let of = |tensor: &Tensor| Ok(Lent::new(&bits(tensor)?));
    Ok(match arg {
        Arg::Read(None) | Arg::Change(None) => {
            (&["float *", "const float *", "bf16 *", "const bf16 *", "const unsigned *"], Vec::new())
        }
        Arg::Read(Some(tensor)) if tensor.dtype() == DType::U32 => (&["const unsigned *"], vec![of(tensor)?]),
        Arg::Read(Some(tensor)) if tensor.dtype() == DType::U8 => {
            (&["const unsigned char *"], vec![of(tensor)?])
        }
        Arg::Read(Some(tensor)) if tensor.dtype() == DType::BF16 => (&["const bf16 *"], vec![of(tensor)?]),
        Arg::Read(Some(tensor)) => (&["const float *"], vec![of(tensor)?]),
        Arg::Change(Some(tensor)) if tensor.dtype() == DType::U32 => (&["unsigned *"], vec![of(tensor)?]),
        Arg::Change(Some(tensor)) if tensor.dtype() == DType::F64 => (&["double *"], vec![of(tensor)?]),
        Arg::Change(Some(tensor)) => (&["float *"], vec![of(tensor)?]),
        Arg::ChangeAll(tensors) => {
            (&["Tensors"], tensors.iter().map(|tensor| of(tensor)).collect::<Result<_>>()?)
        }
        Arg::Write(Storage::Cpu(CpuStorage::F32(numbers))) => (&["float *"], vec![Lent::new(numbers)]),
        Arg::Write(Storage::Cpu(CpuStorage::BF16(numbers))) => {
            (&["bf16 *"], vec![Lent::new(&pairs(numbers))])
        }
        Arg::Write(_) => candle::bail!("the mirror's room is elsewhere"),
        Arg::Int(_) => (&["int"], Vec::new()),
        Arg::Float(_) => (&["float"], Vec::new()),
        Arg::Window(_) => (&["Window"], Vec::new()),
        Arg::Firsts(_) => (&["Firsts"], Vec::new()),
        Arg::Floats(_) => (&["Floats"], Vec::new()),
    })
}

/// Puts what a kernel left where the tensor's numbers were.
fn put(tensor: &Tensor, mut numbers: impl Iterator<Item = Vec<f32>>) -> Result<()> {
    let numbers = numbers.next().expect("its numbers were lent");
    let device = tensor.device();
    let whole =
        |[low, high]: &[f32; 2]| f64::from_bits(u64::from(low.to_bits()) | u64::from(high.to_bits()) << 32);
    let numbers = match tensor.dtype() {
        DType::F64 => Tensor::from_iter(numbers.as_chunks().0.iter().map(whole), device)?,
        DType::U32 => Tensor::from_iter(numbers.into_iter().map(f32::to_bits), device)?,
        _ => Tensor::new(numbers, device)?,
    };
    tensor.flatten_all()?.slice_set(&numbers, 0, 0)
}

/// Leaves in a kernel's room what it left.
fn fill(room: &mut Storage, numbers: &[f32]) -> Result<()> {
    match room {
        Storage::Cpu(CpuStorage::F32(room)) => room.copy_from_slice(numbers),
        Storage::Cpu(CpuStorage::BF16(room)) => {
            let halves =
                numbers.iter().flat_map(|pair| [pair.to_bits() as u16, (pair.to_bits() >> 16) as u16]);
            room.iter_mut().zip(halves).for_each(|(one, half)| *one = bf16::from_bits(half));
        }
        _ => candle::bail!("the mirror's room is elsewhere"),
    }
    Ok(())
}

/// Numbers of half the bits, two at a time.
fn pairs(numbers: &[bf16]) -> Vec<f32> {
    let bits = |number: Option<&bf16>| number.map_or(0, |number| u32::from(number.to_bits()));
    let pair = |pair: &[bf16]| f32::from_bits(bits(pair.first()) | bits(pair.get(1)) << 16);
    numbers.chunks(2).map(pair).collect()
}

/// The numbers of a tensor, whole ones by their bits, those of fewer bits as many at a time as fit.
fn bits(tensor: &Tensor) -> Result<Vec<f32>> {
    assert!(tensor.is_contiguous(), "kernels read numbers in a row");
    let flat = tensor.flatten_all()?;
    if tensor.dtype() == DType::U32 {
        return Ok(flat.to_vec1::<u32>()?.into_iter().map(f32::from_bits).collect());
    }
    if tensor.dtype() == DType::U8 {
        let four = |bytes: &[u8]| f32::from_le_bytes(std::array::from_fn(|at| *bytes.get(at).unwrap_or(&0)));
        return Ok(flat.to_vec1::<u8>()?.chunks(4).map(four).collect());
    }
    if tensor.dtype() == DType::BF16 {
        return Ok(pairs(&flat.to_vec1()?));
    }
    if tensor.dtype() == DType::F64 {
        let halves =
            |number: f64| [number.to_bits() as u32, (number.to_bits() >> 32) as u32].map(f32::from_bits);
        return Ok(flat.to_vec1::<f64>()?.into_iter().flat_map(halves).collect());
    }
    flat.to_vec1()
}

/// In place of cuDNN.
pub(super) fn forward(geometry: &Geometry, x: &Tensor, kernel: &Tensor) -> Result<Storage> {
    let work = |[x, kernel]: [&[f32]; 2]| convolved(simd(), geometry, x, kernel, &Epilogue::default()).0;
    let y = read([&x.to_dtype(DType::F32)?, kernel], work)?;
    Ok(as_map(x.dtype(), y))
}

/// Numbers in a map's type.
fn as_map(map: DType, numbers: Vec<f32>) -> Storage {
    match map {
        DType::BF16 => Storage::Cpu(CpuStorage::BF16(numbers.into_iter().map(bf16::from_f32).collect())),
        _ => numbers.storage(),
    }
}

pub(super) fn back_to_map(geometry: &Geometry, arguments: [&Tensor; 3]) -> Result<Storage> {
    let found = backward(geometry, arguments, [true, false])?;
    Ok(as_map(arguments[0].dtype(), found.input.unwrap_or_default()))
}

pub(super) fn back_to_kernel(geometry: &Geometry, arguments: [&Tensor; 3]) -> Result<Storage> {
    Ok(backward(geometry, arguments, [false, true])?.kernel.unwrap_or_default().storage())
}

fn backward(
    geometry: &Geometry,
    [x, kernel, gradient]: [&Tensor; 3],
    wanted: [bool; 2],
) -> Result<Gradients> {
    let [of_x, of_gradient] = [&x.to_dtype(DType::F32)?, &gradient.to_dtype(DType::F32)?];
    read([of_x, kernel, of_gradient], |[x, kernel, gradient]| {
        gradients(simd(), geometry, x, kernel, &Given(gradient), Wanted::of(wanted))
    })
}

#[test]
fn the_mean_of_ranks_is_that_of_worlds() -> Result<()> {
    use crate::{Backend, with_backend};
    let (ranks, count) = (3, 5);
    let part = |rank: usize, at: usize| (rank * 7 + at) as f32 * 0.1 + 1e-3;
    let numbers: Vec<f32> = (0..ranks * count).map(|place| part(place / count, place % count)).collect();
    let (parts, weights) = (Tensor::new(numbers, &candle::Device::Cpu)?, [21.0f32, 22.0, 21.0]);
    let told = Tensor::new(&weights, &candle::Device::Cpu)?;
    let mean = with_backend(Backend::Mirror, || {
        super::Gpu::Mirror.each("mean_of_ranks", [&parts, &told], count, [Arg::Int(ranks)])
    })?;
    let mean: Vec<f32> = crate::record::tensor(mean, count).to_vec1()?;
    for (at, mean) in mean.into_iter().enumerate() {
        let sum: f64 = (0..ranks).map(|rank| f64::from(weights[rank]) * f64::from(part(rank, at))).sum();
        assert_eq!(mean.to_bits(), ((sum / 64.0) as f32).to_bits());
    }
    Ok(())
}
