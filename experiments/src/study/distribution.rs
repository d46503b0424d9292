//! How the embeddings of networks are distributed over the same images.

use super::compare::{Compared, compare};
use super::principal::Principal;
use serde::{Deserialize, Serialize};

/// Components at most.
///
/// # Source
/// The development code's 50.
const COMPONENTS: usize = 50;

/// One network's embeddings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Whose.
    pub who: String,
    /// Numbers in an embedding.
    pub features: usize,
    /// The share of the variance that each kept component has.
    pub explained: Vec<f64>,
    /// The first two components, image by image.
    pub plane: Vec<[f64; 2]>,
    /// The mean of each feature over the images, in order of size.
    pub means: Vec<f64>,
    /// Component by component, image by image; not kept in a file.
    #[serde(skip)]
    pub scores: Vec<Vec<f64>>,
}

/// Two networks' embeddings, component by component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    /// The one.
    pub a: String,
    /// The other.
    pub b: String,
    /// As many as both have.
    pub components: Vec<Compared>,
}

impl Spread {
    /// Of a network's embeddings of at least two images, in components of their own, as the development code has it.
    pub fn of(who: &str, pooled: &[Vec<f64>]) -> Self {
        let principal = Principal::of(pooled, COMPONENTS);
        let features = pooled.first().map_or(0, Vec::len);
        let mean = |at: usize| pooled.iter().map(|row| row[at]).sum::<f64>() / pooled.len() as f64;
        let mut means: Vec<f64> = (0..features).map(mean).collect();
        means.sort_by(f64::total_cmp);
        let component = |at: usize, row: usize| principal.scores.get(at).map_or(0.0, |scores| scores[row]);
        Self {
            who: who.to_owned(),
            features,
            plane: (0..pooled.len()).map(|row| [component(0, row), component(1, row)]).collect(),
            explained: principal.explained,
            scores: principal.scores,
            means,
        }
    }
}

impl Versus {
    /// The first component of one against the first of the other, and so on.
    pub fn of(a: &Spread, b: &Spread) -> Self {
        let components = a.scores.iter().zip(&b.scores).map(|(a, b)| compare(a, b)).collect();
        Self { a: a.who.clone(), b: b.who.clone(), components }
    }

    /// A mean over components.
    pub fn mean(&self, of: impl Fn(&Compared) -> f64) -> f64 {
        self.components.iter().map(of).sum::<f64>() / self.components.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: four corners, and the same twice as wide along the longer side.
    #[test]
    fn components_meet_those_of_the_same_rank() {
        let corners = |wide: f64| -> Vec<Vec<f64>> {
            [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)]
                .map(|(x, y)| vec![5.0 + wide * x, 3.0 + y])
                .to_vec()
        };
        let (a, b) = (Spread::of("host", &corners(2.0)), Spread::of("plug-in", &corners(4.0)));
        assert_eq!(
            (a.features, a.means.as_slice(), a.explained.as_slice()),
            (2, &[3.0, 5.0][..], &[0.8, 0.2][..])
        );
        let exactly = |got: &[f64], expected: &[f64]| assert!(got.iter().eq(expected), "{got:?}");
        exactly(&a.plane[1], &[2.0, -1.0]);
        let versus = Versus::of(&a, &b);
        // {−2, −2, 2, 2} against {−4, −4, 4, 4}: D is 1/2, the area 2; the second components are the same.
        assert_eq!((versus.components[0].statistic, versus.components[0].wasserstein), (0.5, 2.0));
        assert_eq!((versus.components[1].statistic, versus.components[1].wasserstein), (0.0, 0.0));
        exactly(&[versus.mean(|of| of.statistic)], &[0.25]);
    }
}
