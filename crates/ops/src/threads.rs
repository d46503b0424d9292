use sokd_core::{Error, Result};

/// Sets the number of threads, once, before the first operation.
///
/// # Errors
/// [`Error::Setting`] when the pool runs already.
pub fn set_threads(n: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .build_global()
        .map_err(|problem| Error::setting("threads", problem.to_string()))
}

/// How many threads the operations share.
pub fn threads() -> usize {
    rayon::current_num_threads()
}
