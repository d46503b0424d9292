#![doc = include_str!("../README.md")]

pub use sokd_baselines as baselines;
pub use sokd_core as core;
pub use sokd_dafa as dafa;
pub use sokd_dam as dam;
pub use sokd_data as data;
pub use sokd_losses as losses;
pub use sokd_models as models;
pub use sokd_nn as nn;
pub use sokd_ops as ops;
pub use sokd_train as train;
pub use sokd_world as world;

/// The names that nearly every script needs.
pub mod prelude {
    pub use sokd_core::{
        Backbone, Batch, Batches, Build, BuildCx, Dataset, DistillLoss, Key, Mode, Pair, Refined, Refiner,
        Result, Side, Split, Step, Terms,
    };
    pub use sokd_nn::Params;
}
