//! What the outside world asks of a run.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Exit;

/// What was asked, as flags that a training loop looks at between steps.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Ctrl-C or TERM: finish the step, save, end. A second one ends the program at once.
    pub stop: Arc<AtomicBool>,
    /// USR1: save, and go on.
    pub save: Arc<AtomicBool>,
}

static HEEDED: OnceLock<Signals> = OnceLock::new();

impl Signals {
    /// Heeds signals from now on. Before, they end the program as the system sees fit, which is right for a verb that
    /// has nothing to save.
    pub fn heed() -> Self {
        let signals = HEEDED.get_or_init(|| {
            let signals = Self::default();
            // Registered in this order, so that the first signal finds the flag down and the second finds it up. A
            // system that refuses a handler leaves its own behaviour in place.
            for (signal, exit) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
                flag::register_conditional_shutdown(signal, exit as i32, Arc::clone(&signals.stop)).ok();
                flag::register(signal, Arc::clone(&signals.stop)).ok();
            }
            #[cfg(unix)]
            flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&signals.save)).ok();
            signals
        });
        signals.clone()
    }

    /// Whether someone asked to stop.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
