use sokd_core::{Error, Result};

/// Sets the number of threads, once, on the thread that will train and before the first operation.
///
/// That thread becomes one of them: it works while it waits, and a step does not begin with a wake-up call.
/// Candle's own pool is told to stay at one thread, because its workers spin while they wait.
///
/// # Errors
/// [`Error::Setting`] when there would be none, or when the pool runs already.
pub fn set_threads(n: usize) -> Result<()> {
    if n == 0 {
        return Err(Error::setting("threads", "0 threads do no work: at least 1"));
    }
    // SAFETY: the environment is changed before any other thread of this process reads it: that is what "before
    // the first operation" means, and the pool below refuses to be built twice.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    rayon::ThreadPoolBuilder::new()
        .num_threads(n)
        .use_current_thread()
        .build_global()
        .map_err(|problem| Error::setting("threads", problem.to_string()))
}

/// How many threads the operations share.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Does pieces `0..n` of some work, in any order, shared among the threads.
///
/// What a piece is must not depend on how many threads there are: that is how results come out bitwise the same
/// for any number.
pub(crate) fn par(n: usize, piece: impl Fn(usize) + Send + Sync) {
    if n <= 1 || threads() == 1 {
        (0..n).for_each(&piece);
    } else {
        use rayon::iter::{IntoParallelIterator, ParallelIterator};
        (0..n).into_par_iter().for_each(&piece);
    }
}

/// What `piece` gives for each of `0..n`, in their order, the work shared among the threads as [`par`] does.
pub(crate) fn par_map<R: Send>(n: usize, piece: impl Fn(usize) -> R + Send + Sync) -> Vec<R> {
    if n <= 1 || threads() == 1 {
        (0..n).map(piece).collect()
    } else {
        use rayon::iter::{IntoParallelIterator, ParallelIterator};
        (0..n).into_par_iter().map(piece).collect()
    }
}

/// The `part`-th of `parts` nearly equal stretches of `0..n`.
pub(crate) fn stretch(n: usize, parts: usize, part: usize) -> std::ops::Range<usize> {
    n * part / parts..n * (part + 1) / parts
}
