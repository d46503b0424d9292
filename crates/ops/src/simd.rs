//! Which vector instructions the kernels use, and how one generic kernel becomes code for each of them.

mod lanes;
mod portable;
mod transpose;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::environment;
pub(crate) use lanes::Lanes;
use std::sync::LazyLock;
pub(crate) use transpose::transpose;

/// A set of vector instructions, found at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    /// Arrays of four floats, left to the compiler: any machine.
    Portable,
    /// Eight floats a register, 16 registers, fused multiply-add.
    Avx2,
    /// Sixteen floats a register, 32 registers, masks.
    Avx512,
}

/// The instructions that the kernels use: the best that this machine has, or less where the environment says
/// `SOKD_SIMD=avx2` or `SOKD_SIMD=portable`.
pub fn simd() -> Simd {
    static CHOSEN: LazyLock<Simd> = LazyLock::new(|| {
        let allowed = match environment::SIMD.get() {
            "portable" => Simd::Portable,
            "avx2" => Simd::Avx2,
            _ => Simd::Avx512,
        };
        best().min(allowed)
    });
    *CHOSEN
}

/// The best that this machine has.
#[cfg(target_arch = "x86_64")]
fn best() -> Simd {
    if is_x86_feature_detected!("avx512f") {
        Simd::Avx512
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Simd::Avx2
    } else {
        Simd::Portable
    }
}

/// The best that this machine has.
#[cfg(not(target_arch = "x86_64"))]
fn best() -> Simd {
    Simd::Portable
}

/// Every level that this machine can run, for tests and benchmarks.
#[cfg(test)]
pub(crate) fn levels() -> impl Iterator<Item = Simd> {
    [Simd::Portable, Simd::Avx2, Simd::Avx512].into_iter().filter(|&level| level <= best())
}

/// Asks for a line of the cache that will be read soon; any address will do.
#[inline(always)]
pub(crate) fn prefetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE belongs to the architecture, and a prefetch reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Work written once for vectors of any width.
pub(crate) trait Kernel {
    /// What the work gives.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, and so is all they call with `L`: only what is
    /// inlined into the functions below may use their instructions.
    ///
    /// # Safety
    /// The machine must have the instructions of `L`. [`Simd::run`] sees to it.
    unsafe fn run<L: Lanes>(self) -> Self::Output;
}

impl Simd {
    /// Runs `kernel` compiled for these instructions.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        debug_assert!(self <= best());
        match self {
            // SAFETY: a value of `Simd` above `Portable` comes from `best` alone, which asked the machine.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::run_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::run_avx2(kernel) },
            // SAFETY: arrays of floats need nothing.
            _ => unsafe { kernel.run::<portable::Four>() },
        }
    }

    /// Whether there are 32 registers, and not 16.
    pub(crate) fn wide(self) -> bool {
        self == Self::Avx512
    }

    /// Images that are summed together where maps are small: as many as a tile has pixels.
    pub(crate) fn together(self) -> usize {
        if self.wide() { 8 } else { 6 }
    }

    /// Floats in a register.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Portable => 4,
            Self::Avx2 => 8,
            Self::Avx512 => 16,
        }
    }
}
