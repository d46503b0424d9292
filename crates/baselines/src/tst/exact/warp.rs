//! What moves pixels: each place of the result looks for its nearest pixel under an affine map.

/// The pixels that places see under `[[a, b, c], [d, e, f]]`, in pixels from the image's centre, x before y; black
/// outside.
fn warp(image: &[u8], map: [[f64; 3]; 2], [height, width]: [usize; 2]) -> Vec<u8> {
    let from_centre = |at: usize, length: usize| at as f32 + 0.5 - length as f32 / 2.0;
    // As torchvision: the map is scaled to coordinates from -1 to 1 in single precision, and back when it is used.
    let half = [width as f32 / 2.0, height as f32 / 2.0];
    let scaled = [0, 1].map(|axis| map[axis].map(|factor| factor as f32 / half[axis]));
    let seen = |axis: usize, x: f32, y: f32, length: usize| {
        let [by_x, by_y, shift] = scaled[axis];
        let at = by_x * x + by_y * y + shift;
        let place = (((at + 1.0) * length as f32 - 1.0) / 2.0).round_ties_even();
        (place >= 0.0 && place < length as f32).then_some(place as usize)
    };
    let mut out = vec![0; image.len()];
    for (place, pixel) in out.chunks_exact_mut(3).enumerate() {
        let (x, y) = (from_centre(place % width, width), from_centre(place / width, height));
        if let (Some(column), Some(row)) = (seen(0, x, y, width), seen(1, x, y, height)) {
            pixel.copy_from_slice(&image[(row * width + column) * 3..][..3]);
        }
    }
    out
}

/// Around the top left corner.
pub fn shear_x(image: &[u8], slope: f64, size: [usize; 2]) -> Vec<u8> {
    warp(image, [[1.0, slope, slope * size[0] as f64 / 2.0], [0.0, 1.0, 0.0]], size)
}

/// Around the top left corner.
pub fn shear_y(image: &[u8], slope: f64, size: [usize; 2]) -> Vec<u8> {
    warp(image, [[1.0, 0.0, 0.0], [slope, 1.0, slope * size[1] as f64 / 2.0]], size)
}

/// Down and to the right.
pub fn translate(image: &[u8], [down, right]: [f64; 2], size: [usize; 2]) -> Vec<u8> {
    warp(image, [[1.0, 0.0, -right], [0.0, 1.0, -down]], size)
}

/// Against the clock, around the centre.
pub fn rotate(image: &[u8], degrees: f64, size: [usize; 2]) -> Vec<u8> {
    let (sin, cos) = degrees.to_radians().sin_cos();
    warp(image, [[cos, -sin, 0.0], [sin, cos, 0.0]], size)
}
