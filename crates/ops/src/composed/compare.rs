use candle::{D, Result, Tensor};

pub(crate) fn square_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut mean = (a - b)?.sqr()?;
    // Axis by axis: a single sum over a map's 16 thousand values would lose two digits in f32.
    while mean.rank() > 1 {
        mean = mean.mean(D::Minus1)?;
    }
    Ok(mean)
}

pub(crate) fn energy(x: &Tensor) -> Result<Tensor> {
    x.sqr()?.mean(D::Minus1)
}
