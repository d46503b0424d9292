//! What the environment decides about how operations run.

use sokd_core::{Error, Result};

/// A variable that has one of a few values; the first of them, unless it is set.
pub(crate) struct Choice {
    name: &'static str,
    values: &'static [&'static str],
}

/// Which form of an operation runs.
pub(crate) const BACKEND: Choice = Choice {
    name: "SOKD_BACKEND",
    values: if cfg!(feature = "mirror") { &["fast", "composed", "mirror"] } else { &["fast", "composed"] },
};

/// The most that the kernels may ask of the processor.
pub(crate) const SIMD: Choice = Choice { name: "SOKD_SIMD", values: &["avx512", "avx2", "portable"] };

/// Whether convolutions on a GPU may round their factors.
pub(crate) const TF32: Choice = Choice { name: "SOKD_TF32", values: &["0", "1"] };

/// Whether the ways of a convolution on a GPU are measured, where it is first met.
pub(crate) const MEASURE: Choice = Choice { name: "SOKD_MEASURE", values: &["0", "1"] };

/// Whether a GPU may be told a step at one word.
pub(crate) const CUDA_GRAPHS: Choice = Choice { name: "SOKD_CUDA_GRAPHS", values: &["1", "0"] };

/// Whether GPUs of several processes may speak to each other by NCCL.
pub(crate) const NCCL: Choice = Choice { name: "SOKD_NCCL", values: &["1", "0"] };

impl Choice {
    /// What it says; the usual, where that is no choice.
    pub(crate) fn get(&self) -> &'static str {
        let said = std::env::var(self.name).unwrap_or_default();
        self.choose(&said).unwrap_or(self.values[0])
    }

    fn choose(&self, said: &str) -> Result<&'static str> {
        let Self { name, values } = self;
        if said.is_empty() {
            return Ok(values[0]);
        }
        let known = values.iter().find(|&&value| value == said);
        known
            .copied()
            .ok_or_else(|| Error::setting(*name, format!("`{said}` is none of {}", values.join(", "))))
    }
}

/// Whether the environment says something that its variables of this crate (`SOKD_BACKEND`, `SOKD_SIMD`, `SOKD_TF32`,
/// `SOKD_MEASURE`, `SOKD_CUDA_GRAPHS`, `SOKD_NCCL`) do not know. The operations go on as if it were not said, so a program had better ask
/// before its first.
///
/// # Errors
/// [`Error::Setting`] for a value that is no choice.
pub fn check_environment() -> Result<()> {
    [BACKEND, SIMD, TF32, MEASURE, CUDA_GRAPHS, NCCL].iter().try_for_each(|choice| {
        let said = std::env::var_os(choice.name).unwrap_or_default();
        choice.choose(&said.to_string_lossy()).map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_nobody_knows_is_an_error_that_names_the_others() {
        assert_eq!(SIMD.choose("").unwrap(), "avx512");
        assert_eq!(SIMD.choose("portable").unwrap(), "portable");
        let error = SIMD.choose("AVX2").unwrap_err().to_string();
        assert_eq!(error, "SOKD_SIMD: `AVX2` is none of avx512, avx2, portable");
    }
}
