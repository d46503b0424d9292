//! Maps walked as one row of vectors, whatever their channels.
//!
//! Channel by channel, the last vector of each pixel would be masked, and a walk would jump from pixel to pixel: memory
//! brings what lies in a row several times faster.

use crate::simd::{Lanes, Simd};

/// Floats after which vectors and channels begin together again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    channels: usize,
    len: usize,
}

/// Floats of a period at least: sums that are kept for each of its vectors do not wait for themselves, and turning back
/// costs little.
const LEAST: usize = 128;

impl Period {
    /// Of a map of so many channels.
    pub(crate) fn new(simd: Simd, channels: usize) -> Self {
        let lanes = simd.lanes();
        // Lanes are a power of two: what they share with the channels is one, too.
        let shared = lanes.min(1 << channels.trailing_zeros());
        let shortest = channels * lanes / shared;
        Self { channels, len: shortest * LEAST.div_ceil(shortest) }
    }

    /// How many floats.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// What is given per channel, for each float of the period.
    pub(crate) fn of(self, values: &[f32]) -> Vec<f32> {
        values.repeat(self.len / self.channels)
    }

    /// Visits `len` floats that begin with the first channel.
    ///
    /// # Safety
    /// The condition of [`Lanes`], and that of the visitor.
    #[inline(always)]
    pub(crate) unsafe fn walk<L: Lanes>(self, len: usize, visitor: &impl Visit) {
        for start in (0..len).step_by(self.len) {
            let end = self.len.min(len - start);
            let whole = end - end % L::N;
            // SAFETY: this function's own condition.
            unsafe {
                let all = L::mask(L::N);
                for at in (0..whole).step_by(L::N) {
                    visitor.visit::<L, true>(start + at, at, all);
                }
                if whole < end {
                    visitor.visit::<L, false>(start + whole, whole, L::mask(end - whole));
                }
            }
        }
    }
}

/// What is done to the vectors of a map.
pub(crate) trait Visit {
    /// Does it to the one at `place`, whose channels' values begin at `at` of a period. Only where it is not `WHOLE` does the
    /// mask count. `#[inline(always)]`, as all that [`Kernel::run`](crate::simd::Kernel::run) calls.
    ///
    /// # Safety
    /// The condition of [`Lanes`]; the map reaches as far as it is walked.
    unsafe fn visit<L: Lanes, const WHOLE: bool>(&self, place: usize, at: usize, mask: L::Mask);
}

/// A vector, or what the mask has of it.
///
/// # Safety
/// The condition of [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn load<L: Lanes, const WHOLE: bool>(from: *const f32, mask: L::Mask) -> L {
    // SAFETY: this function's own condition.
    unsafe { if WHOLE { L::load(from) } else { L::load_some(from, mask) } }
}

/// Writes a vector, or what the mask has of it.
///
/// # Safety
/// The condition of [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn store<L: Lanes, const WHOLE: bool>(value: L, to: *mut f32, mask: L::Mask) {
    // SAFETY: this function's own condition.
    unsafe { if WHOLE { value.store(to) } else { value.store_some(to, mask) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, levels};
    use std::cell::RefCell;

    struct Seen<'a> {
        channels: usize,
        places: &'a RefCell<Vec<usize>>,
    }

    impl Visit for Seen<'_> {
        #[inline(always)]
        unsafe fn visit<L: Lanes, const WHOLE: bool>(&self, place: usize, at: usize, mask: L::Mask) {
            let mut lanes = [0.0; 16];
            // SAFETY: no vector has more than 16 lanes.
            unsafe { store::<L, WHOLE>(L::splat(1.0), lanes.as_mut_ptr(), mask) };
            assert_eq!(place % self.channels, at % self.channels);
            let count = lanes.iter().filter(|&&lane| lane > 0.0).count();
            self.places.borrow_mut().extend(place..place + count);
        }
    }

    struct Walk<'a>(Period, usize, Seen<'a>);

    impl Kernel for Walk<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            // SAFETY: the visitor asks for nothing.
            unsafe { self.0.walk::<L>(self.1, &self.2) };
        }
    }

    #[test]
    fn every_float_is_visited_once_with_its_channel() {
        for simd in levels() {
            for (channels, pixels) in [(1, 5), (3, 100), (16, 40), (58, 9), (60, 1), (131, 2), (960, 3)] {
                let period = Period::new(simd, channels);
                assert_eq!([period.len() % channels, period.len() % simd.lanes()], [0, 0], "{period:?}");
                let places = RefCell::default();
                simd.run(Walk(period, pixels * channels, Seen { channels, places: &places }));
                assert!(places.take().into_iter().eq(0..pixels * channels), "{simd:?} {channels}");
                let values: Vec<f32> = (0..channels).map(|channel| channel as f32).collect();
                let expected: Vec<f32> = (0..period.len()).map(|at| (at % channels) as f32).collect();
                assert_eq!(period.of(&values), expected);
            }
        }
    }
}
