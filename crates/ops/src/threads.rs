//! Work shared among threads. The threads are rayon's; what is shared out, and in which order, is said here.

use sokd_core::{Error, Result};
use std::hint::spin_loop;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
/// for any number. A thread begins with the same stretch of the pieces in every call, because what it made in one operation lies
/// in its own cache when the next one reads it, and takes from the others' stretches when its own is done.
pub(crate) fn par(n: usize, piece: impl Fn(usize) + Send + Sync) {
    let parts = threads().min(n);
    if parts <= 1 {
        return (0..n).for_each(piece);
    }
    watch();
    let stretches: Vec<_> = (0..parts).map(|part| stretch(n, parts, part)).collect();
    let taken: Vec<_> = stretches.iter().map(|stretch| AtomicUsize::new(stretch.start)).collect();
    let done = AtomicUsize::new(0);
    let work = |first: usize| {
        for part in (first..parts).chain(0..first) {
            loop {
                let index = taken[part].fetch_add(1, Relaxed);
                if index >= stretches[part].end {
                    break;
                }
                piece(index);
                done.fetch_add(1, Release);
            }
        }
    };
    let own = || rayon::current_thread_index().unwrap_or(0) % parts;
    rayon::in_place_scope(|scope| {
        for _ in 1..parts {
            scope.spawn(|_| work(own()));
        }
        work(own());
        // The last pieces of the others: a thread that lies down to wait for them is woken too late.
        idle(|| done.load(Acquire) < n);
    });
}

/// What `piece` gives for each of `0..n`, in their order, the work shared among the threads as [`par`] does.
pub(crate) fn par_map<R: Send>(n: usize, piece: impl Fn(usize) -> R + Send + Sync) -> Vec<R> {
    let slots: Vec<_> = (0..n).map(|_| Mutex::new(None)).collect();
    par(n, |index| *lock(&slots[index]) = Some(piece(index)));
    slots.into_iter().map(|slot| lock(&slot).take().expect("each piece is done once")).collect()
}

/// Gives each of `pieces` to `work`, shared among the threads as [`par`] does.
pub(crate) fn par_each<T: Send>(pieces: Vec<T>, work: impl Fn(T) + Sync) {
    let pieces: Vec<_> = pieces.into_iter().map(|piece| Mutex::new(Some(piece))).collect();
    par(pieces.len(), |index| lock(&pieces[index]).take().into_iter().for_each(&work));
}

/// Each is held by one thread, so none waits; where a piece panics, the panic goes on to who asked for the work.
fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often a thread that has nothing to do looks for work before it lies down: for a few tenths of a millisecond, longer than
/// what lies between two operations, and short beside a step.
const LOOKS: usize = 1000;

/// Keeps this thread awake, and at work where there is some, while `wanted` holds and some of the last [`LOOKS`] found any.
fn idle(wanted: impl Fn() -> bool) {
    let mut looks = 0;
    while looks < LOOKS && wanted() {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            looks = 0;
        } else {
            looks += 1;
            (0..16).for_each(|_| spin_loop());
        }
    }
}

/// How many threads stay awake between operations.
static WATCHING: AtomicUsize = AtomicUsize::new(0);

/// Sees to it that the other threads stay awake between operations. A step has hundreds of them, and most are not much longer
/// than it takes to wake a thread of a virtual machine that lay down after the one before.
fn watch() {
    // Neither the thread that trains, which is the first, nor the one that asks.
    let asking = rayon::current_thread_index().unwrap_or(0);
    let others = threads() - if asking == 0 { 1 } else { 2 };
    if others == 0 || WATCHING.compare_exchange(0, others, Relaxed, Relaxed).is_err() {
        return;
    }
    rayon::spawn_broadcast(move |context| {
        if context.index() != 0 && context.index() != asking {
            idle(|| true);
            WATCHING.fetch_sub(1, Relaxed);
        }
    });
}

/// The `part`-th of `parts` nearly equal stretches of `0..n`.
pub(crate) fn stretch(n: usize, parts: usize, part: usize) -> std::ops::Range<usize> {
    n * part / parts..n * (part + 1) / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_piece_is_done_once_and_pieces_share_out_their_own_work() {
        for threads in [1, 2, 5] {
            for n in [0, 1, 7, 64] {
                let squares = pool(threads).install(|| {
                    par_map(n, |outer| par_map(outer, |inner| inner).into_iter().sum::<usize>() * 2 + outer)
                });
                assert!(
                    squares.iter().copied().eq((0..n).map(|n| n * n)),
                    "{threads} threads, {n}: {squares:?}"
                );
                let pieces: Vec<_> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                pool(threads)
                    .install(|| par_each(pieces.iter().collect(), |piece| _ = piece.fetch_add(1, Relaxed)));
                assert!(pieces.iter().all(|times| times.load(Relaxed) == 1), "{threads} threads, {n}");
            }
        }
    }

    #[test]
    fn a_panic_reaches_who_asked_and_the_threads_go_on() {
        pool(3).install(|| {
            for bad in [0, 5, 9] {
                let asked = || par(10, |index| assert!(index != bad, "piece {index} is bad"));
                assert!(std::panic::catch_unwind(asked).is_err(), "{bad}");
                assert!(par_map(10, |index| index).into_iter().eq(0..10), "{bad}");
            }
        });
    }
}
