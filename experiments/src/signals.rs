//! What the outside world asks of a run.

use crate::Exit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use sokd_train::Stop;
use std::sync::{Arc, OnceLock};

static HEEDED: OnceLock<Stop> = OnceLock::new();

/// Heeds signals from now on: the first Ctrl-C or TERM asks to save and leave, a second one ends the program at once,
/// USR1 asks to save and go on. Before, they end the program as the system sees fit, which is right for a verb that
/// has nothing to save.
pub fn heed() -> Stop {
    let stop = HEEDED.get_or_init(|| {
        let stop = Stop::default();
        // Registered in this order, so that the first signal finds the flag down and the second finds it up. A
        // system that refuses a handler leaves its own behaviour in place.
        for (signal, exit) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
            flag::register_conditional_shutdown(signal, exit as i32, Arc::clone(&stop.now)).ok();
            flag::register(signal, Arc::clone(&stop.now)).ok();
        }
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&stop.save)).ok();
        stop
    });
    stop.clone()
}
