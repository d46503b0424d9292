use super::numbers::share_pieces;
use crate::gpu::{Gpu, scale_shift};
use crate::record::{Backward, read, record, tensor};
use candle::{Result, Tensor};
use gemm::{Parallelism, gemm};

/// Products of matrices on the numbers themselves: around those of a head, which are small, candle's transposes, sums
/// and gradients that nobody asked for cost more than the products. On a GPU see [`by_library`].
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ((batch, from), to) = (x.dims2()?, weight.dim(0)?);
    let (x, weight) = (&x.contiguous()?, &weight.contiguous()?);
    let multiply = |x: &[f32], weight: &[f32], mut y: Vec<f32>| {
        add_product(Matrix::new(x, batch, from), Matrix::new(weight, to, from).turned(), &mut y);
        y
    };
    match bias {
        None => {
            let y = read([x, weight], |[x, weight]| multiply(x, weight, vec![0.0; batch * to]))?;
            record([x, weight], y, (batch, to), Linear)
        }
        Some(bias) => {
            let bias = &bias.contiguous()?;
            let y = read([x, weight, bias], |[x, weight, bias]| multiply(x, weight, bias.repeat(batch)))?;
            record([x, weight, bias], y, (batch, to), Linear)
        }
    }
}

/// The same on a GPU, whose library multiplies: on no graph of candle's, which asks more of it than the products.
pub(crate) fn by_library(gpu: &Gpu, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (x, weight, bias) = (&x.contiguous()?, &weight.contiguous()?, &bias.contiguous()?);
    let product = x.detach().matmul(&weight.detach().t()?)?;
    record([x, weight, bias], scale_shift(gpu, &product, None, bias, None, false)?, product.shape(), Linear)
}

struct Linear;

impl Backward<2> for Linear {
    const NAME: &'static str = "linear";

    fn reads(&self) -> ([bool; 2], bool) {
        ([true, true], false)
    }

    fn gradients(
        &self,
        [x, weight]: [&Tensor; 2],
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let ((batch, from), to) = (x.dims2()?, weight.dim(0)?);
        if Gpu::of(&[x]).is_some() {
            let back = x.track_op().then(|| gradient.matmul(&weight.detach())).transpose()?;
            let pull = weight.track_op().then(|| gradient.t()?.matmul(&x.detach())).transpose()?;
            return Ok([back, pull]);
        }
        read([x, weight, gradient], |[of_x, of_weight, gradient]| {
            let back = x.track_op().then(|| {
                let mut back = vec![0.0; batch * from];
                add_product(Matrix::new(gradient, batch, to), Matrix::new(of_weight, to, from), &mut back);
                tensor(back, (batch, from))
            });
            let pull = weight.track_op().then(|| {
                let mut pull = vec![0.0; to * from];
                add_product(
                    Matrix::new(gradient, batch, to).turned(),
                    Matrix::new(of_x, batch, from),
                    &mut pull,
                );
                tensor(pull, (to, from))
            });
            [back, pull]
        })
    }
}

impl Backward<3> for Linear {
    const NAME: &'static str = "linear";

    fn reads(&self) -> ([bool; 3], bool) {
        ([true, true, false], false)
    }

    fn gradients(
        &self,
        [x, weight, bias]: [&Tensor; 3],
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let [of_x, of_weight] = Backward::<2>::gradients(self, [x, weight], y, gradient)?;
        let of_bias = bias.track_op().then(|| gradient.sum(0)).transpose()?;
        Ok([of_x, of_weight, of_bias])
    }
}

/// Numbers in rows and columns.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    numbers: &'a [f32],
    size: [usize; 2],
    /// From one row to the next, and from one column.
    steps: [usize; 2],
}

impl<'a> Matrix<'a> {
    fn new(numbers: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(numbers.len(), rows * columns, "a matrix");
        Self { numbers, size: [rows, columns], steps: [columns, 1] }
    }

    /// Rows for columns, the numbers where they are.
    fn turned(self) -> Self {
        let ([rows, columns], [down, right]) = (self.size, self.steps);
        Self { size: [columns, rows], steps: [right, down], ..self }
    }
}

/// Adds `a · b` to `out`, which holds rows. What becomes of a row does not hang on how many there are.
fn add_product(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32]) {
    /// Rows a thread takes at once, however many threads there are.
    const ROWS: usize = 64;
    /// Of fewer rows the library sums in another order.
    const LEAST: usize = 4;
    let ([_, depth], [inner, columns]) = (a.size, b.size);
    assert_eq!((depth, a.size[0] * columns), (inner, out.len()), "matrices that fit together");
    let worth = out.len() * depth >= 1 << 21;
    let pieces = out.chunks_mut((ROWS * columns).max(1)).enumerate();
    share_pieces(pieces, worth, |(index, out)| {
        let rows = &a.numbers[index * ROWS * a.steps[0]..];
        if out.len() >= LEAST * columns {
            // SAFETY: `rows` starts at a row of `a` behind which there are as many as `out` has.
            unsafe { add_rows(rows, a.steps, b, out) };
        } else {
            for (row, out) in out.chunks_mut(columns).enumerate() {
                let mut several = out.repeat(LEAST);
                // SAFETY: the one row that is read again and again is there.
                unsafe { add_rows(&rows[row * a.steps[0]..], [0, a.steps[1]], b, &mut several) };
                out.copy_from_slice(&several[..columns]);
            }
        }
    });
}

/// Adds the product of some rows, from one to the next and from column to column by `steps`, with `b` to `out`.
///
/// # Safety
/// There are as many rows of as many columns as `out` and `b` have rows.
unsafe fn add_rows(a: &[f32], steps: [usize; 2], b: Matrix<'_>, out: &mut [f32]) {
    let [depth, columns] = b.size;
    // SAFETY: `out` is whole rows of `columns` numbers; `b` is `depth` by `columns` by its construction; `a` is the caller's
    // word.
    unsafe {
        gemm(
            out.len() / columns,
            columns,
            depth,
            out.as_mut_ptr(),
            1,
            columns as isize,
            true,
            a.as_ptr(),
            steps[1] as isize,
            steps[0] as isize,
            b.numbers.as_ptr(),
            b.steps[1] as isize,
            b.steps[0] as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
