//! What the outside world asks of a run.

use crate::Exit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use sokd_train::Stop;
use std::sync::{Arc, Once, OnceLock};

static HEEDED: OnceLock<Stop> = OnceLock::new();

/// Heeds signals from now on: the first Ctrl-C or TERM asks to save and leave, a second one ends the program at once,
/// USR1 asks to save and go on. Before, they end the program as the system sees fit, which is right for a verb that
/// has nothing to save.
pub fn heed() -> Stop {
    let stop = HEEDED.get_or_init(|| {
        let stop = Stop::default();
        // Not the wish itself, which others may have uttered: a TERM that follows a scheduler's notice is the first.
        let asked = Arc::default();
        // Registered in this order, so that the first signal finds the flag down and the second finds it up. A
        // system that refuses a handler leaves its own behaviour in place.
        for (signal, exit) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
            flag::register_conditional_shutdown(signal, exit as i32, Arc::clone(&asked)).ok();
            for heard in [&asked, &stop.now] {
                flag::register(signal, Arc::clone(heard)).ok();
            }
        }
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&stop.save)).ok();
        stop
    });
    stop.clone()
}

/// As [`heed`], but USR1 asks to save and leave: schedulers send it to say that the time is nearly up.
pub fn heed_notice() -> Stop {
    static NOTICED: Once = Once::new();
    let stop = heed();
    #[cfg(unix)]
    NOTICED.call_once(|| {
        flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&stop.now)).ok();
    });
    stop
}
