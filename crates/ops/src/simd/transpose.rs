/// Writes a matrix of `rows` × `columns` floats transposed: `to[column][row] = from[row][column]`, where the rows of
/// `from` begin `from_row` floats apart and those of `to` begin `to_row` apart.
///
/// # Safety
/// Both matrices lie in memory that may be read, and written.
#[inline(always)]
pub(crate) unsafe fn transpose(
    from: *const f32,
    from_row: usize,
    to: *mut f32,
    to_row: usize,
    [rows, columns]: [usize; 2],
) {
    // SAFETY: this function's own condition; all places are inside.
    unsafe {
        for row in (0..rows).step_by(4) {
            for column in (0..columns).step_by(4) {
                let (from, to) = (from.add(row * from_row + column), to.add(column * to_row + row));
                if rows - row >= 4 && columns - column >= 4 {
                    four(from, from_row, to, to_row);
                } else {
                    for row in 0..(rows - row).min(4) {
                        for column in 0..(columns - column).min(4) {
                            *to.add(column * to_row + row) = *from.add(row * from_row + column);
                        }
                    }
                }
            }
        }
    }
}

/// A matrix of 4 × 4. The compiler does not find these eight shuffles by itself.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn four(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
    use std::arch::x86_64::{
        _mm_loadu_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_storeu_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
    };
    // SAFETY: SSE belongs to the architecture; the caller vouches for the pointers.
    unsafe {
        let row = |row: usize| _mm_loadu_ps(from.add(row * from_row));
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        let (low, high) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        _mm_storeu_ps(to, _mm_movelh_ps(low, high));
        _mm_storeu_ps(to.add(to_row), _mm_movehl_ps(high, low));
        let (low, high) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        _mm_storeu_ps(to.add(2 * to_row), _mm_movelh_ps(low, high));
        _mm_storeu_ps(to.add(3 * to_row), _mm_movehl_ps(high, low));
    }
}

/// A matrix of 4 × 4.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn four(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
    for row in 0..4 {
        for column in 0..4 {
            // SAFETY: the caller vouches for the pointers.
            unsafe { *to.add(column * to_row + row) = *from.add(row * from_row + column) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn every_place_goes_where_it_belongs() {
        for [rows, columns] in [[1, 1], [3, 9], [4, 4], [6, 16], [8, 33]] {
            let from: Vec<f32> = (0..rows * (columns + 2)).map(|value| value as f32).collect();
            let mut to = vec![-1.0; columns * (rows + 1)];
            // SAFETY: both vectors hold their matrix.
            unsafe { transpose(from.as_ptr(), columns + 2, to.as_mut_ptr(), rows + 1, [rows, columns]) };
            for (column, there) in to.chunks_exact(rows + 1).enumerate() {
                // The last place of each row lies outside the matrix.
                let here = (0..rows).map(|row| from[row * (columns + 2) + column]).chain([-1.0]);
                assert_eq!(there, here.collect::<Vec<_>>());
            }
        }
    }
}
