//! A convolution of one image after another, forwards or backwards.

use super::buffer::Scratch;
use super::depthwise::Depthwise;
use super::geometry::{Geometry, Walk};
use super::pack::{Direction, Order, Packed};
use super::rows::{Image, Padded, Runs};
use super::tile::Finish;
use super::together::small;
use crate::simd::Simd;
use crate::threads::stretch;

/// A convolution in one direction, ready for any image.
pub(crate) struct Pass<'a> {
    simd: Simd,
    geometry: Geometry,
    direction: Direction,
    kernel: &'a [f32],
    walks: Vec<Walk>,
    /// By walk; none where no sum crosses channels.
    dense: Vec<Dense>,
    margin: [usize; 2],
}

/// A walk's runs and, by group, its weights, in their order.
struct Dense {
    order: Order,
    runs: Runs,
    weights: Vec<Packed>,
}

impl<'a> Pass<'a> {
    /// Packs the weights.
    pub(crate) fn new(simd: Simd, geometry: &Geometry, direction: Direction, kernel: &'a [f32]) -> Self {
        let walks = match direction {
            Direction::Forward => vec![geometry.forward()],
            Direction::Backward => geometry.backward(),
        };
        let mut pass =
            Self { simd, geometry: *geometry, direction, kernel, walks, dense: Vec::new(), margin: [0, 0] };
        // Taps abreast need no zeros beside a row.
        let margins = pass.walks.iter().filter(|walk| pass.order(walk) == Order::TapByTap);
        let margins = margins.map(|walk| walk.columns.margin());
        pass.margin = margins.fold([0, 0], |all, one| [all[0].max(one[0]), all[1].max(one[1])]);
        if !geometry.depthwise() {
            let dense = |walk| pass.dense(walk);
            pass.dense = pass.walks.iter().map(dense).collect();
        }
        pass
    }

    /// In which order the weights of a walk are met. That of small maps is the order in which a larger batch of them goes: what
    /// is said of an image must not depend on how many stand beside it.
    fn order(&self, walk: &Walk) -> Order {
        let Self { simd, geometry, .. } = self;
        if simd.wide() && walk.columns.abreast() && !geometry.depthwise() && !small(geometry) {
            Order::Abreast
        } else {
            Order::TapByTap
        }
    }

    fn dense(&self, walk: &Walk) -> Dense {
        let order = self.order(walk);
        let (read, _) = self.direction.channels(&self.geometry);
        let [left, right] = self.margin;
        let pixel = self.channels()[0];
        let weights = (0..self.geometry.conv.groups).map(|group| {
            Packed::new(self.simd, &self.geometry, self.direction, walk, order, self.kernel, group)
        });
        Dense {
            order,
            runs: Runs::new(walk, order, left + walk.columns.limit + right, pixel, read),
            weights: weights.collect(),
        }
    }

    /// Channels of the maps that are read and written.
    fn channels(&self) -> [usize; 2] {
        let Geometry { from, to, .. } = self.geometry;
        match self.direction {
            Direction::Forward => [from, to],
            Direction::Backward => [to, from],
        }
    }

    /// Zero pixels that it wants on either side of a row.
    pub(crate) fn margin(&self) -> [usize; 2] {
        self.margin
    }

    /// Convolves one image, whose margins are as wanted. `next`: what will be read and written then, and how many floats.
    ///
    /// # Safety
    /// The image is there, and room for what is made of it; what `finish` has reaches as far.
    pub(crate) unsafe fn image(
        &self,
        input: Padded,
        out: *mut f32,
        finish: Finish,
        next: [(*const f32, usize); 2],
    ) {
        let (read, written) = self.direction.channels(&self.geometry);
        let [_, out_pixel] = self.channels();
        let out_width = match self.direction {
            Direction::Forward => self.geometry.output[1],
            Direction::Backward => self.geometry.input[1],
        };
        for (index, walk) in self.walks.iter().enumerate() {
            let Some(Dense { order, runs, weights }) = self.dense.get(index) else {
                let (kernel, kernel_width) = (self.kernel, self.geometry.kernel[1]);
                let next = next.map(|(from, floats)| {
                    let part = stretch(floats, self.walks.len(), index);
                    (from.wrapping_add(part.start), part.len())
                });
                self.simd.run(Depthwise { walk, input, kernel, kernel_width, out, out_width, finish, next });
                continue;
            };
            for (group, weights) in weights.iter().enumerate() {
                self.simd.run(Image {
                    walk,
                    runs,
                    input: input.channel(group * read),
                    weights,
                    order: *order,
                    channels: written,
                    out: out.wrapping_add(group * written),
                    out_width,
                    out_pixel,
                    finish: finish.at(group * written, group * written),
                });
            }
        }
    }
}

/// A map with zero pixels left and right of each row.
pub(crate) struct Bordered<'a> {
    /// Where no zeros are asked for, the map is not copied.
    whole: Option<&'a [f32]>,
    copy: Scratch,
    left: usize,
    width: usize,
    channels: usize,
}

impl<'a> Bordered<'a> {
    /// A map that is there.
    pub(crate) fn of(map: &'a [f32], size: [usize; 2], channels: usize, margin: [usize; 2]) -> Self {
        if margin == [0, 0] {
            return Self { whole: Some(map), copy: Scratch::any(0), left: 0, width: size[1], channels };
        }
        let len = size[1] * channels;
        Self::new(size, channels, margin, |row, out| out.copy_from_slice(&map[row * len..][..len]))
    }

    /// A map whose rows `fill` writes.
    pub(crate) fn new(
        [height, width]: [usize; 2],
        channels: usize,
        [left, right]: [usize; 2],
        fill: impl Fn(usize, &mut [f32]),
    ) -> Self {
        let (start, end) = (left * channels, (left + width) * channels);
        let width = left + width + right;
        let mut copy = Scratch::any(height * width * channels);
        for (index, row) in copy.chunks_exact_mut(width * channels).enumerate() {
            row[..start].fill(0.0);
            fill(index, &mut row[start..end]);
            row[end..].fill(0.0);
        }
        Self { whole: None, copy, left, width, channels }
    }

    /// Where it lies.
    pub(crate) fn padded(&self) -> Padded {
        let floats = self.whole.unwrap_or(&self.copy).as_ptr();
        Padded { floats, left: self.left, width: self.width, pixel: self.channels }
    }
}
