//! How PyTorch draws initial weights, as explicit bounds and deviations.
//!
//! Kernels here lie `(height, width, from / groups, to)` in memory, from which candle's own fans would be counted
//! wrongly: whoever names the layer names its fans.

use candle_nn::Init;

/// All zeros.
pub const ZERO: Init = Init::Const(0.0);

/// All ones.
pub const ONE: Init = Init::Const(1.0);

/// Normal around 0, variance `2 / fan_out`: a square kernel in front of `to` channels, grouped or not.
///
/// # Source
/// He et al., 2015 (arXiv:1502.01852), section 2.2, backward case; `torch.nn.init.kaiming_normal_(mode="fan_out",
/// nonlinearity="relu")`. The same as the `sqrt(2 / n)` of WRN and VGG.
pub fn kaiming_normal_fan_out(kernel: usize, to: usize) -> Init {
    normal((2.0 / (kernel * kernel * to) as f64).sqrt())
}

/// Uniform within `±1 / √fan_in`: what `torch.nn.Conv2d` and `torch.nn.Linear` draw weights *and* biases from when
/// nothing else is said. A convolution's fan is `kernel² · from / groups`.
///
/// # Source
/// `torch.nn.init.kaiming_uniform_(a=√5)`, in PyTorch's `Conv2d.reset_parameters` and `Linear.reset_parameters`.
pub fn kaiming_uniform(fan_in: usize) -> Init {
    let bound = (fan_in as f64).sqrt().recip();
    Init::Uniform { lo: -bound, up: bound }
}

/// Uniform within `±√(6 / (from + to))`: a linear layer whose two sides count alike.
///
/// # Source
/// Glorot and Bengio, 2010, equation (16); `torch.nn.init.xavier_uniform_`.
pub fn xavier_uniform(from: usize, to: usize) -> Init {
    let bound = (6.0 / (from + to) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// Normal around 0.
pub fn normal(deviation: f64) -> Init {
    Init::Randn { mean: 0.0, stdev: deviation }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.nn.init.kaiming_uniform_(w, a=5 ** 0.5)` computes gain · √3 / √fan with gain = √(2 / (1 + a²)).
    #[test]
    fn the_short_bound_is_pytorchs_long_one() {
        for fan in [9usize, 27, 576] {
            let long = (2.0 / (1.0 + 5.0f64)).sqrt() * 3f64.sqrt() / (fan as f64).sqrt();
            let Init::Uniform { lo, up } = kaiming_uniform(fan) else { panic!("not uniform") };
            assert!((up - long).abs() < 1e-15 && lo == -up);
        }
    }
}
