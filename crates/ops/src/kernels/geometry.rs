use super::winograd::Tiling;
use crate::Conv;
use std::fmt;
use std::ops::Range;

/// The sizes of a convolution; height first in each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    /// Images.
    pub batch: usize,
    /// Size of the input map.
    pub input: [usize; 2],
    /// Size of the output map.
    pub output: [usize; 2],
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Channels read.
    pub from: usize,
    /// Channels written.
    pub to: usize,
    /// How the window moves.
    pub conv: Conv,
}

impl fmt::Display for Geometry {
    /// As people compare convolutions: `convolution 3 x 3 / 2, 32 x 32, 16 to 32, by Winograd`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if Tiling::of(self).is_some() { ", by Winograd" } else { "" };
        write!(out, "{}{how}", self.name())
    }
}

impl Geometry {
    /// The same, however this machine would go about it.
    pub fn name(&self) -> String {
        let ([height, width], [rows, columns]) = (self.kernel, self.input);
        let Conv { stride: [down, right], groups, .. } = self.conv;
        let step = if (down, right) == (1, 1) { String::new() } else { format!(" / {}", down.max(right)) };
        let apart = if groups > 1 { format!(", {groups} groups") } else { String::new() };
        let (from, to) = (self.from, self.to);
        format!("convolution {height} x {width}{step}, {rows} x {columns}, {from} to {to}{apart}")
    }
}

impl Geometry {
    /// Floats of an input map.
    pub(crate) fn input_len(&self) -> usize {
        self.input[0] * self.input[1] * self.from
    }

    /// Floats of an output map.
    pub(crate) fn output_len(&self) -> usize {
        self.output[0] * self.output[1] * self.to
    }

    /// Floats of the kernel.
    pub(crate) fn kernel_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.group_from() * self.to
    }

    /// Channels that a group reads.
    pub(crate) fn group_from(&self) -> usize {
        self.from / self.conv.groups
    }

    /// Channels that a group writes.
    pub(crate) fn group_to(&self) -> usize {
        self.to / self.conv.groups
    }

    /// Whether each channel is a group of its own.
    pub(crate) fn depthwise(&self) -> bool {
        self.conv.groups == self.from && self.conv.groups == self.to
    }

    /// Whether each output sees one pixel, and channels meet: an output then is where its input is.
    pub(crate) fn pointwise(&self) -> bool {
        let Conv { stride, padding, .. } = self.conv;
        [self.kernel, stride] == [[1, 1]; 2] && padding == [0, 0] && !self.depthwise()
    }

    /// Outputs of all images.
    pub(crate) fn pixels(&self) -> usize {
        self.batch * self.output[0] * self.output[1]
    }

    /// How outputs see inputs.
    pub(crate) fn forward(&self) -> Walk {
        let axis = |axis: usize| {
            let Conv { stride, padding, dilation, .. } = self.conv;
            let place = |tap| (tap * dilation[axis]) as isize - padding[axis] as isize;
            Axis {
                first: 0,
                step: 1,
                count: self.output[axis],
                stride: stride[axis],
                limit: self.input[axis],
                taps: (0..self.kernel[axis]).map(|tap| (place(tap), tap)).collect(),
            }
        };
        Walk { rows: axis(0), columns: axis(1) }
    }

    /// How the gradients of inputs see those of outputs: one walk for each place of an input within a stride,
    /// because each is reached by taps of its own.
    pub(crate) fn backward(&self) -> Vec<Walk> {
        let axes = |axis: usize| -> Vec<Axis> {
            let Conv { stride, padding, dilation, .. } = self.conv;
            let stride = stride[axis];
            (0..stride.min(self.input[axis]))
                .map(|first| {
                    let taps = (0..self.kernel[axis]).rev().filter_map(|tap| {
                        let ahead = (first + padding[axis]) as isize - (tap * dilation[axis]) as isize;
                        (ahead.rem_euclid(stride as isize) == 0)
                            .then(|| (ahead.div_euclid(stride as isize), tap))
                    });
                    Axis {
                        first,
                        step: stride,
                        count: (self.input[axis] - first).div_ceil(stride),
                        stride: 1,
                        limit: self.output[axis],
                        taps: taps.collect(),
                    }
                })
                .collect()
        };
        let columns = axes(1);
        let walk = |rows: Axis| {
            columns.iter().map(move |columns| Walk { rows: rows.clone(), columns: columns.clone() })
        };
        axes(0).into_iter().flat_map(walk).collect()
    }
}

/// Which inputs meet in which outputs, along both axes: a correlation, of the map or of its gradient.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    /// Along the height.
    pub rows: Axis,
    /// Along the width.
    pub columns: Axis,
}

impl Walk {
    /// How many taps the window has.
    pub(crate) fn taps(&self) -> usize {
        self.rows.taps.len() * self.columns.taps.len()
    }
}

/// One axis of a [`Walk`]: its outputs are `first + step · i` for `i < count`, and output `i` reads the inputs
/// `place + stride · i` of all taps, where there are such.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// The first output.
    pub first: usize,
    /// From one output to the next.
    pub step: usize,
    /// How many outputs.
    pub count: usize,
    /// From one output to the next, in inputs.
    pub stride: usize,
    /// How many inputs there are.
    pub limit: usize,
    /// Where output 0 looks, and at which place of the kernel that is; ascending, evenly spaced.
    pub taps: Vec<(isize, usize)>,
}

impl Axis {
    /// How many taps from tap `first` on look at neighbouring inputs.
    pub(crate) fn neighbours(&self, first: usize) -> usize {
        match self.taps.get(first..) {
            None | Some([]) => 0,
            Some([_]) => 1,
            // They are evenly spaced.
            Some(taps) => {
                if taps[0].0 + 1 == taps[1].0 {
                    taps.len()
                } else {
                    1
                }
            }
        }
    }

    /// Whether each output sees its own input and the two beside it, in their order, and nothing else.
    pub(crate) fn abreast(&self) -> bool {
        let places = self.taps.iter().map(|&(place, _)| place);
        self.stride == 1 && self.count == self.limit && places.eq(-1..=1)
    }

    /// The taps that see an input from output `at`.
    pub(crate) fn inside(&self, at: usize) -> Range<usize> {
        let shift = (at * self.stride) as isize;
        let before = self.taps.partition_point(|&(place, _)| place + shift < 0);
        let end = self.taps.partition_point(|&(place, _)| place + shift < self.limit as isize);
        before..end.max(before)
    }

    /// The outputs that see an input through tap `tap`.
    pub(crate) fn seeing(&self, tap: usize) -> Range<usize> {
        let place = self.taps[tap].0;
        let stride = self.stride as isize;
        let first = (-place).max(0) + stride - 1;
        let end = (self.limit as isize - place).max(0) + stride - 1;
        let (first, end) = ((first / stride) as usize, (end / stride) as usize);
        first.min(self.count)..end.clamp(first.min(self.count), self.count)
    }

    /// Zeros needed before the first and behind the last input, so that every tap sees something.
    pub(crate) fn margin(&self) -> [usize; 2] {
        let (Some((low, _)), Some((high, _))) = (self.taps.first(), self.taps.last()) else { return [0, 0] };
        let last = (self.count.max(1) - 1) * self.stride;
        let behind = high + last as isize + 1 - self.limit as isize;
        [(-low).max(0) as usize, behind.max(0) as usize]
    }
}
