//! Both tilings against plain loops in double precision, on maps that tiles do not fit and channels that vectors do not.

use super::{Tiling, backward, convolve};
use crate::Conv;
use crate::kernels::backward::{self as plain, Given, Incoming, Wanted};
use crate::kernels::buffer::Fresh;
use crate::kernels::forward::{self, Epilogue, Moments};
use crate::kernels::geometry::Geometry;
use crate::kernels::pack::Direction;
use crate::kernels::sum;
use crate::kernels::tests::{BOTH, Case, case, each, error, geometry, noise};
use crate::kernels::tile::Finish;
use crate::simd::{Simd, levels};
use std::borrow::Cow;

const SAME: Conv = Conv { stride: [1; 2], padding: [1; 2], dilation: [1; 2], groups: 1, winograd: true };

fn awkward() -> Vec<Geometry> {
    let same = |batch, size, channels| geometry(batch, size, channels, [3, 3], SAME);
    vec![
        same(3, [8, 8], [16, 16]),
        same(2, [5, 7], [3, 5]),
        same(2, [9, 6], [58, 100]),
        same(1, [1, 1], [20, 40]),
        same(2, [2, 3], [5, 58]),
        same(7, [4, 4], [100, 3]),
        same(1, [13, 10], [33, 31]),
        same(2, [1, 9], [17, 16]),
        same(2, [7, 7], [300, 24]),
        same(30, [6, 5], [32, 64]),
        same(80, [4, 4], [64, 40]),
    ]
}

/// A gradient that is computed when it is asked for.
struct Computed<'a>(Given<'a>);

impl Incoming for Computed<'_> {
    fn fill(&self, start: usize, gradient: &mut [f32]) {
        self.0.fill(start, gradient);
    }

    fn whole(&self) -> Cow<'_, [f32]> {
        self.0.whole()
    }
}

fn forwards(
    simd: Simd,
    g: &Geometry,
    window: usize,
    [x, kernel]: [&[f32]; 2],
    finish: Finish,
) -> (Vec<f32>, Moments) {
    let mut y = Fresh::new(g.batch * g.output_len());
    let (tiling, out) = (Tiling::new(g, window), y.as_mut_ptr());
    let moments = convolve(simd, g, tiling, Direction::Forward, x, kernel, out, finish);
    // SAFETY: the tiles cover each map.
    (unsafe { y.written() }, moments)
}

/// What windows of four and of six may be wrong by: a plain sum is by a few ten-millionths.
const BOUNDS: [(usize, f64); 2] = [(4, 1e-6), (6, 2e-6)];

#[test]
fn a_convolution_and_its_gradients_are_those_of_plain_loops() {
    for g in awkward() {
        let Case { x, kernel, gradient } = case(&g);
        let (mut y, mut of_x, mut of_kernel) =
            (vec![0.0; gradient.len()], vec![0.0; x.len()], vec![0.0; kernel.len()]);
        each(&g, |i, k, o| {
            let [x, kernel, gradient] = [x[i], kernel[k], gradient[o]].map(f64::from);
            y[o] += x * kernel;
            of_x[i] += gradient * kernel;
            of_kernel[k] += gradient * x;
        });
        for simd in levels() {
            for (window, bound) in BOUNDS {
                let (got, _) = forwards(simd, &g, window, [&x, &kernel], Finish::PLAIN);
                let incoming = Computed(Given(&gradient));
                let gradients =
                    |wanted| backward(simd, &g, Tiling::new(&g, window), &x, &kernel, &incoming, wanted);
                let back = gradients(BOTH);
                let (input, back) = (back.input.unwrap(), back.kernel.unwrap());
                let errors = [error(&got, &y), error(&input, &of_x), error(&back, &of_kernel)];
                assert!(errors.iter().all(|&error| error < bound), "{simd:?} {window} {g:?}: {errors:?}");
                let onto = noise(x.len(), "onto");
                let added = gradients(Wanted { onto: Some(&onto), ..BOTH }).input.unwrap();
                assert!(added == sum(simd, &input, &onto), "{simd:?} {window} {g:?}");
            }
        }
    }
}

