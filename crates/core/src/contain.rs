//! Code of others that panics on damaged input.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of others that checks damaged input by assertions; `None` where it panicked. What it was working on is not
/// looked at again. Whoever installs a hook for panics asks [`is_contained`], because these are no bugs of ours.
pub fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = CONTAINED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work)).ok();
    CONTAINED.set(before);
    done
}

/// Whether this thread is in [`contained`] code.
pub fn is_contained() -> bool {
    CONTAINED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_where_it_is_contained() {
        assert_eq!(contained(|| (is_contained(), 3)), Some((true, 3)));
        assert_eq!(contained(|| assert!(!is_contained(), "a length")), None);
        assert!(!is_contained());
    }
}
