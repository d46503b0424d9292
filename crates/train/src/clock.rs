//! What a run costs in time. Nothing is decided by it.

use crate::Progress;
use std::time::Instant;

/// Time by the wall clock and by the processor: that of this process, added to what a run had before it was interrupted.
pub(crate) struct Clock {
    seconds: f64,
    /// None where the system does not tell, or did not when the run began.
    processor_seconds: Option<f64>,
    began: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "time is counted as a cost; nothing is decided by it")]
    pub fn from(at: &Progress) -> Self {
        let before = at.processor_seconds.or((at.seconds == 0.0).then_some(0.0));
        Self {
            seconds: at.seconds,
            processor_seconds: before.zip(processor_seconds()).map(|(before, now)| before - now),
            began: Instant::now(),
        }
    }

    /// Brings a run's times up to date.
    pub fn note(&self, at: &mut Progress) {
        at.seconds = self.seconds + self.began.elapsed().as_secs_f64();
        at.processor_seconds =
            self.processor_seconds.zip(processor_seconds()).map(|(before, now)| before + now);
    }
}

/// Seconds that processors have given to all threads of this process; none, where the system does not tell.
pub fn processor_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
    }
    #[cfg(not(unix))]
    None
}
