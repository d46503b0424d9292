//! Parts of classes, and how a teacher tells them apart.

use super::kmeans::Clusters;
use super::lda::Lda;
use super::maps::Maps;
use candle::{D, DType, Device, Tensor};
use sokd_core::{Error, Key, Result, Watch};
use sokd_ops::{linear, nearest};
use std::collections::BTreeMap;

/// What a teacher decides of a place that belongs to a part of a class: how often such a place comes to lie nearest to
/// each part of every class.
#[derive(Clone, Debug)]
pub struct Decisions {
    /// From a place to its components: `(components, width)`.
    pub weight: Tensor,
    /// `(components,)`
    pub bias: Tensor,
    /// The centres of each class's parts: `(classes, parts, components)`.
    pub centres: Tensor,
    /// Of each part, how its places are shared among all parts: `(classes · parts, classes · parts)`; rows add up to 1.
    pub scores: Tensor,
}

impl Decisions {
    /// Of the maps of a teacher: discriminant `components`, `parts` clusters in every class.
    ///
    /// # Errors
    /// [`Error::Setting`] for a class with fewer places than parts.
    ///
    /// # Source
    /// Gorgun et al., 2023 (arXiv:2309.02843), supplement, algorithm 2, and the authors' code. A part's prototype is the mean of
    /// its places; 60 components for 100 classes, of which there can be one less than classes. Ours: at most so many as
    /// there are.
    pub fn of(
        maps: &Maps,
        classes: usize,
        (parts, components, iterations): (usize, usize, usize),
        key: Key,
        watch: &dyn Watch,
    ) -> Result<Self> {
        watch.at("discriminants", 0, 1);
        let lda = Lda::of(&maps.points, maps.width, &maps.labels, classes)?;
        let components = components.min(lda.directions.len());
        let (weight, bias) = lda.layer(components);
        let cpu = &Device::Cpu;
        let weight = Tensor::from_vec(weight, (components, maps.width), cpu)?;
        let bias = Tensor::from_vec(bias, components, cpu)?;
        let mut points = Vec::with_capacity(maps.labels.len() * components);
        for some in maps.points.chunks(maps.width << 14) {
            let some = Tensor::from_slice(some, (some.len() / maps.width, maps.width), cpu)?;
            points.extend(linear(&some, &weight, Some(&bias))?.flatten_all()?.to_vec1::<f32>()?);
        }

        let (mut centres, mut prototypes) = (Vec::new(), Vec::new());
        let mut own = vec![0u32; maps.labels.len()];
        for class in 0..classes {
            watch.at("parts of classes", class, classes);
            let rows: Vec<usize> = (0..own.len()).filter(|&row| maps.labels[row] as usize == class).collect();
            let of_class: Vec<f32> =
                rows.iter().flat_map(|row| &points[row * components..][..components]).copied().collect();
            if rows.len() < parts {
                let problem = format!("class {class} has {} places for {parts} parts", rows.len());
                return Err(Error::setting("letkd-decisions.parts", problem));
            }
            let key = key.fold_in(class as u64);
            let clusters = Clusters::of(&of_class, components, parts, iterations, key, &Still)?;
            for (row, part) in rows.iter().zip(&clusters.nearest) {
                own[*row] = (class * parts) as u32 + part;
            }
            prototypes.extend(clusters.means(&of_class));
            centres.extend(clusters.centres);
        }
        let closest = nearest(&points, &prototypes, components);
        let all = classes * parts;
        let scores = shares(&own, &closest, all);
        Ok(Self {
            weight,
            bias,
            centres: Tensor::from_vec(centres, (classes, parts, components), cpu)?,
            scores: Tensor::from_vec(scores, (all, all), cpu)?,
        })
    }

    /// What the teacher decides at each place of its maps, and −Σ p ln p of that.
    ///
    /// # Shapes
    /// `map`: `(batch, height, width, channels)`; `labels`: `(batch,)` → `(batch · height · width, classes · parts)`,
    /// `(batch · height · width,)`.
    pub fn at(&self, map: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
        let rows = self.rows(map, labels)?;
        let scores = self.scores.index_select(&rows, 0)?;
        // 0 · ln 0 is 0.
        let entropy =
            (&scores * scores.maximum(f64::from(f32::MIN_POSITIVE))?.log()?)?.sum(D::Minus1)?.neg()?;
        Ok((scores, entropy))
    }

    /// Which part of its own class each place is nearest to, counted over all classes: `(batch · height · width,)`.
    pub fn rows(&self, map: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (batch, height, width, channels) = map.dims4()?;
        let (_, parts, components) = self.centres.dims3()?;
        let places = map.detach().reshape((batch * height * width, channels))?;
        let points = linear(&places, &self.weight, Some(&self.bias))?;
        let points = points.reshape((batch, height * width, components))?;
        let centres = self.centres.index_select(labels, 0)?;
        // |p − c|² = |p|² − 2 (p·c − |c|² / 2)
        let half = (centres.sqr()?.sum(D::Minus1)? / 2.0)?.unsqueeze(1)?;
        let close = points.matmul(&centres.transpose(1, 2)?.contiguous()?)?.broadcast_sub(&half)?;
        let first = (labels.to_dtype(DType::U32)? * parts as f64)?.unsqueeze(1)?;
        Ok(close.argmax(D::Minus1)?.broadcast_add(&first)?.flatten_all()?)
    }

    /// On another device.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let to = |tensor: &Tensor| tensor.to_device(device);
        Ok(Self {
            weight: to(&self.weight)?,
            bias: to(&self.bias)?,
            centres: to(&self.centres)?,
            scores: to(&self.scores)?,
        })
    }

    /// As files keep it.
    pub fn tensors(self) -> BTreeMap<String, Tensor> {
        let Self { weight, bias, centres, scores } = self;
        let named = [("weight", weight), ("bias", bias), ("centres", centres), ("scores", scores)];
        named.map(|(name, tensor)| (name.to_owned(), tensor)).into()
    }

    /// Out of [`Decisions::tensors`].
    pub fn from_tensors(tensors: &BTreeMap<String, Tensor>) -> Option<Self> {
        let get = |name: &str| tensors.get(name).cloned();
        Some(Self {
            weight: get("weight")?,
            bias: get("bias")?,
            centres: get("centres")?,
            scores: get("scores")?,
        })
    }
}

/// Of each part, how its places are shared among the parts that they are nearest to; a part without places keeps them
/// all.
pub fn shares(own: &[u32], closest: &[u32], parts: usize) -> Vec<f32> {
    let mut counts = vec![0u32; parts * parts];
    for (own, closest) in own.iter().zip(closest) {
        counts[*own as usize * parts + *closest as usize] += 1;
    }
    let mut shares = Vec::with_capacity(counts.len());
    for (part, counts) in counts.chunks_exact(parts).enumerate() {
        let sum: u32 = counts.iter().sum();
        let share = |(other, count): (usize, &u32)| match sum {
            0 => f32::from(u8::from(other == part)),
            sum => (f64::from(*count) / f64::from(sum)) as f32,
        };
        shares.extend(counts.iter().enumerate().map(share));
    }
    shares
}

/// Watches nothing: the clusters of one class are found at once.
struct Still;

impl Watch for Still {
    fn at(&self, _: &str, _: usize, _: usize) {}

    fn say(&self, _: &str) {}
}
