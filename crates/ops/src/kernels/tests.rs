//! The kernels against plain loops in double precision, on shapes that fit nothing, for each set of instructions.

use super::affine::apply;
use super::backward::{Given, Wanted, backward};
use super::forward::{Epilogue, forward};
use super::geometry::Geometry;
use super::norm::{gradient_sums, moments};
use super::sum;
use crate::Conv;
use crate::simd::{Simd, levels};
use sokd_core::Key;

/// All that there is to ask for.
pub(super) const BOTH: Wanted<'_> = Wanted { input: true, onto: None, kernel: true };

pub(super) fn noise(len: usize, name: &str) -> Vec<f32> {
    let mut stream = Key::new(1).fold(name).stream();
    (0..len).map(|_| stream.normal() as f32).collect()
}

pub(super) fn geometry(
    batch: usize,
    input: [usize; 2],
    channels: [usize; 2],
    kernel: [usize; 2],
    conv: Conv,
) -> Geometry {
    let mut output = [0; 2];
    for axis in 0..2 {
        let reach = conv.dilation[axis] * (kernel[axis] - 1) + 1;
        output[axis] = (input[axis] + 2 * conv.padding[axis] - reach) / conv.stride[axis] + 1;
    }
    Geometry { batch, input, output, kernel, from: channels[0], to: channels[1], conv }
}

/// Calls `meet` with the places of input, kernel and output that belong together.
pub(super) fn each(g: &Geometry, mut meet: impl FnMut(usize, usize, usize)) {
    let Conv { stride, padding, dilation, groups, .. } = g.conv;
    let (group_from, group_to) = (g.from / groups, g.to / groups);
    for image in 0..g.batch {
        for out in 0..g.output[0] * g.output[1] {
            let (row, column) = (out / g.output[1], out % g.output[1]);
            for tap in 0..g.kernel[0] * g.kernel[1] {
                let (tap_row, tap_column) = (tap / g.kernel[1], tap % g.kernel[1]);
                let from_row = (row * stride[0] + tap_row * dilation[0]).wrapping_sub(padding[0]);
                let from_column = (column * stride[1] + tap_column * dilation[1]).wrapping_sub(padding[1]);
                if from_row >= g.input[0] || from_column >= g.input[1] {
                    continue;
                }
                let x = ((image * g.input[0] + from_row) * g.input[1] + from_column) * g.from;
                let y = (image * g.output[0] * g.output[1] + out) * g.to;
                for to in 0..g.to {
                    let group = to / group_to;
                    for from in 0..group_from {
                        meet(x + group * group_from + from, (tap * group_from + from) * g.to + to, y + to);
                    }
                }
            }
        }
    }
}

/// The root mean square of what is wrong, relative to that of what is right.
pub(super) fn error(got: &[f32], right: &[f64]) -> f64 {
    assert_eq!(got.len(), right.len());
    let wrong: f64 = got.iter().zip(right).map(|(&got, right)| (f64::from(got) - right).powi(2)).sum();
    let size: f64 = right.iter().map(|right| right * right).sum();
    (wrong / size.max(1e-30)).sqrt()
}

