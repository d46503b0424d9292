//! Clusters of many points.

use rayon::prelude::*;
use sokd_core::{Error, Key, Result, Watch};
use sokd_ops::nearest;

/// Clusters of points of `width` numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// Numbers of a point.
    pub width: usize,
    /// The means, one behind the other.
    pub centres: Vec<f32>,
    /// Which is nearest, by point.
    pub nearest: Vec<u32>,
    /// Points of each.
    pub sizes: Vec<usize>,
}

/// How far the halves of a split cluster are moved apart, as a part of the centre.
const APART: f32 = 1.0 / 1024.0;

impl Clusters {
    /// Lloyd's algorithm from `count` points drawn at random, for so many `iterations`; a cluster that lost all points
    /// takes half of the largest. The same for any number of threads.
    ///
    /// # Errors
    /// [`Error::Setting`] for more clusters than points.
    ///
    /// # Source
    /// Lloyd, 1982. Iterations and the start as faiss has them by default, which splits clusters so too; ours: always the
    /// largest, not one drawn by size.
    pub fn of(
        points: &[f32],
        width: usize,
        count: usize,
        iterations: usize,
        key: Key,
        watch: &dyn Watch,
    ) -> Result<Self> {
        let number = points.len() / width.max(1);
        if count == 0 || count > number {
            return Err(Error::setting("clusters", format!("{count} clusters of {number} points")));
        }
        let mut centres = Vec::with_capacity(count * width);
        for row in drawn(number, count, key) {
            centres.extend_from_slice(&points[row * width..][..width]);
        }
        Ok(Self::from(centres, points, width, iterations, watch))
    }

    /// The same from these `centres`.
    pub fn from(
        mut centres: Vec<f32>,
        points: &[f32],
        width: usize,
        iterations: usize,
        watch: &dyn Watch,
    ) -> Self {
        for iteration in 0..iterations {
            watch.at("clusters", iteration, iterations);
            let sizes = means(points, width, &nearest(points, &centres, width), &mut centres);
            refill(&mut centres, width, sizes);
        }
        let nearest = nearest(points, &centres, width);
        let mut sizes = vec![0; centres.len() / width];
        for &cluster in &nearest {
            sizes[cluster as usize] += 1;
        }
        Self { width, centres, nearest, sizes }
    }

    /// The mean of each cluster's points; its centre, where it has none.
    pub fn means(&self, points: &[f32]) -> Vec<f32> {
        let mut centres = self.centres.clone();
        means(points, self.width, &self.nearest, &mut centres);
        centres
    }
}

/// `count` of `0..number`, none twice.
fn drawn(number: usize, count: usize, key: Key) -> Vec<usize> {
    let (mut stream, mut rows) = (key.stream(), (0..number).collect::<Vec<_>>());
    for at in 0..count {
        rows.swap(at, at + stream.below((number - at) as u32) as usize);
    }
    rows.truncate(count);
    rows
}

/// Moves every centre to the mean of its points, if it has any, and says how many it has.
fn means(points: &[f32], width: usize, nearest: &[u32], centres: &mut [f32]) -> Vec<usize> {
    // A cluster's points in a row, in their order: a sum is then the work of one thread, and always the same.
    let mut ends = vec![0; centres.len() / width];
    for &cluster in nearest {
        ends[cluster as usize] += 1;
    }
    let sizes = ends.clone();
    let mut end = 0;
    for start in &mut ends {
        end += std::mem::replace(start, end);
    }
    let mut members = vec![0u32; nearest.len()];
    for (row, &cluster) in (0..).zip(nearest) {
        members[ends[cluster as usize]] = row;
        ends[cluster as usize] += 1;
    }
    centres.par_chunks_mut(width).enumerate().for_each(|(cluster, centre)| {
        let own = &members[ends[cluster] - sizes[cluster]..ends[cluster]];
        if own.is_empty() {
            return;
        }
        let mut sum = vec![0.0; width];
        for &row in own {
            let point = &points[row as usize * width..][..width];
            sum.iter_mut().zip(point).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        centre.iter_mut().zip(sum).for_each(|(mean, sum)| *mean = (sum / own.len() as f64) as f32);
    });
    sizes
}

/// Gives every cluster without points half of the largest.
fn refill(centres: &mut [f32], width: usize, mut sizes: Vec<usize>) {
    for empty in 0..sizes.len() {
        if sizes[empty] > 0 {
            continue;
        }
        // The first of equals.
        let largest = (0..sizes.len()).rev().max_by_key(|&cluster| sizes[cluster]).unwrap_or(0);
        for at in 0..width {
            let apart = if at % 2 == 0 { APART } else { -APART };
            let centre = centres[largest * width + at];
            centres[empty * width + at] = centre * (1.0 + apart);
            centres[largest * width + at] = centre * (1.0 - apart);
        }
        sizes[empty] = sizes[largest] / 2;
        sizes[largest] -= sizes[empty];
    }
}
