use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may happen to an image, in TST's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are called what they do")]
pub enum Operation {
    Brightness,
    /// Saturation.
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Equalize,
    Invert,
    Cutout,
}

/// How an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By an encoder of colours.
    Color,
    /// By an encoder of places.
    Affine,
    /// As it is, on bytes: it has no strength that could be learned.
    Exact,
}

/// Of these operations a strength is learned: they come first.
pub const LEVELS: usize = 11;

/// Strengths in an operation's table.
pub const BINS: usize = 10;

impl Operation {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Equalize,
        Self::Invert,
        Self::Cutout,
    ];

    /// Its place in the order.
    pub fn index(self) -> usize {
        self as usize
    }

    /// As recipes and files call it.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 14] = [
            "brightness",
            "color",
            "contrast",
            "sharpness",
            "posterize",
            "solarize",
            "shear-x",
            "shear-y",
            "translate-x",
            "translate-y",
            "rotate",
            "equalize",
            "invert",
            "cutout",
        ];
        NAMES[self.index()]
    }

    /// How it is done.
    pub fn kind(self) -> Kind {
        match self.index() {
            0..6 => Kind::Color,
            6..LEVELS => Kind::Affine,
            _ => Kind::Exact,
        }
    }

    /// Whether its strength has a sign.
    pub fn signed(self) -> bool {
        !matches!(self, Self::Posterize | Self::Solarize)
    }

    /// The exact operation's strength in a bin, on images of a side: a factor beyond 1, bits, a threshold, a slope, pixels
    /// or degrees.
    ///
    /// # Source
    /// The tables of TST's released code, which are those of `AutoAugment` in torchvision.
    pub fn strength(self, bin: usize, side: usize) -> f64 {
        let bins = (BINS - 1) as f64;
        let share = bin as f64 / bins;
        match self {
            Self::Posterize => 8.0 - (bin as f64 / (bins / 4.0)).round_ties_even(),
            Self::Solarize => 255.0 * (1.0 - share),
            Self::ShearX | Self::ShearY => 0.3 * share,
            Self::TranslateX | Self::TranslateY => (150.0 / 331.0 * side as f64 * share).trunc(),
            Self::Rotate => 30.0 * share,
            _ => 0.9 * share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_recipes() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation.index(), index);
            assert_eq!(serde_json::to_value(operation).unwrap(), operation.name());
        }
    }

    #[test]
    fn tables_are_those_of_the_released_code() {
        let table =
            |operation: Operation| [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|bin| operation.strength(bin, 32));
        assert_eq!(table(Operation::Posterize), [8., 8., 7., 7., 6., 6., 5., 5., 4., 4.]);
        assert_eq!(table(Operation::TranslateX), [0., 1., 3., 4., 6., 8., 9., 11., 12., 14.]);
        assert_eq!(table(Operation::Solarize)[9], 0.0);
        assert!((table(Operation::Rotate)[9] - 30.0).abs() < 1e-12);
        assert!((table(Operation::Brightness)[5] - 0.5).abs() < 1e-12);
    }
}
