use super::Lanes;

/// Four floats: one register of SSE2 and of NEON, which the compiler finds by itself.
#[derive(Clone, Copy)]
pub(super) struct Four([f32; 4]);

impl Four {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (a, b) in out.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        Self(out)
    }
}

// SAFETY (of every pointer below): the trait's contract.
impl Lanes for Four {
    const N: usize = 4;
    const WIDE: bool = false;
    type Mask = usize;

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> usize {
        lanes.min(4)
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, mask: usize) -> Self {
        if mask == 4 {
            return unsafe { Self::load(from) };
        }
        let mut out = [0.0; 4];
        for (lane, value) in out.iter_mut().enumerate().take(mask) {
            *value = unsafe { *from.add(lane) };
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, mask: usize) {
        if mask == 4 {
            return unsafe { self.store(to) };
        }
        for (lane, value) in self.0.into_iter().enumerate().take(mask) {
            unsafe { *to.add(lane) = value };
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        let mut out = term.0;
        for ((sum, a), b) in out.iter_mut().zip(self.0).zip(factor.0) {
            // Without the instruction `mul_add` is a call into the C library, a hundred times slower.
            *sum = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                a.mul_add(b, *sum)
            } else {
                a * b + *sum
            };
        }
        Self(out)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn gate(self, value: Self) -> Self {
        self.zip(value, |gate, value| if gate > 0.0 { value } else { 0.0 })
    }
}