/// Shapes at which tiles, vectors, phases and margins end in all the ways they can.
fn awkward() -> Vec<Geometry> {
    let plain = Conv::default();
    let padded = |padding: [usize; 2]| Conv { padding, ..plain };
    let strided = |stride: [usize; 2], padding: [usize; 2]| Conv { stride, padding, ..plain };
    let grouped = |groups: usize, conv: Conv| Conv { groups, ..conv };
    vec![
        geometry(3, [8, 8], [3, 16], [3, 3], padded([1, 1])),
        geometry(2, [9, 7], [16, 16], [3, 3], strided([2, 2], [1, 1])),
        geometry(2, [8, 8], [32, 64], [3, 3], strided([2, 2], [1, 1])),
        geometry(2, [8, 8], [16, 32], [1, 1], strided([2, 2], [0, 0])),
        geometry(2, [4, 4], [24, 58], [1, 1], plain),
        geometry(2, [5, 6], [58, 58], [1, 1], plain),
        geometry(9, [4, 4], [40, 72], [3, 3], padded([1, 1])),
        geometry(17, [2, 2], [33, 31], [3, 3], padded([1, 1])),
        geometry(10, [1, 1], [20, 40], [3, 3], padded([1, 1])),
        geometry(9, [7, 6], [32, 48], [3, 3], strided([2, 2], [1, 1])),
        geometry(8, [6, 5], [40, 36], [3, 2], grouped(2, Conv { dilation: [2, 2], ..padded([2, 1]) })),
        geometry(13, [4, 4], [16, 20], [5, 5], strided([1, 3], [2, 2])),
        geometry(12, [4, 4], [18, 20], [1, 1], grouped(2, plain)),
        geometry(3, [9, 8], [24, 54], [1, 1], plain),
        geometry(2, [3, 9], [5, 1024], [1, 1], plain),
        geometry(7, [5, 6], [48, 60], [1, 1], grouped(3, plain)),
        geometry(2, [11, 9], [240, 60], [1, 1], grouped(3, plain)),
        geometry(2, [9, 7], [5, 7], [5, 3], Conv { dilation: [2, 2], ..padded([4, 2]) }),
        geometry(2, [14, 15], [3, 24], [7, 7], strided([2, 2], [3, 3])),
        geometry(2, [11, 13], [4, 6], [3, 1], strided([3, 2], [2, 0])),
        geometry(2, [10, 9], [6, 5], [1, 5], strided([3, 3], [0, 2])),
        geometry(1, [7, 40], [17, 18], [3, 3], Conv { dilation: [1, 2], ..strided([1, 1], [1, 2]) }),
        geometry(2, [6, 6], [8, 12], [2, 4], strided([2, 3], [3, 3])),
        geometry(2, [9, 7], [6, 10], [3, 3], grouped(2, padded([1, 1]))),
        geometry(2, [9, 7], [24, 36], [3, 3], grouped(3, strided([2, 2], [1, 1]))),
        geometry(9, [4, 5], [64, 64], [3, 3], grouped(16, padded([1, 1]))),
        geometry(2, [9, 7], [58, 58], [3, 3], grouped(58, padded([1, 1]))),
        geometry(2, [9, 7], [24, 24], [3, 3], grouped(24, strided([2, 2], [1, 1]))),
        geometry(
            2,
            [9, 8],
            [20, 20],
            [5, 3],
            grouped(20, Conv { dilation: [1, 2], ..strided([2, 1], [2, 2]) }),
        ),
        geometry(2, [6, 7], [9, 18], [3, 3], grouped(9, padded([1, 1]))),
        geometry(2, [6, 7], [19, 19], [4, 4], grouped(19, strided([3, 2], [2, 1]))),
        geometry(2, [16, 16], [32, 32], [3, 3], padded([1, 1])),
        geometry(2, [5, 7], [130, 20], [3, 3], padded([1, 1])),
        geometry(1, [3, 3], [450, 9], [1, 1], plain),
        geometry(1, [9, 5], [200, 40], [3, 3], Conv { dilation: [2, 2], ..padded([4, 2]) }),
        geometry(2, [9, 10], [37, 70], [3, 3], strided([2, 3], [1, 1])),
        geometry(1, [1, 33], [16, 16], [1, 3], padded([0, 1])),
        geometry(1, [4, 1], [3, 5], [3, 3], padded([1, 1])),
        geometry(2, [3, 20], [70, 9], [5, 3], Conv { dilation: [2, 1], ..padded([4, 1]) }),
        geometry(1, [5, 29], [24, 52], [3, 3], grouped(2, padded([1, 1]))),
    ]
}

pub(super) struct Case {
    pub x: Vec<f32>,
    pub kernel: Vec<f32>,
    pub gradient: Vec<f32>,
}

pub(super) fn case(g: &Geometry) -> Case {
    Case {
        x: noise(g.batch * g.input_len(), "x"),
        kernel: noise(g.kernel_len(), "kernel"),
        gradient: noise(g.batch * g.output_len(), "gradient"),
    }
}

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
            let (got, _) = forward(simd, &g, &x, &kernel, &Epilogue::default());
            let gradients = |wanted| backward(simd, &g, &x, &kernel, &Given(&gradient), wanted);
            let back = gradients(BOTH);
            let (input, back) = (back.input.unwrap(), back.kernel.unwrap());
            let errors = [error(&got, &y), error(&input, &of_x), error(&back, &of_kernel)];
            assert!(errors.iter().all(|&error| error < 2e-6), "{simd:?} {g:?}: {errors:?}");
            // What others had of the input is added last, as if by itself.
            let onto = noise(x.len(), "onto");
            let added = gradients(Wanted { onto: Some(&onto), ..BOTH }).input.unwrap();
            assert!(added == sum(simd, &input, &onto), "{simd:?} {g:?}");
            let back = gradients(Wanted::of([false, false]));
            assert!(back.input.is_none() && back.kernel.is_none());
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
        let epilogue = Epilogue {
            scale: Some(&scale),
            shift: Some(&shift),
            residual: Some(&residual),
            relu: true,
            pivot: Some(&pivot),
        };
        for simd in levels() {
            let (got, counted) = forward(simd, &g, &x, &kernel, &epilogue);
            assert!(error(&got, &y) < 2e-6, "{simd:?} {g:?}");
            let size = right.iter().flatten().fold(0.0, |size: f64, value| size.max(value.abs()));
            for (counted, right) in counted.iter().flatten().zip(right.iter().flatten()) {
                assert!((counted - right).abs() < 1e-5 * size, "{simd:?} {g:?}: {counted} for {right}");
            }
        }
    }
}

