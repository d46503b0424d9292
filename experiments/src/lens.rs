//! What stands between the images and both networks.

use sokd_core::Lens;

sokd_core::catalog! {
    /// A lens that a recipe may name.
    pub enum LensSpec: dyn Lens {
        Tst(sokd_baselines::Tst),
    }
}
