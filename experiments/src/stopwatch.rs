//! Time that passes: measured here and nowhere else, because no result may depend on it.

use std::time::{Duration, Instant};

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// From now on.
    #[expect(clippy::disallowed_methods, reason = "what it measures is shown, and decides nothing")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since it was started.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Since it was started.
    pub fn seconds(self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

/// Milliseconds that the processor has given to all threads of this process; not a number, where the system does not tell.
pub fn processor_ms() -> f64 {
    sokd_train::processor_seconds().map_or(f64::NAN, |seconds| seconds * 1e3)
}
