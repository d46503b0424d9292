//! What changes pixels and leaves them where they are.

/// `ratio` of one and the rest of the other, cut off to bytes.
fn blend(one: u8, other: f32, ratio: f64) -> u8 {
    (ratio as f32 * f32::from(one) + (1.0 - ratio) as f32 * other).clamp(0.0, 255.0) as u8
}

/// How bright a pixel is, cut off to a byte.
fn gray(pixel: &[u8]) -> f32 {
    (0.2989 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2])).floor()
}

pub fn brightness(image: &[u8], ratio: f64) -> Vec<u8> {
    image.iter().map(|&byte| blend(byte, 0.0, ratio)).collect()
}

pub fn saturation(image: &[u8], ratio: f64) -> Vec<u8> {
    let pixel = |pixel: &[u8; 3]| pixel.map(|byte| blend(byte, gray(pixel), ratio));
    image.as_chunks().0.iter().flat_map(pixel).collect()
}

pub fn contrast(image: &[u8], ratio: f64) -> Vec<u8> {
    // Whole numbers: their sum is exact up to 65,793 white pixels, and nearly so beyond.
    let sum: f64 = image.chunks_exact(3).map(|pixel| f64::from(gray(pixel))).sum();
    let mean = (sum / (image.len() / 3) as f64) as f32;
    image.iter().map(|&byte| blend(byte, mean, ratio)).collect()
}

/// Against a blurred image, of which the outermost pixels are not blurred.
pub fn sharpness(image: &[u8], ratio: f64, [height, width]: [usize; 2]) -> Vec<u8> {
    if height <= 2 || width <= 2 {
        return image.to_vec();
    }
    let at = |row: usize, column: usize, channel: usize| image[(row * width + column) * 3 + channel];
    let blurred = |row: usize, column: usize, channel: usize| {
        if row == 0 || column == 0 || row + 1 == height || column + 1 == width {
            return f32::from(at(row, column, channel));
        }
        let around =
            (row - 1..=row + 1).flat_map(|row| (column - 1..=column + 1).map(move |column| (row, column)));
        let sum: u32 = around.map(|(row, column)| u32::from(at(row, column, channel))).sum();
        // The middle counts five times. No thirteenth lies half way between two bytes.
        ((sum + 4 * u32::from(at(row, column, channel))) as f32 / 13.0).round()
    };
    let places = (0..image.len()).map(|place| (place / 3 / width, place / 3 % width, place % 3));
    let pixel =
        |(row, column, channel)| blend(at(row, column, channel), blurred(row, column, channel), ratio);
    places.map(pixel).collect()
}

pub fn posterize(image: &[u8], bits: u32) -> Vec<u8> {
    let mask = !(0xff_u32 >> bits) as u8;
    image.iter().map(|byte| byte & mask).collect()
}

pub fn solarize(image: &[u8], threshold: f64) -> Vec<u8> {
    let inverted = |&byte: &u8| if f64::from(byte) >= threshold { 255 - byte } else { byte };
    image.iter().map(inverted).collect()
}

pub fn equalize(image: &[u8]) -> Vec<u8> {
    let tables: [[u8; 256]; 3] = std::array::from_fn(|channel| table(image.iter().skip(channel).step_by(3)));
    image.iter().enumerate().map(|(place, &byte)| tables[place % 3][usize::from(byte)]).collect()
}

/// What spreads a channel's bytes evenly.
fn table<'a>(bytes: impl Iterator<Item = &'a u8>) -> [u8; 256] {
    let mut counts = [0_usize; 256];
    bytes.for_each(|&byte| counts[usize::from(byte)] += 1);
    let last = counts.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
    let step = (counts.iter().sum::<usize>() - last) / 255;
    let mut below = step / 2;
    std::array::from_fn(|byte| {
        let to = below.checked_div(step).map_or(byte, |to| to.min(255));
        below += counts[byte];
        to as u8
    })
}
