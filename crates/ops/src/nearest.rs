use crate::Conv;
use crate::kernels::forward::{Epilogue, forward};
use crate::kernels::geometry::Geometry;
use crate::simd::simd;
use crate::threads::par_map;

/// Points of a piece of work, and centres that they are held against at once: what comes of it stays in a near cache.
const POINTS: usize = 1024;
const CENTRES: usize = 256;

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
    assert!(
        whole(points) && whole(centres) && !centres.is_empty(),
        "whole points and centres, at least one centre"
    );
    let groups: Vec<Group> =
        centres.chunks(CENTRES * width).map(|centres| Group::new(centres, width)).collect();
    let pieces = points.len().div_ceil(POINTS * width);
    let found = par_map(pieces, |piece| {
        let end = points.len().min((piece + 1) * POINTS * width);
        let points = &points[piece * POINTS * width..end];
        let mut best = vec![(f32::NEG_INFINITY, 0); points.len() / width];
        for (first, group) in (0..).step_by(CENTRES).zip(&groups) {
            group.against(points, first, &mut best);
        }
        best.into_iter().map(|(_, centre)| centre).collect::<Vec<u32>>()
    });
    found.concat()
}

/// Some of the centres, as a convolution of single pixels has its weights.
struct Group {
    width: usize,
    count: usize,
    /// `(width, count)`
    kernel: Vec<f32>,
    /// −|c|² / 2 of each.
    shift: Vec<f32>,
}

impl Group {
    fn new(centres: &[f32], width: usize) -> Self {
        let count = centres.len() / width;
        let kernel = (0..centres.len()).map(|at| centres[at % count * width + at / count]).collect();
        let half = |centre: &[f32]| -0.5 * centre.iter().map(|c| f64::from(*c).powi(2)).sum::<f64>();
        Self { width, count, kernel, shift: centres.chunks_exact(width).map(|c| half(c) as f32).collect() }
    }

    /// Notes where one of them is nearer than the best so far; the first of them is centre `first`.
    fn against(&self, points: &[f32], first: u32, best: &mut [(f32, u32)]) {
        let pixels = [1, points.len() / self.width];
        let (from, to, conv) = (self.width, self.count, Conv::default());
        let geometry = Geometry { batch: 1, input: pixels, output: pixels, kernel: [1; 2], from, to, conv };
        // |p − c|² = |p|² − 2 (p·c − |c|² / 2), and |p|² is the same for all centres.
        let epilogue = Epilogue { shift: Some(&self.shift), ..Epilogue::default() };
        let (close, _) = forward(simd(), &geometry, points, &self.kernel, &epilogue);
        for (best, row) in best.iter_mut().zip(close.chunks_exact(self.count)) {
            let largest = largest(row);
            if largest > best.0 {
                let at = row.iter().position(|&number| number >= largest).unwrap_or(0);
                *best = (largest, first + at as u32);
            }
        }
    }
}

/// By lanes, of which the compiler makes vectors.
fn largest(row: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (lanes, rest) = row.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for numbers in lanes {
        for (most, &number) in most.iter_mut().zip(numbers) {
            *most = if number > *most { number } else { *most };
        }
    }
    most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sokd_core::Key;

    #[test]
    fn the_nearest_is_that_of_all_distances() {
        for (number, count, width) in [(1, 1, 1), (1500, 300, 3), (1030, 513, 64), (7, 40, 5)] {
            let mut stream = Key::new(number as u64).stream();
            let mut drawn =
                |count: usize| -> Vec<f32> { (0..count).map(|_| stream.normal() as f32).collect() };
            let (points, centres) = (drawn(number * width), drawn(count * width));
            let found = nearest(&points, &centres, width);
            assert_eq!(found.len(), number);
            for (point, found) in points.chunks_exact(width).zip(found) {
                let distance = |centre: &[f32]| -> f64 {
                    point.iter().zip(centre).map(|(a, b)| f64::from(a - b).powi(2)).sum()
                };
                let least = centres.chunks_exact(width).map(distance).fold(f64::INFINITY, f64::min);
                let found = distance(&centres[found as usize * width..][..width]);
                assert!(found <= least + 1e-4, "{found} and not {least}");
            }
        }
    }

    #[test]
    fn of_equals_the_first_is_found() {
        let centres = [1.0, 2.0].repeat(600);
        assert_eq!(nearest(&[1.0, 2.0, 0.5, 0.0], &centres, 2), [0, 0]);
    }
}
