use std::cell::Cell;
use std::thread::LocalKey;

/// Runs `work` with another value in a place of this thread, and puts the former back, even when `work` unwinds.
///
/// # Example
/// ```
/// use std::cell::Cell;
/// thread_local! { static DEPTH: Cell<u32> = const { Cell::new(0) }; }
/// assert_eq!(sokd_core::scope(&DEPTH, 3, || DEPTH.get()), 3);
/// assert_eq!(DEPTH.get(), 0);
/// ```
pub fn scope<T, R>(place: &'static LocalKey<Cell<T>>, value: T, work: impl FnOnce() -> R) -> R {
    struct Restore<T: 'static>(&'static LocalKey<Cell<T>>, Option<T>);
    impl<T> Drop for Restore<T> {
        fn drop(&mut self) {
            if let Some(former) = self.1.take() {
                self.0.set(former);
            }
        }
    }
    let _restore = Restore(place, Some(place.replace(value)));
    work()
}