#[test]
fn an_epilogue_does_what_it_says_and_counts_what_it_writes() {
    for g in awkward() {
        let Case { x, kernel, gradient: residual } = case(&g);
        let [scale, shift, pivot] = ["scale", "shift", "pivot"].map(|name| noise(g.to, name));
        let mut y = vec![0.0; residual.len()];
        each(&g, |i, k, o| y[o] += f64::from(x[i]) * f64::from(kernel[k]));
        let mut right = vec![[0.0; 2]; g.to];
        for (place, value) in y.iter_mut().enumerate() {
            let channel = place % g.to;
            let [scale, shift, pivot] = [scale[channel], shift[channel], pivot[channel]].map(f64::from);
            *value = (*value * scale + shift + f64::from(residual[place])).max(0.0);
            right[channel][0] += *value - pivot;
            right[channel][1] += (*value - pivot).powi(2);
        }
        let finish = Finish {
            scale: scale.as_ptr(),
            shift: shift.as_ptr(),
            residual: residual.as_ptr(),
            relu: true,
            pivot: pivot.as_ptr(),
            ..Finish::PLAIN
        };
        for simd in levels() {
            for (window, bound) in BOUNDS {
                let (got, counted) = forwards(simd, &g, window, [&x, &kernel], finish);
                assert!(error(&got, &y) < bound, "{simd:?} {window} {g:?}");
                let size = right.iter().flatten().fold(0.0, |size: f64, value| size.max(value.abs()));
                for (counted, right) in counted.iter().flatten().zip(right.iter().flatten()) {
                    assert!((counted - right).abs() < 1e-5 * size, "{simd:?} {g:?}: {counted} for {right}");
                }
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let run = |threads: usize, simd: Simd, g: &Geometry, window: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let Case { x, kernel, gradient } = case(g);
            let pivot = vec![0.5; g.to];
            let finish = Finish { pivot: pivot.as_ptr(), ..Finish::PLAIN };
            let (y, counted) = forwards(simd, g, window, [&x, &kernel], finish);
            let tiling = Tiling::new(g, window);
            let back = backward(simd, g, tiling, &x, &kernel, &Given(&gradient), BOTH);
            let floats = [y, back.input.unwrap(), back.kernel.unwrap()].concat();
            let bits: Vec<u32> = floats.iter().map(|value| value.to_bits()).collect();
            (bits, counted)
        })
    };
    for g in awkward() {
        for simd in levels() {
            for window in [4, 6] {
                let one = run(1, simd, &g, window);
                for threads in [2, 5] {
                    let more = run(threads, simd, &g, window);
                    assert!(one == more, "{threads} threads, {simd:?}, {window}, {g:?}");
                }
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The way of the operations: on request, where it pays, and nowhere else.
#[test]
fn a_convolution_goes_by_winograd_where_it_asks_and_where_it_pays() {
    for (size, channels, pays) in [([8, 8], [64, 64], true), ([8, 8], [8, 8], false)] {
        let asked = geometry(40, size, channels, [3, 3], SAME);
        let not = Geometry { conv: Conv { winograd: false, ..SAME }, ..asked };
        let Case { x, kernel, gradient } = case(&asked);
        for simd in levels() {
            let all = |g: &Geometry| {
                let (y, _) = forward::forward(simd, g, &x, &kernel, &Epilogue::default());
                let back = plain::backward(simd, g, &x, &kernel, &Given(&gradient), BOTH);
                [y, back.input.unwrap(), back.kernel.unwrap()]
            };
            for (got, right) in all(&asked).iter().zip(&all(&not)) {
                assert_eq!(bits(got) != bits(right), pays, "{simd:?} {channels:?}");
                let right: Vec<f64> = right.iter().map(|&value| f64::from(value)).collect();
                assert!(error(got, &right) < 2e-6, "{simd:?} {channels:?}");
            }
        }
    }
    let wide = geometry(40, [8, 8], [64, 64], [3, 3], SAME);
    assert!(Tiling::of(&wide).is_some());
    for other in [
        Conv { winograd: false, ..SAME },
        Conv { stride: [2; 2], ..SAME },
        Conv { padding: [0; 2], ..SAME },
        Conv { dilation: [2; 2], ..SAME },
        Conv { groups: 2, ..SAME },
    ] {
        assert!(Tiling::of(&Geometry { conv: other, ..wide }).is_none(), "{other:?}");
    }
    assert!(Tiling::of(&geometry(40, [8, 8], [64, 64], [5, 5], SAME)).is_none());
}
