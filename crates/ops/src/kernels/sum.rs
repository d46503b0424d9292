use super::buffer::Fresh;
use crate::simd::{Kernel, Lanes, Simd};
use crate::threads::{par, stretch};

/// Floats that a piece of the work adds.
const PIECE: usize = 1 << 15;

/// `a + b`.
pub(crate) fn sum(simd: Simd, a: &[f32], b: &[f32]) -> Vec<f32> {
    assert_eq!(a.len(), b.len(), "floats to be added pairwise");
    let mut out = Fresh::new(a.len());
    let out_at = out.as_mut_ptr();
    let pieces = a.len().div_ceil(PIECE);
    par(pieces, |piece| {
        let range = stretch(a.len(), pieces, piece);
        // SAFETY: the stretches do not overlap.
        let out = unsafe { out_at.at(range.start) };
        simd.run(Add { a: &a[range.clone()], b: &b[range], out });
    });
    // SAFETY: the stretches cover it all.
    unsafe { out.written() }
}

struct Add<'a> {
    a: &'a [f32],
    b: &'a [f32],
    out: *mut f32,
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for place in (0..self.a.len()).step_by(L::N) {
            // SAFETY: all three are equally long; the last vector is masked.
            unsafe {
                let mask = L::mask(self.a.len() - place);
                let a = L::load_some(self.a.as_ptr().add(place), mask);
                a.add(L::load_some(self.b.as_ptr().add(place), mask)).store_some(self.out.add(place), mask);
            }
        }
    }
}
