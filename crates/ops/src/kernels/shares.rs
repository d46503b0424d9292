//! What each image adds to the gradient of a kernel.

use super::buffer::Fresh;
use super::depthwise::DepthwiseShare;
use super::geometry::{Geometry, Walk};
use super::pass::Bordered;
use super::rows::Padded;
use super::weights::{Correlation, Sums};
use crate::simd::Simd;

/// The sums that become the gradient of a kernel.
pub(crate) struct Shares {
    simd: Simd,
    geometry: Geometry,
    walk: Walk,
    layout: Sums,
}

impl Shares {
    pub(crate) fn new(simd: Simd, geometry: &Geometry) -> Self {
        let layout = Sums::new(geometry, simd.lanes());
        Self { simd, geometry: *geometry, walk: geometry.forward(), layout }
    }

    /// How many floats they are.
    pub(crate) fn len(&self) -> usize {
        if self.geometry.depthwise() {
            self.geometry.kernel_len()
        } else {
            self.geometry.conv.groups * self.layout.len()
        }
    }

    /// Adds the share of an image and of the gradient of what was made of it.
    pub(crate) fn add(&self, image: &[f32], gradient: Padded, sums: &mut [f32]) {
        let Geometry { input, from, .. } = self.geometry;
        let walk = &self.walk;
        if self.geometry.depthwise() {
            let x = Bordered::of(image, input, from, walk.columns.margin());
            return self.simd.run(DepthwiseShare { walk, x: x.padded(), gradient, sums });
        }
        let layout = self.layout;
        let x = Padded { floats: image.as_ptr(), left: 0, width: input[1], pixel: from };
        for (group, sums) in sums.chunks_exact_mut(layout.len()).enumerate() {
            let (x, gradient) = (
                x.channel(group * self.geometry.group_from()),
                gradient.channel(group * self.geometry.group_to()),
            );
            self.simd.run(Correlation { walk, x, gradient, layout, sums: sums.as_mut_ptr() });
        }
    }

    /// The gradient of the kernel, `(tap, from / groups, to)`.
    pub(crate) fn kernel(&self, sums: &[f32]) -> Vec<f32> {
        if self.geometry.depthwise() {
            return sums.to_vec();
        }
        let mut kernel = Fresh::new(self.geometry.kernel_len());
        for (group, sums) in sums.chunks_exact(self.layout.len()).enumerate() {
            // SAFETY: a group's channels lie side by side in each row.
            unsafe {
                let kernel = kernel.as_mut_ptr().at(group * self.geometry.group_to());
                self.layout.write(sums, kernel, self.geometry.to);
            }
        }
        // SAFETY: all groups have been written.
        unsafe { kernel.written() }
    }
}
