use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Two wishes that may come from outside at any time: a signal handler holds the same flags.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Finish the step, save, and leave.
    pub now: Arc<AtomicBool>,
    /// Finish the step, save, and go on.
    pub save: Arc<AtomicBool>,
}

impl Stop {
    /// Whether training should leave.
    pub fn asked(&self) -> bool {
        self.now.load(Ordering::Relaxed)
    }

    /// Whether it should save; asking answers the wish.
    pub fn save_asked(&self) -> bool {
        self.save.swap(false, Ordering::Relaxed)
    }
}
