//! Maps on their way from memory while others are worked on.

use crate::simd::prefetch;

/// Floats of a line of the cache.
pub(crate) const LINE: usize = 16;

/// A stretch of memory that will be read or written soon, asked for a few lines at a time: of many at once the processor
/// waits for the first before it asks for the last.
pub(crate) struct Coming {
    from: *const f32,
    left: usize,
    part: usize,
}

impl Coming {
    /// `floats` of them, in so many parts.
    #[inline(always)]
    pub(crate) fn new(from: *const f32, floats: usize, parts: usize) -> Self {
        let left = floats.div_ceil(LINE);
        Self { from, left, part: left.div_ceil(parts) }
    }

    /// Asks for the next part.
    #[inline(always)]
    pub(crate) fn ask(&mut self) {
        let lines = self.part.min(self.left);
        for line in 0..lines {
            prefetch(self.from.wrapping_add(line * LINE));
        }
        self.from = self.from.wrapping_add(lines * LINE);
        self.left -= lines;
    }
}