#[test]
fn sums_per_channel_are_those_of_plain_loops() {
    for (pixels, channels) in
        [(1, 3), (7, 16), (300, 5), (1000, 24), (523, 58), (40, 130), (2050, 16), (250_000, 3)]
    {
        let [x, gradient, gate] = ["x", "gradient", "gate"].map(|name| noise(pixels * channels, name));
        let pivot = noise(channels, "pivot");
        let mut right = [vec![[0.0; 2]; channels], vec![[0.0; 2]; channels], vec![[0.0; 2]; channels]];
        for place in 0..x.len() {
            let channel = place % channels;
            let apart = f64::from(x[place]) - f64::from(pivot[channel]);
            let value = f64::from(gradient[place]);
            let open = if gate[place] > 0.0 { value } else { 0.0 };
            for (right, value) in right.iter_mut().zip([apart, value, open]) {
                right[channel][0] += value;
                right[channel][1] += value * apart;
            }
        }
        for simd in levels() {
            let got = [
                moments(simd, &x, &pivot),
                gradient_sums(simd, &gradient, None, &x, &pivot),
                gradient_sums(simd, &gradient, Some(&gate), &x, &pivot),
            ];
            for (got, right) in got.iter().flatten().flatten().zip(right.iter().flatten().flatten()) {
                assert!(
                    (got - right).abs() < 1e-6 * pixels as f64,
                    "{simd:?} {pixels} {channels}: {got} for {right}"
                );
            }
        }
    }
}

#[test]
fn a_scale_and_a_shift_with_all_that_may_follow() {
    let (pixels, channels) = (37, 21);
    let [x, residual] = ["x", "residual"].map(|name| noise(pixels * channels, name));
    let [scale, shift] = ["scale", "shift"].map(|name| noise(channels, name));
    for simd in levels() {
        for (added, relu) in [(false, false), (true, false), (false, true), (true, true)] {
            let got = apply(simd, &x, &scale, &shift, added.then_some(&residual[..]), relu);
            for (place, &got) in got.iter().enumerate() {
                let channel = place % channels;
                let mut right = x[place] * scale[channel] + shift[channel];
                if added {
                    right += residual[place];
                }
                if relu {
                    right = right.max(0.0);
                }
                assert!((got - right).abs() < 1e-5, "{simd:?}: {got} for {right}");
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let x = vec![f32::NAN; 40];
    for simd in levels() {
        assert!(apply(simd, &x, &[1.0; 20], &[0.0; 20], None, true).iter().all(|y| y.is_nan()), "{simd:?}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let run = |threads: usize, simd: Simd, g: &Geometry| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let Case { x, kernel, gradient } = case(g);
            let pivot = vec![0.5; g.to];
            let (y, counted) =
                forward(simd, g, &x, &kernel, &Epilogue { pivot: Some(&pivot), ..Epilogue::default() });
            let back = backward(simd, g, &x, &kernel, &Given(&gradient), BOTH);
            let sums = gradient_sums(simd, &gradient, Some(&y), &y, &pivot);
            let floats = [y, back.input.unwrap(), back.kernel.unwrap()].concat();
            let bits: Vec<u32> = floats.iter().map(|value| value.to_bits()).collect();
            (bits, [counted, sums].concat())
        })
    };
    for g in awkward() {
        for simd in levels() {
            let one = run(1, simd, &g);
            for threads in [2, 5] {
                assert!(one == run(threads, simd, &g), "{threads} threads, {simd:?}, {g:?}");
            }
        }
    }
}
