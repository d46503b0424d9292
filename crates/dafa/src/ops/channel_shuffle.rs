//! Channels in another order.

use super::{FeatureOp, value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::Key;
use sokd_ops::Change;

/// Channels in another order, the same for the whole batch.
///
/// # Source
/// The operations of the development code of SoKD (arXiv:2409.18785): all channels change places, whatever the
/// level. It takes from an adapter what it has learned of their order, so `partial` is there: ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelShuffle {
    /// The share of the channels that `partial` takes.
    pub range: [f64; 2],
    /// Which channels change places.
    pub channels: Channels,
}

/// Which channels change places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// All, at every level.
    #[default]
    All,
    /// A share of them, drawn at random.
    Partial,
}

impl Default for ChannelShuffle {
    fn default() -> Self {
        Self { range: [0.0, 1.0], channels: Channels::All }
    }
}

impl FeatureOp for ChannelShuffle {
    fn change(&self, [.., channels]: [usize; 4], level: f64, key: Key) -> Change {
        let share = match self.channels {
            Channels::All => 1.0,
            Channels::Partial => value(self.range, level),
        };
        Change::Order(order(channels, share, key))
    }
}

/// For every channel the one that takes its place, where a share of them changes places.
pub fn order(channels: usize, share: f64, key: Key) -> Vec<u32> {
    let mut stream = key.stream();
    let mut drawn: Vec<u32> = (0..channels as u32).collect();
    stream.shuffle(&mut drawn);
    // The first so many of a random order are a random subset, and grow with the share.
    drawn.truncate((share * channels as f64).round() as usize);
    let mut places = drawn.clone();
    stream.shuffle(&mut places);
    let mut order: Vec<u32> = (0..channels as u32).collect();
    for (place, channel) in places.into_iter().zip(drawn) {
        order[place as usize] = channel;
    }
    order
}
