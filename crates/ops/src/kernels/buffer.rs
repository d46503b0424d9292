//! Memory for results and for what lies between.

use std::cell::RefCell;
use std::mem::{ManuallyDrop, MaybeUninit};

/// A result about to be written whole.
///
/// Zeros that are overwritten at once would cost a pass over memory.
pub(crate) struct Fresh(Vec<MaybeUninit<f32>>);

impl Fresh {
    /// Room for `len` floats.
    pub(crate) fn new(len: usize) -> Self {
        let mut room = Vec::with_capacity(len);
        // SAFETY: `MaybeUninit` asks for no value.
        unsafe { room.set_len(len) };
        Self(room)
    }

    /// Where to write.
    pub(crate) fn as_mut_ptr(&mut self) -> Shared {
        Shared(self.0.as_mut_ptr().cast())
    }

    /// The floats.
    ///
    /// # Safety
    /// Each has been written.
    pub(crate) unsafe fn written(self) -> Vec<f32> {
        let mut room = ManuallyDrop::new(self.0);
        // SAFETY: the same allocation, of the same layout; every float is there.
        unsafe { Vec::from_raw_parts(room.as_mut_ptr().cast(), room.len(), room.capacity()) }
    }
}

/// A place that several threads write to, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: a pointer is a number; who writes through it says why no two threads write to one place.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// To the first of `floats`.
    pub(crate) fn to(floats: &mut [f32]) -> Self {
        Self(floats.as_mut_ptr())
    }

    /// `offset` floats on.
    ///
    /// # Safety
    /// That far lies the same allocation.
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: this function's own condition.
        unsafe { self.0.add(offset) }
    }
}

/// One line of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
#[expect(dead_code, reason = "read as floats")]
struct Line([f32; 16]);

thread_local! {
    static SPARE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Working memory of one thread: aligned to cache lines, and warm, because the next who asks gets it again.
pub(crate) struct Scratch {
    lines: Vec<Line>,
    len: usize,
}

impl Scratch {
    /// `len` floats of any value.
    pub(crate) fn any(len: usize) -> Self {
        let needed = len.div_ceil(16);
        let mut lines = SPARE.with_borrow_mut(|spare| fitting(spare, needed));
        if lines.len() < needed {
            // Not both at a time.
            drop(lines);
            lines = vec![Line([0.0; 16]); needed];
        }
        Self { lines, len }
    }

    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut scratch = Self::any(len);
        scratch.fill(0.0);
        scratch
    }
}

/// The smallest that is large enough, or else the largest, so that few grow large. Who needs several at a time should ask for the
/// largest first.
fn fitting(spare: &mut Vec<Vec<Line>>, needed: usize) -> Vec<Line> {
    let fits = (0..spare.len()).filter(|&at| spare[at].len() >= needed).min_by_key(|&at| spare[at].len());
    let found = fits.or_else(|| (0..spare.len()).max_by_key(|&at| spare[at].len()));
    found.map(|at| spare.swap_remove(at)).unwrap_or_default()
}

impl std::ops::Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is 16 floats without padding, and `len` of them are there.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that ends has no more use for it.
        let _ = SPARE.try_with(|spare| spare.borrow_mut().push(lines));
    }
}
