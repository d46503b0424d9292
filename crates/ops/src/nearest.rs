use crate::fast;

/// Of each point, which centre is nearest by Euclid: the first of equals. Points and centres of `width` numbers lie one
/// behind the other.
///
/// # Panics
/// When a point or centre is torn, or there is no centre.
///
/// # Example
/// ```
/// let (points, centres) = ([0.0, 0.0, 5.0, 4.0], [4.0, 4.0, 0.0, 1.0]);
/// assert_eq!(sokd_ops::nearest(&points, &centres, 2), [1, 0]);
/// ```
pub fn nearest(points: &[f32], centres: &[f32], width: usize) -> Vec<u32> {
    let whole = |numbers: &[f32]| width > 0 && numbers.len().is_multiple_of(width);
    assert!(whole(points) && whole(centres) && !centres.is_empty(), "whole points and at least one whole centre");
    fast::nearest(points, centres, width)
}
