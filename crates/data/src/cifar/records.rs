use crate::Images;

/// Appends an image that lies in planes: all its red, then all its green, then all its blue.
pub(super) fn push_planes(images: &mut Images, planes: &[u8], label: u32) {
    let plane = images.size[0] * images.size[1];
    let (red, rest) = planes.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    images.pixels.reserve(planes.len());
    for ((&red, &green), &blue) in red.iter().zip(green).zip(blue) {
        images.pixels.extend_from_slice(&[red, green, blue]);
    }
    images.labels.push(label);
}
