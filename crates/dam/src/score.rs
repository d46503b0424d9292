use crate::areas::{Found, Grid};
use sokd_core::Area;

/// How well boxes lie on what they should have found, and how well the same boxes would lie there by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Intersection over union with the true box, a mean over boxes.
    pub overlap: f64,
    /// The same, expected of the same boxes at places drawn evenly.
    pub overlap_by_chance: f64,
    /// The share of boxes whose centre is in the true box.
    pub inside: f64,
    /// The same, expected of the same boxes at places drawn evenly.
    pub inside_by_chance: f64,
}

/// The score of the boxes in each image against the image's true box; `None` without a box.
///
/// Chance is no estimate: it is the mean over every place of the map where the box fits.
///
/// # Source
/// ours.
pub fn score(found: &[Vec<Found>], truth: &[Area], grid: Grid) -> Option<Score> {
    debug_assert_eq!(found.len(), truth.len());
    let mut sum = Score::default();
    let mut boxes = 0.0;
    for (found, truth) in found.iter().zip(truth) {
        for Found { cells, .. } in found {
            let [rows, columns] = [0, 1].map(|axis| grid.map[axis] - cells.sides()[axis] + 1);
            let places = (0..rows).flat_map(|top| (0..columns).map(move |left| (top, left)));
            for (top, left) in places {
                let place = grid.area(&cells.at(top, left));
                sum.overlap_by_chance += overlap(&place, truth) / (rows * columns) as f64;
                sum.inside_by_chance += inside(&place, truth) / (rows * columns) as f64;
            }
            let place = grid.area(cells);
            sum.overlap += overlap(&place, truth);
            sum.inside += inside(&place, truth);
            boxes += 1.0;
        }
    }
    (boxes > 0.0).then(|| Score {
        overlap: sum.overlap / boxes,
        overlap_by_chance: sum.overlap_by_chance / boxes,
        inside: sum.inside / boxes,
        inside_by_chance: sum.inside_by_chance / boxes,
    })
}

/// Intersection over union.
fn overlap(a: &Area, b: &Area) -> f64 {
    let extent = |area: &Area| f64::from(area.bottom - area.top) * f64::from(area.right - area.left);
    let height = a.bottom.min(b.bottom) - a.top.max(b.top);
    let width = a.right.min(b.right) - a.left.max(b.left);
    let shared = f64::from(height.max(0.0)) * f64::from(width.max(0.0));
    let both = extent(a) + extent(b) - shared;
    if both > 0.0 { shared / both } else { 0.0 }
}

/// 1 where the centre of `a` is in `b`, else 0.
fn inside(a: &Area, b: &Area) -> f64 {
    let (row, column) = (a.top.midpoint(a.bottom), a.left.midpoint(a.right));
    let inside = (b.top..b.bottom).contains(&row) && (b.left..b.right).contains(&column);
    f64::from(u8::from(inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::areas::{Cells, Peak};

    fn found(top: usize, left: usize, bottom: usize, right: usize) -> Found {
        let peak = Peak { channel: 0, row: top, column: left, value: 1.0 };
        Found { peak, size: [1.0; 2], cells: Cells { top, left, bottom, right } }
    }

    /// By hand: a map of 2 × 2 over 8 × 8 pixels, the truth its upper left quarter and half of the next.
    #[test]
    fn a_score_and_its_chance_are_those_of_a_hand() {
        let grid = Grid { map: [2, 2], image: [8, 8] };
        let truth = [Area { top: 0.0, left: 0.0, bottom: 4.0, right: 6.0 }];
        let all = score(&[vec![found(0, 0, 0, 0)]], &truth, grid).expect("a box");
        // 16 of 24 pixels; 8 of 32 in the next cell, whose centre is the first column outside; none below.
        let by_chance = (2.0 / 3.0 + 0.25) / 4.0;
        assert!((all.overlap - 2.0 / 3.0).abs() < 1e-12 && (all.overlap_by_chance - by_chance).abs() < 1e-12);
        assert_eq!((all.inside, all.inside_by_chance), (1.0, 0.25));
        // A box that fits in one place only is where chance would put it.
        let whole = score(&[vec![found(0, 0, 1, 1)]], &truth, grid).expect("a box");
        assert_eq!((whole.overlap, whole.overlap_by_chance), (0.375, 0.375));
        assert_eq!((whole.inside, whole.inside_by_chance), (0.0, 0.0));
        // Boxes count alike, wherever they are.
        let two = score(&[vec![found(0, 0, 0, 0), found(1, 1, 1, 1)]], &truth, grid).expect("boxes");
        assert_eq!((two.overlap, two.inside), (all.overlap / 2.0, 0.5));
        assert!((two.overlap_by_chance - by_chance).abs() < 1e-12);
        assert_eq!(score(&[vec![]], &truth, grid), None);
    }
}
