//! Two samples of numbers against each other.

/// What two samples of one number say of their distributions.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Compared {
    /// The largest distance of their distribution functions: Kolmogorov and Smirnov's D.
    pub statistic: f64,
    /// How often samples of one distribution are at least so far apart.
    pub p: f64,
    /// The area between their distribution functions: Wasserstein's distance of order 1.
    pub wasserstein: f64,
}

/// Compares two samples, neither of them empty.
pub fn compare(a: &[f64], b: &[f64]) -> Compared {
    let (a, b) = (sorted(a), sorted(b));
    let statistic = statistic(&a, &b);
    Compared { statistic, p: significance(statistic, a.len(), b.len()), wasserstein: wasserstein(&a, &b) }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The values of both, each with the shares of either sample that are not above it.
fn steps<'a>(a: &'a [f64], b: &'a [f64]) -> impl Iterator<Item = (f64, f64, f64)> + 'a {
    let all = sorted(&[a, b].concat());
    let share = |of: &[f64], value: f64| of.partition_point(|other| *other <= value) as f64 / of.len() as f64;
    all.into_iter().map(move |value| (value, share(a, value), share(b, value)))
}

fn statistic(a: &[f64], b: &[f64]) -> f64 {
    steps(a, b).map(|(_, a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn wasserstein(a: &[f64], b: &[f64]) -> f64 {
    let steps: Vec<_> = steps(a, b).collect();
    steps.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 - pair[0].2).abs()).sum()
}

/// The p-value of a two-sided test, as SciPy's `ks_2samp(method="asymp")` has it: two samples of n and m count as one of
/// nm / (n + m), rounded, against a known distribution.
fn significance(d: f64, a: usize, b: usize) -> f64 {
    // Half to even, as numpy rounds.
    let n = (a as f64 * b as f64 / (a + b) as f64).round_ties_even() as usize;
    beyond(d, n.max(1)).clamp(0.0, 1.0)
}

/// The probability that a sample of `n` is further than `d` from its distribution.
///
/// # Source
/// Marsaglia, Tsang and Wang, 2003, *Evaluating Kolmogorov's distribution*; far out, where twice the one-sided
/// probability (Birnbaum and Tingey, 1951) is exact to ten digits and the matrix grows large, that.
fn beyond(d: f64, n: usize) -> f64 {
    let count = n as f64;
    if d <= 0.5 / count {
        return 1.0;
    }
    if d >= 1.0 {
        return 0.0;
    }
    if d >= 0.5 || count * d * d >= 4.0 { 2.0 * one_sided(d, n) } else { 1.0 - within(d, n) }
}

/// d Σⱼ C(n, j) (d + j/n)^(j−1) (1 − d − j/n)^(n−j), over j up to n(1 − d).
fn one_sided(d: f64, n: usize) -> f64 {
    let count = n as f64;
    let mut sum = 0.0;
    let mut ways = 0.0; // log C(n, j)
    for j in 0..=(count * (1.0 - d)).floor() as usize {
        if j > 0 {
            ways += ((n - j + 1) as f64 / j as f64).ln();
        }
        let at = j as f64 / count;
        let rest = 1.0 - d - at;
        let tail = if j == n { 0.0 } else { (n - j) as f64 * rest.max(0.0).ln() };
        sum += (ways + (j as f64 - 1.0) * (d + at).ln() + tail).exp();
    }
    d * sum
}

/// The probability that a sample of `n` is nearer than `d` to its distribution.
fn within(d: f64, n: usize) -> f64 {
    let count = n as f64;
    let k = (count * d).floor() as usize + 1;
    let side = 2 * k - 1;
    let h = k as f64 - count * d;
    let mut one = vec![0.0; side * side];
    for row in 0..side {
        for column in 0..side.min(row + 2) {
            one[row * side + column] = 1.0;
        }
    }
    for at in 0..side {
        one[at * side] -= h.powi(at as i32 + 1);
        one[(side - 1) * side + at] -= h.powi((side - at) as i32);
    }
    if 2.0 * h > 1.0 {
        one[(side - 1) * side] += (2.0 * h - 1.0).powi(side as i32);
    }
    for row in 0..side {
        for column in 0..side.min(row + 2) {
            for factor in 1..=(row + 1 - column) {
                one[row * side + column] /= factor as f64;
            }
        }
    }
    let (power, mut exponent) = power(&one, side, n);
    let mut value = power[(k - 1) * side + k - 1];
    for factor in 1..=n {
        value *= factor as f64 / count;
        if value < 1e-140 {
            value *= 1e140;
            exponent -= 140;
        }
    }
    value * 10f64.powi(exponent)
}

/// A matrix to the power of n, and the power of ten that was taken out on the way.
fn power(matrix: &[f64], side: usize, n: usize) -> (Vec<f64>, i32) {
    if n == 1 {
        return (matrix.to_vec(), 0);
    }
    let (half, exponent) = power(matrix, side, n / 2);
    let mut whole = product(&half, &half, side);
    let mut exponent = 2 * exponent;
    if !n.is_multiple_of(2) {
        whole = product(&whole, matrix, side);
    }
    if whole[(side / 2) * side + side / 2] > 1e140 {
        for value in &mut whole {
            *value *= 1e-140;
        }
        exponent += 140;
    }
    (whole, exponent)
}

fn product(a: &[f64], b: &[f64], side: usize) -> Vec<f64> {
    let mut out = vec![0.0; side * side];
    for (row, out) in a.chunks_exact(side).zip(out.chunks_exact_mut(side)) {
        for (factor, other) in row.iter().zip(b.chunks_exact(side)) {
            out.iter_mut().zip(other).for_each(|(out, other)| *out += factor * other);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, expected: f64, within: f64) {
        assert!((got - expected).abs() <= within * expected.abs().max(1e-12), "{got} instead of {expected}");
    }

    /// Marsaglia, Tsang and Wang's own example: K(10, 0.274) = 0.6284796…
    #[test]
    fn kolmogorovs_distribution_is_the_published_one() {
        near(within(0.274, 10), 0.628_479_615_446_5, 1e-10);
    }

    /// By the same formula in whole fractions.
    #[test]
    fn no_digits_are_lost() {
        near(significance(0.04, 500, 500), 0.803_351_272_990_850_3, 1e-12);
        near(significance(0.1, 100, 100), 0.662_311_270_465_818_5, 1e-12);
    }

    /// Where the two formulas meet, they agree.
    #[test]
    fn far_out_twice_one_side_is_the_whole() {
        for n in [50, 250] {
            let d = (4.0 / n as f64).sqrt();
            near(2.0 * one_sided(d, n), 1.0 - within(d, n), 1e-8);
        }
    }

    /// By hand: {0, 1} against {1, 2, 3} and against itself.
    #[test]
    fn small_samples_are_those_of_a_hand() {
        let compared = compare(&[1.0, 0.0], &[2.0, 1.0, 3.0]);
        near(compared.statistic, 2.0 / 3.0, 1e-12);
        // Between 0 and 1 the functions differ by 1/2, from 1 to 2 by 2/3, from 2 to 3 by 1/3.
        near(compared.wasserstein, 1.5, 1e-12);
        let same = compare(&[1.0, 0.0], &[0.0, 1.0]);
        assert_eq!(same, Compared { statistic: 0.0, p: 1.0, wasserstein: 0.0 });
    }
}
