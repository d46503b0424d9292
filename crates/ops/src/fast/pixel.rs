use super::numbers::{differentiable, filled, map, of_two, zip};
use candle::{Result, Tensor};

pub(crate) fn relu(x: &Tensor) -> Result<Tensor> {
    let forward = |x: &[f32]| map(x, |x| if x <= 0.0 { 0.0 } else { x });
    differentiable("relu", x, x.shape(), forward, |_, y, grad| {
        of_two("relu-backward", y, grad, y.shape(), |y, grad| {
            zip(y, grad, |y, grad| if y <= 0.0 { 0.0 } else { grad })
        })
    })
}

pub(crate) fn abs(x: &Tensor) -> Result<Tensor> {
    differentiable(
        "abs",
        x,
        x.shape(),
        |x| map(x, f32::abs),
        |x, _, grad| {
            of_two("abs-backward", x, grad, x.shape(), |x, grad| {
                zip(x, grad, |x, grad| {
                    if x > 0.0 {
                        grad
                    } else if x < 0.0 {
                        -grad
                    } else {
                        0.0
                    }
                })
            })
        },
    )
}

/// Its own backward, with the groups exchanged.
pub(crate) fn channel_shuffle(x: &Tensor, groups: usize) -> Result<Tensor> {
    let (_, height, width, channels) = x.dims4()?;
    let forward = move |x: &[f32]| {
        let image = height * width * channels;
        let work = |index: usize, out: &mut [std::mem::MaybeUninit<f32>]| {
            let pixels = x[index * image..].chunks_exact(channels);
            for (out, x) in out.chunks_exact_mut(channels).zip(pixels) {
                for (group, from) in x.chunks_exact(channels / groups).enumerate() {
                    for (out, &from) in out[group..].iter_mut().step_by(groups).zip(from) {
                        out.write(from);
                    }
                }
            }
        };
        // SAFETY: an image is whole pixels, and of each every `groups`-th number from each of the first `groups`.
        unsafe { filled(x.len(), image, work) }
    };
    differentiable("channel-shuffle", x, x.shape(), forward, move |_, _, grad| {
        channel_shuffle(grad, channels / groups)
    })
}

pub(crate) fn normalize(images: &Tensor, mean: [f32; 3], std: [f32; 3]) -> Result<Tensor> {
    /// Chunks of whole pixels.
    const CHUNK: usize = 3 << 12;
    let forward = move |x: &[f32]| {
        let work = |index: usize, out: &mut [std::mem::MaybeUninit<f32>]| {
            for (out, x) in out.chunks_exact_mut(3).zip(x[index * CHUNK..].chunks_exact(3)) {
                for colour in 0..3 {
                    out[colour].write((x[colour] - mean[colour]) / std[colour]);
                }
            }
        };
        // SAFETY: images are whole pixels of three colours.
        unsafe { filled(x.len(), CHUNK, work) }
    };
    differentiable("normalize", images, images.shape(), forward, move |_, _, grad| {
        normalize(grad, [0.0; 3], std)
    })
}
