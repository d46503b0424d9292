//! Normal numbers by the million.

use sokd_core::Stream;
use std::sync::LazyLock;

/// Layers of the ziggurat.
const LAYERS: usize = 128;
/// Where its tail begins.
const TAIL: f64 = 3.442_619_855_899;
/// What lies in each layer.
const AREA: f64 = 9.912_563_035_262_17e-3;

/// For every layer its width, and the share of it that lies under the next as well.
static STEPS: LazyLock<[(f32, f32); LAYERS]> = LazyLock::new(|| {
    let height = |x: f64| (-0.5 * x * x).exp();
    let mut wide = [AREA / height(TAIL); LAYERS + 1];
    wide[1] = TAIL;
    for layer in 2..LAYERS {
        let below = wide[layer - 1];
        wide[layer] = (-2.0 * (AREA / below + height(below)).ln()).sqrt();
    }
    wide[LAYERS] = 0.0;
    std::array::from_fn(|layer| (wide[layer] as f32, (wide[layer + 1] / wide[layer]) as f32))
});

/// Fills `numbers` with independent normal ones of a standard deviation: a single word of the stream for 99 of 100.
///
/// # Source
/// Marsaglia and Tsang, "The ziggurat method for generating random variables", 2000, as Doornik, 2005, corrects it.
pub(super) fn fill(numbers: &mut [f32], deviation: f32, stream: &mut Stream) {
    let steps = &*STEPS;
    for number in numbers {
        *number = deviation * normal(steps, stream);
    }
}

fn normal(steps: &[(f32, f32); LAYERS], stream: &mut Stream) -> f32 {
    loop {
        let word = stream.bits();
        let layer = word as usize % LAYERS;
        // The upper 24 bits, which share none with the layer: in (-1, 1).
        let place = ((word >> 8) as f32 + 0.5) * (1.0 / (1 << 23) as f32) - 1.0;
        let (wide, inside) = steps[layer];
        if place.abs() < inside {
            return place * wide;
        }
        let found = if layer == 0 { Some(tail(stream)) } else { edge(steps, layer, place * wide, stream) };
        if let Some(number) = found {
            return if layer == 0 { number.copysign(place) } else { number };
        }
    }
}

/// The number, if it lies under the curve.
fn edge(steps: &[(f32, f32); LAYERS], layer: usize, number: f32, stream: &mut Stream) -> Option<f32> {
    let (wide, inside) = steps[layer];
    let above = |wide: f32| (-0.5 * (wide * wide - number * number)).exp();
    let (low, high) = (above(wide), above(wide * inside));
    let at = stream.uniform() as f32;
    (low + at * (high - low) < 1.0).then_some(number)
}

/// A number beyond the last layer.
fn tail(stream: &mut Stream) -> f32 {
    loop {
        let (beyond, under) = (-(1.0 - stream.uniform()).ln() / TAIL, -(1.0 - stream.uniform()).ln());
        if 2.0 * under >= beyond * beyond {
            return (TAIL + beyond) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sokd_core::Key;

    #[test]
    fn the_numbers_are_normal() {
        let mut numbers = vec![0.0; 1_000_000];
        fill(&mut numbers, 0.5, &mut Key::new(1).stream());
        let count = numbers.len() as f64;
        let moment = |power| numbers.iter().map(|&one| f64::from(one / 0.5).powi(power)).sum::<f64>() / count;
        for (power, expected, within) in [(1, 0.0, 0.005), (2, 1.0, 0.007), (3, 0.0, 0.02), (4, 3.0, 0.05)] {
            assert!((moment(power) - expected).abs() < within, "moment {power}: {}", moment(power));
        }
        // The share beyond 1/2, 1, 2, 3 and, in the tail, 3.5 and 4 deviations, on both sides.
        for (beyond, share) in [
            (0.5, 0.308_537_5),
            (1.0, 0.158_655_3),
            (2.0, 0.022_750_1),
            (3.0, 0.001_349_9),
            (3.5, 0.000_232_63),
            (4.0, 0.000_031_67),
        ] {
            for sign in [1.0, -1.0] {
                let found = numbers.iter().filter(|&&one| sign * one / 0.5 > beyond).count() as f64;
                let due = share * count;
                assert!((found - due).abs() < 4.5 * due.sqrt(), "{found} beyond {beyond} for {due}");
            }
        }
    }
}
