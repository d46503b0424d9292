/// A register of floats.
///
/// # Safety
/// Every method needs a machine with the register's instructions; those that take pointers need `N` readable or
/// writable floats there, the masked ones as many as the mask has lanes. No alignment is asked for.
pub(crate) trait Lanes: Copy {
    /// Floats in a register.
    const N: usize;
    /// Whether there are 32 registers, and not 16: how large a tile of sums may be.
    const WIDE: bool;
    /// Some first lanes.
    type Mask: Copy;

    /// The first `lanes` lanes; all of them where that is more than there are.
    unsafe fn mask(lanes: usize) -> Self::Mask;
    /// The same value in each lane.
    unsafe fn splat(value: f32) -> Self;
    /// `N` floats in a row.
    unsafe fn load(from: *const f32) -> Self;
    /// Some first floats, and zeros.
    unsafe fn load_some(from: *const f32, mask: Self::Mask) -> Self;
    /// Writes all lanes.
    unsafe fn store(self, to: *mut f32);
    /// Writes some first lanes.
    unsafe fn store_some(self, to: *mut f32, mask: Self::Mask);
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self - other`.
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * other`.
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once where the machine can.
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The larger, lane by lane; `other` where either is not a number.
    unsafe fn max(self, other: Self) -> Self;
    /// `value` where `self` is above zero, and zero elsewhere.
    unsafe fn gate(self, value: Self) -> Self;
}
