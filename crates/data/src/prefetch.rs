use sokd_core::{Error, Result};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Steps made ahead by each thread.
const AHEAD: usize = 2;

/// What `make` gives for each of `steps`, in order, made ahead by `threads` threads; by the caller, without any.
///
/// Thread `t` makes every `threads`-th step and has a queue of its own, so that order needs no sorting, memory is
/// bounded, and nothing depends on who is faster.
pub(crate) fn prefetch<T: Send + 'static>(
    threads: usize,
    steps: Range<usize>,
    make: impl Fn(usize) -> Result<T> + Send + Sync + 'static,
) -> Result<Prefetched<T>> {
    let make: Arc<Make<T>> = Arc::new(make);
    let mut workers = Vec::with_capacity(threads);
    for first in steps.clone().take(threads) {
        let (sender, queue) = sync_channel(AHEAD);
        let (make, mut mine) = (make.clone(), (first..steps.end).step_by(threads));
        let work = move || {
            // A receiver that is gone has seen enough.
            let _ = mine.try_for_each(|step| sender.send(make(step)));
        };
        let thread = std::thread::Builder::new().name("loader".into()).spawn(work);
        let thread = thread.map_err(|error| Error::setting("loader threads", error.to_string()))?;
        workers.push(Worker { queue: Some(queue), thread: Some(thread) });
    }
    Ok(Prefetched { make, workers, first: steps.start, steps })
}

type Make<T> = dyn Fn(usize) -> Result<T> + Send + Sync;

/// The iterator of [`prefetch`]. Dropping it ends its threads and waits for them.
pub(crate) struct Prefetched<T> {
    make: Arc<Make<T>>,
    workers: Vec<Worker<T>>,
    first: usize,
    steps: Range<usize>,
}

struct Worker<T> {
    queue: Option<Receiver<Result<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T> Iterator for Prefetched<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let step = self.steps.next()?;
        let threads = self.workers.len();
        if threads == 0 {
            return Some((self.make)(step));
        }
        let worker = &self.workers[(step - self.first) % threads];
        let made = worker.queue.as_ref().and_then(|queue| queue.recv().ok());
        Some(made.unwrap_or_else(|| {
            self.steps.start = self.steps.end;
            Err(Error::setting("loader threads", format!("the thread that makes step {step} has panicked")))
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.steps.size_hint()
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        // Without its receiver the thread's next send fails, which ends it.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported as a failed step.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn order_is_kept_and_work_is_bounded() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        for threads in [0, 1, 3, 8] {
            let slow_first = move |step: usize| {
                if step.is_multiple_of(3) {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                Ok(step)
            };
            let steps: Vec<usize> =
                prefetch(threads, 4..25, slow_first).unwrap().map(Result::unwrap).collect();
            assert_eq!(steps, (4..25).collect::<Vec<_>>());
        }
        let count = |step| {
            MADE.fetch_add(1, Ordering::SeqCst);
            Ok(step)
        };
        let mut some = prefetch(2, 0..1_000_000, count).unwrap();
        assert_eq!(some.next().unwrap().unwrap(), 0);
        drop(some);
        let made = MADE.load(Ordering::SeqCst);
        assert!(made <= 2 * (AHEAD + 2), "{made} steps were made for one that was taken");
    }

    #[test]
    fn errors_and_panics_are_items() {
        let fails_once = |step| if step == 3 { Err(Error::setting("x", "bad")) } else { Ok(step) };
        let items: Vec<_> = prefetch(2, 0..6, fails_once).unwrap().collect();
        assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 5);
        assert!(items[3].as_ref().unwrap_err().to_string().contains("bad"));

        let panics = |step: usize| if step == 1 { panic!("on purpose") } else { Ok(step) };
        let items: Vec<_> = prefetch(2, 0..6, panics).unwrap().collect();
        assert_eq!(items.len(), 2);
        assert!(items[1].as_ref().unwrap_err().to_string().contains("step 1 has panicked"));
    }
}
