use crate::backend::{has_kernels, has_map_kernels};
use crate::mixed::in_single;
use crate::record::{Backward, record, total};
use crate::trace::{Operation, noted};
use candle::Tensor;
use sokd_core::{Error, Result};

/// `a + b`: a sum whose gradient is handed to both sides as it is.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        let expected = format!("{:?}, as what it is added to", a.dims());
        return Err(Error::Shape { what: "a summand", expected, got: b.dims().to_vec() });
    }
    noted(&[a, b], || Operation::Add, || sum_of(a, b))
}

fn sum_of(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !has_map_kernels(&[a, b]) {
        return in_single([a, b], |[a, b]| if has_kernels(&[a, b]) { sum_of(a, b) } else { Ok((a + b)?) });
    }
    let (a, b) = (&a.contiguous()?, &b.contiguous()?);
    Ok(record([a, b], total(a, b)?, a.shape(), Add)?)
}

/// The way back through [`add`].
struct Add;

impl Backward<2> for Add {
    const NAME: &'static str = "add";

    fn reads(&self) -> ([bool; 2], bool) {
        ([false, false], false)
    }

    fn gradients(
        &self,
        summands: [&Tensor; 2],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 2]> {
        Ok(summands.map(|summand| summand.track_op().then(|| gradient.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::add;
    use crate::relu;
    use candle::{Device, Var};

    #[test]
    fn each_side_has_the_gradient_of_the_sum() {
        let x = Var::new(&[[-1.0_f32, 2.0, 3.0]], &Device::Cpu).unwrap();
        let y = relu(&x).unwrap();
        let total = add(&add(&y, &y).unwrap(), &x).unwrap();
        assert_eq!(total.to_vec2::<f32>().unwrap(), [[-1.0, 6.0, 9.0]]);
        let gradients = total.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(&x).unwrap().to_vec2::<f32>().unwrap(), [[-2.0, 36.0, 54.0]]);
    }

    #[test]
    fn sums_of_different_shapes_are_refused() {
        let x = Var::new(&[[1.0_f32, 2.0]], &Device::Cpu).unwrap();
        let error = add(&x, &x.t().unwrap()).unwrap_err().to_string();
        assert!(error.contains("a summand"), "{error}");
    }
}
