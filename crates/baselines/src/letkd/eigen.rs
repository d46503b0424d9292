//! Eigenvalues of symmetric matrices.

/// The eigenvalues of a symmetric matrix of `side` rows, the largest first, and of each its direction, of length 1.
///
/// # Source
/// Householder's reduction to three diagonals, then the QL algorithm with implicit shifts: Bowdler et al., 1968, the
/// procedures tred2 and tql2. Ours: directions lie in rows, which the rotations then run through in order.
pub fn eigen(matrix: &[f64], side: usize) -> Vec<(f64, Vec<f64>)> {
    let mut rows: Vec<Vec<f64>> = matrix.chunks_exact(side.max(1)).map(<[f64]>::to_vec).collect();
    let (mut values, mut beside) = reduce(&mut rows);
    rotate(&mut values, &mut beside, &mut rows);
    let mut pairs: Vec<_> = values.into_iter().zip(rows).collect();
    pairs.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    pairs
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `a += factor · b`
fn lean(a: &mut [f64], factor: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += factor * b);
}

/// Turns a matrix into three diagonals by reflections, whose product takes its place, transposed. The diagonal, and the
/// one beside it behind a 0.
fn reduce(rows: &mut [Vec<f64>]) -> (Vec<f64>, Vec<f64>) {
    let side = rows.len();
    let (mut diagonal, mut beside) = (vec![0.0; side], vec![0.0; side]);
    let mut mirrors: Vec<(usize, f64, Vec<f64>)> = Vec::new();
    for last in (1..side).rev() {
        let mut mirror = rows[last][..last].to_vec();
        let length = dot(&mirror, &mirror).sqrt();
        if last > 1 && length > 0.0 {
            let tip = mirror[last - 1];
            let image = if tip > 0.0 { -length } else { length };
            mirror[last - 1] -= image;
            // H = 1 − mirror · mirrorᵀ / half
            let half = length * length - tip * image;
            let mut turned: Vec<f64> = (0..last).map(|row| dot(&rows[row][..last], &mirror) / half).collect();
            let share = dot(&mirror, &turned) / (2.0 * half);
            lean(&mut turned, -share, &mirror);
            for row in 0..last {
                lean(&mut rows[row][..last], -mirror[row], &turned);
                let factor = -turned[row];
                lean(&mut rows[row][..last], factor, &mirror);
            }
            beside[last] = image;
            mirrors.push((last, half, mirror));
        } else {
            beside[last] = rows[last][last - 1];
        }
    }
    (0..side).for_each(|at| diagonal[at] = rows[at][at]);
    for (at, row) in rows.iter_mut().enumerate() {
        row.fill(0.0);
        row[at] = 1.0;
    }
    // Row i becomes what the reflections make of axis i: the last one first.
    for (last, half, mirror) in mirrors.iter().rev() {
        for row in &mut rows[..*last] {
            let factor = -dot(&row[..*last], mirror) / half;
            lean(&mut row[..*last], factor, mirror);
        }
    }
    (diagonal, beside)
}

/// Turns three diagonals into one by rotations, which the rows take part in.
fn rotate(values: &mut [f64], beside: &mut [f64], rows: &mut [Vec<f64>]) {
    let side = values.len();
    beside.rotate_left(usize::from(side > 0));
    for first in 0..side {
        // It takes two or three in practice; what is left after so many is noise.
        for _round in 0..60 {
            let small = |at: usize| {
                let size = values[at].abs() + values[at + 1].abs();
                beside[at].abs() <= f64::EPSILON * size
            };
            let end = (first..side - 1).find(|&at| small(at)).unwrap_or(side - 1);
            if end == first {
                break;
            }
            let gap = (values[first + 1] - values[first]) / (2.0 * beside[first]);
            let root = gap.hypot(1.0);
            let shift = values[end] - values[first] + beside[first] / (gap + root.copysign(gap));
            let (mut sine, mut cosine, mut lost, mut ahead) = (1.0, 1.0, 0.0, shift);
            let mut broke = false;
            for at in (first..end).rev() {
                let (far, near) = (sine * beside[at], cosine * beside[at]);
                let length = far.hypot(ahead);
                beside[at + 1] = length;
                if length == 0.0 {
                    values[at + 1] -= lost;
                    beside[end] = 0.0;
                    broke = true;
                    break;
                }
                (sine, cosine) = (far / length, ahead / length);
                let back = values[at + 1] - lost;
                let sum = (values[at] - back) * sine + 2.0 * cosine * near;
                lost = sine * sum;
                values[at + 1] = back + lost;
                ahead = cosine * sum - near;
                let (before, after) = rows.split_at_mut(at + 1);
                for (a, b) in before[at].iter_mut().zip(&mut after[0]) {
                    (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
                }
            }
            if !broke {
                values[first] -= lost;
                beside[first] = ahead;
                beside[end] = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sokd_core::Key;

    #[test]
    fn a_matrix_is_the_sum_of_its_directions() {
        for side in [1, 2, 3, 17, 60] {
            let mut stream = Key::new(side as u64).stream();
            let half: Vec<f64> = (0..side * side).map(|_| stream.normal()).collect();
            let at = |row: usize, column: usize| half[row * side + column] + half[column * side + row];
            let matrix: Vec<f64> = (0..side * side).map(|index| at(index / side, index % side)).collect();
            let pairs = eigen(&matrix, side);
            assert!(pairs.windows(2).all(|pair| pair[0].0 >= pair[1].0));
            for (index, (value, direction)) in pairs.iter().enumerate() {
                for (other, (_, with)) in pairs.iter().enumerate() {
                    let expected = f64::from(u8::from(index == other));
                    assert!((dot(direction, with) - expected).abs() < 1e-12, "{side}");
                }
                for (row, own) in matrix.chunks_exact(side).zip(direction) {
                    assert!((dot(row, direction) - value * own).abs() < 1e-11, "{side}");
                }
            }
        }
    }

    #[test]
    fn zeros_have_directions_too() {
        for (value, direction) in eigen(&[0.0; 9], 3) {
            assert!(value.abs() < 1e-15 && (dot(&direction, &direction) - 1.0).abs() < 1e-15);
        }
    }
}
