//! Images turned about their centre.

/// Binary places behind the point of a coordinate.
const BITS: u32 = 16;

/// An image of `[height, width]` turned by `degrees` against the clock about its centre: the nearest pixel, black outside.
///
/// # Shapes
/// `(height, width, channels)`, row by row → the same.
///
/// # Source
/// torchvision's `rotate`, which for pictures is Pillow's `Image.rotate`; `Geometry.c`, `affine_fixed`: places in fixed point of
/// 16 bits, so that the same pixels are chosen.
///
/// # Example
/// ```
/// let image = [1.0, 2.0, 3.0, 4.0];
/// assert_eq!(sokd_data::rotated(&image, [2, 2], 90.0), [2.0, 4.0, 1.0, 3.0]);
/// ```
pub fn rotated(image: &[f32], [height, width]: [usize; 2], degrees: f64) -> Vec<f32> {
    let channels = image.len() / (height * width).max(1);
    let fixed = |number: f64| (number * f64::from(1 << BITS) + 0.5).floor() as i64;
    let (sin, cos) = degrees.to_radians().sin_cos();
    let [x, y] = [width, height].map(|side| side as f64 / 2.0);
    // What the middle of the first pixel sees, and how much further each pixel to the right and each below.
    let column = fixed(x + cos * (0.5 - x) - sin * (0.5 - y));
    let row = fixed(y + sin * (0.5 - x) + cos * (0.5 - y));
    let (right, down) = ([fixed(cos), fixed(sin)], [fixed(-sin), fixed(cos)]);
    let inside = |place: i64, side: usize| usize::try_from(place >> BITS).ok().filter(|place| *place < side);
    let mut out = vec![0.0; image.len()];
    for (place, pixel) in out.chunks_exact_mut(channels.max(1)).enumerate() {
        let (to_right, to_down) = ((place % width) as i64, (place / width) as i64);
        let seen = |start: i64, axis: usize| start + to_right * right[axis] + to_down * down[axis];
        if let (Some(column), Some(row)) = (inside(seen(column, 0), width), inside(seen(row, 1), height)) {
            pixel.copy_from_slice(&image[(row * width + column) * channels..][..channels]);
        }
    }
    out
}
