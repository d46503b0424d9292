use super::{Kernel, Lanes};
use std::arch::x86_64::{
    __m256, __m256i, __m512, __mmask16, _CMP_GT_OQ, _mm_castps_pd, _mm_movehl_ps, _mm_store_ss,
    _mm_storel_pd, _mm_storeu_ps, _mm256_add_ps, _mm256_and_ps, _mm256_castps256_ps128, _mm256_cmp_ps,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskload_ps,
    _mm256_max_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_sub_ps,
    _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

/// # Safety
/// The machine must have AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's own condition.
    unsafe { kernel.run::<__m512>() }
}

/// # Safety
/// The machine must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function's own condition.
    unsafe { kernel.run::<__m256>() }
}

// SAFETY (of every call below): the trait's contract.
impl Lanes for __m512 {
    const N: usize = 16;
    const WIDE: bool = true;
    type Mask = __mmask16;

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __mmask16 {
        if lanes >= 16 { u16::MAX } else { (1 << lanes) - 1 }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, mask: __mmask16) -> Self {
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, mask: __mmask16) {
        unsafe { _mm512_mask_storeu_ps(to, mask, self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { _mm512_sub_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm512_mul_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, factor, term) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm512_max_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn gate(self, value: Self) -> Self {
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self, _mm512_setzero_ps()), value) }
    }
}

/// Eight ones and eight zeros: eight of these words from any place are a mask.
static EDGE: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// Some first lanes of eight: how many, and as the instruction that loads them wants it.
#[derive(Clone, Copy)]
pub(crate) struct First {
    lanes: usize,
    words: __m256i,
}

// SAFETY (of every call below): the trait's contract.
impl Lanes for __m256 {
    const N: usize = 8;
    const WIDE: bool = false;
    type Mask = First;

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> First {
        let lanes = lanes.min(8);
        // SAFETY: eight words lie behind each of the places 0 to 8.
        First { lanes, words: unsafe { _mm256_loadu_si256(EDGE.as_ptr().add(8 - lanes).cast()) } }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_some(from: *const f32, mask: First) -> Self {
        unsafe { _mm256_maskload_ps(from, mask.words) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, First { lanes, .. }: First) {
        // AMD's machines take dozens of cycles for a masked store: at most three short ones are as good, and most masks
        // are whole.
        unsafe {
            if lanes == 8 {
                return self.store(to);
            }
            let (mut to, mut rest) = (to, _mm256_castps256_ps128(self));
            if lanes & 4 != 0 {
                _mm_storeu_ps(to, rest);
                (to, rest) = (to.wrapping_add(4), _mm256_extractf128_ps::<1>(self));
            }
            if lanes & 2 != 0 {
                _mm_storel_pd(to.cast(), _mm_castps_pd(rest));
                (to, rest) = (to.wrapping_add(2), _mm_movehl_ps(rest, rest));
            }
            if lanes & 1 != 0 {
                _mm_store_ss(to, rest);
            }
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { _mm256_sub_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { _mm256_mul_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        unsafe { _mm256_fmadd_ps(self, factor, term) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { _mm256_max_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn gate(self, value: Self) -> Self {
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self, _mm256_setzero_ps()), value) }
    }
}
