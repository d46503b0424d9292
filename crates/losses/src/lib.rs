#![doc = include_str!("../README.md")]

pub mod functional;

use sokd_core::DistillLoss;

sokd_core::catalog! {
    /// A loss that a recipe may name.
    pub enum LossSpec: dyn DistillLoss {
        cross_entropy::CrossEntropy,
        kd::Kd,
        dkd::Dkd,
        fitnet::Fitnet,
        attention::At,
        crd::Crd,
        review::ReviewKd,
        teacher_cross_entropy::TeacherCrossEntropy,
        unlikelihood::Unlikelihood,
    }
}
