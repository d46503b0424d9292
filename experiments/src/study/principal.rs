//! Principal components.

/// A set of feature vectors in its own principal components.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// Component by component, the value of each vector: the largest variance first.
    pub scores: Vec<Vec<f64>>,
    /// The share of the whole variance that each has.
    pub explained: Vec<f64>,
}

impl Principal {
    /// At most `most` components of some vectors; fewer where fewer have any variance.
    ///
    /// A component's direction is a convention: the number that counts most in it counts positively.
    pub fn of(vectors: &[Vec<f64>], most: usize) -> Self {
        let (count, width) = (vectors.len(), vectors.first().map_or(0, Vec::len));
        let mean: Vec<f64> =
            (0..width).map(|at| vectors.iter().map(|row| row[at]).sum::<f64>() / count as f64).collect();
        let centred: Vec<Vec<f64>> = vectors
            .iter()
            .map(|row| row.iter().zip(&mean).map(|(value, mean)| value - mean).collect())
            .collect();
        // The smaller of the two matrices of products has the same eigenvalues.
        let wide = width > count;
        let columns: Vec<Vec<f64>> =
            (0..width).map(|at| centred.iter().map(|row| row[at]).collect()).collect();
        let lines = if wide { &centred } else { &columns };
        let products = lines.iter().flat_map(|a| lines.iter().map(move |b| dot(a, b))).collect();
        let (values, directions) = eigen(products, lines.len());
        let whole: f64 = values.iter().map(|value| value.max(0.0)).sum();
        // What is below is what rounding left of nothing, and its direction is anything.
        let least = 1e-12 * values.first().copied().unwrap_or(0.0);
        let most = most.min(count.saturating_sub(1));

        let mut principal = Self { scores: Vec::new(), explained: Vec::new() };
        for (value, direction) in
            values.iter().zip(directions).take(most).take_while(|(value, _)| **value > least)
        {
            // As loadings of the vectors' numbers; directions among the vectors become such by a product.
            let mut loading =
                if wide { columns.iter().map(|line| dot(line, &direction)).collect() } else { direction };
            let length = dot(&loading, &loading).sqrt().max(f64::MIN_POSITIVE);
            let largest = loading
                .iter()
                .fold(0.0f64, |most, value| if value.abs() > most.abs() { *value } else { most });
            let scale = largest.signum() / length;
            for value in &mut loading {
                *value *= scale;
            }
            principal.scores.push(centred.iter().map(|row| dot(row, &loading)).collect());
            principal.explained.push(value / whole);
        }
        principal
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The eigenvalues of a symmetric matrix, the largest first, and their directions.
///
/// # Source
/// Jacobi's method, cyclic, with Rutishauser's rotations: slow beside others and hard to get wrong.
fn eigen(mut matrix: Vec<f64>, side: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut directions = vec![0.0; side * side];
    (0..side).for_each(|at| directions[at * side + at] = 1.0);
    for _sweep in 0..60 {
        let squares = |row: usize| matrix[row * side..(row + 1) * side].iter().map(|value| value * value);
        let size: f64 = (0..side).flat_map(squares).sum();
        // Summed for itself: as a difference of sums it would drown in their last digits.
        let outside: f64 = (0..side).flat_map(|row| squares(row).skip(row + 1)).sum();
        if outside.is_nan() || outside <= 1e-28 * size {
            break;
        }
        for p in 0..side {
            for q in p + 1..side {
                let (across, of_p, of_q) = (matrix[p * side + q], matrix[p * side + p], matrix[q * side + q]);
                if across.abs() <= 1e-15 * (of_p * of_q).abs().sqrt() {
                    continue;
                }
                let theta = (of_q - of_p) / (2.0 * across);
                let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                let turn = Turn { cosine, sine: tangent * cosine };
                turn.rows(&mut matrix, side, p, q);
                for row in matrix.chunks_exact_mut(side) {
                    (row[p], row[q]) = turn.of(row[p], row[q]);
                }
                turn.rows(&mut directions, side, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..side).collect();
    let value = |at: usize| matrix[at * side + at];
    order.sort_by(|a, b| value(*b).total_cmp(&value(*a)));
    let direction = |at: &usize| directions[at * side..(at + 1) * side].to_vec();
    (order.iter().map(|at| value(*at)).collect(), order.iter().map(direction).collect())
}

/// A rotation in the plane of two axes.
struct Turn {
    cosine: f64,
    sine: f64,
}

impl Turn {
    fn of(&self, a: f64, b: f64) -> (f64, f64) {
        (self.cosine * a - self.sine * b, self.sine * a + self.cosine * b)
    }

    fn rows(&self, matrix: &mut [f64], side: usize, p: usize, q: usize) {
        let (before, after) = matrix.split_at_mut(q * side);
        for (a, b) in before[p * side..(p + 1) * side].iter_mut().zip(&mut after[..side]) {
            (*a, *b) = self.of(*a, *b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: points on the line (3, 4) t, and a little across it.
    #[test]
    fn a_line_has_one_component() {
        let along = [-2.0, -1.0, 0.0, 1.0, 2.0];
        let across = [0.1, -0.2, 0.2, -0.2, 0.1];
        let vectors: Vec<Vec<f64>> =
            along.iter().zip(across).map(|(t, u)| vec![7.0 + 0.6 * t - 0.8 * u, 0.8 * t + 0.6 * u]).collect();
        let principal = Principal::of(&vectors, 50);
        assert_eq!(principal.scores.len(), 2);
        for (score, t) in principal.scores[0].iter().zip(along) {
            assert!((score - t).abs() < 1e-12, "{score} instead of {t}");
        }
        for (score, u) in principal.scores[1].iter().zip(across) {
            // The first number counts most across the line, and so positively.
            assert!((score + u).abs() < 1e-12, "{score} instead of {}", -u);
        }
        assert!((principal.explained[0] - 10.0 / 10.14).abs() < 1e-12);
    }

    /// The two matrices of products give the same components.
    #[test]
    fn more_numbers_than_vectors_change_nothing() {
        let number = |row: usize, at: usize| {
            ((row * 7 + at * 3 + row * at * at) as f64 * 1.7).sin() * (1.0 + at as f64)
        };
        let vectors = |width: usize| -> Vec<Vec<f64>> {
            (0..6)
                .map(|row| (0..width).map(|at| if at < 4 { number(row, at) } else { 0.0 }).collect())
                .collect()
        };
        let (narrow, wide) = (Principal::of(&vectors(4), 9), Principal::of(&vectors(9), 9));
        assert_eq!(
            (narrow.scores.len(), wide.scores.len()),
            (4, 4),
            "numbers that never change are no component"
        );
        for (a, b) in narrow.scores.iter().flatten().zip(wide.scores.iter().flatten()) {
            assert!((a - b).abs() < 1e-9, "{a} and {b}");
        }
    }

    #[test]
    fn directions_solve_the_equation_they_should() {
        let side = 20;
        let matrix: Vec<f64> = (0..side * side)
            .map(|at| (((at / side) * (at % side)) as f64).cos() * ((at / side + at % side) as f64).sin())
            .collect();
        let (values, directions) = eigen(matrix.clone(), side);
        for (value, direction) in values.iter().zip(&directions) {
            for (row, own) in matrix.chunks_exact(side).zip(direction) {
                assert!((dot(row, direction) - value * own).abs() < 1e-9);
            }
            assert!((dot(direction, direction) - 1.0).abs() < 1e-12);
        }
        assert!(values.is_sorted_by(|a, b| a >= b));
    }
}
