use super::figure;
use sokd_core::{Area, Stream};

/// Height and width of an image.
pub(crate) const SIDE: usize = 32;

type Colour = [f32; 3];

/// An image of a figure over clutter, `(SIDE, SIDE, 3)`, and the box around what of the figure was drawn.
pub(super) fn draw(class: usize, stream: &mut Stream) -> (Vec<u8>, Area) {
    let mut canvas = background(stream);
    for _ in 0..3 + stream.below(4) {
        stroke(&mut canvas, stream);
    }
    let placed = Placed::draw(class, stream);
    let colour = contrasting(&canvas, &placed, stream);
    let opacity = within(stream, 0.85, 1.0);
    let area = paint(&mut canvas, colour, opacity, |x, y| placed.distance(x, y));
    for _ in 0..stream.below(2) {
        stroke(&mut canvas, stream);
    }
    (canvas.iter().flatten().map(|&value| developed(value, stream)).collect(), area)
}

fn within(stream: &mut Stream, low: f32, high: f32) -> f32 {
    stream.between(low.into(), high.into()) as f32
}

fn colour(stream: &mut Stream) -> Colour {
    [0, 1, 2].map(|_| within(stream, 0.05, 0.95))
}

/// One colour running into another.
fn background(stream: &mut Stream) -> Vec<Colour> {
    let (from, to) = (colour(stream), colour(stream));
    let (right, down) = (within(stream, -1.0, 1.0), within(stream, -1.0, 1.0));
    let step = 1.0 / (SIDE as f32 * (right.abs() + down.abs()).max(0.1));
    let mix = |x: usize, y: usize| {
        let centre = SIDE as f32 / 2.0;
        let share = 0.5 + ((x as f32 - centre) * right + (y as f32 - centre) * down) * step;
        [0, 1, 2].map(|channel| from[channel] + 0.6 * share * (to[channel] - from[channel]))
    };
    (0..SIDE * SIDE).map(|pixel| mix(pixel % SIDE, pixel / SIDE)).collect()
}

/// A stroke with round ends, from a long hair to a short blot, anywhere.
fn stroke(canvas: &mut [Colour], stream: &mut Stream) {
    let side = SIDE as f32;
    let (x, y) = (within(stream, 0.0, side), within(stream, 0.0, side));
    let width = within(stream, 0.5, 2.5);
    let reach = 16.0 / (0.5 + width);
    let (right, down) = (within(stream, -reach, reach), within(stream, -reach, reach));
    let (colour, opacity) = (colour(stream), within(stream, 0.3, 0.7));
    let length = (right * right + down * down).max(1e-6);
    paint(canvas, colour, opacity, |px, py| {
        let along = (((px - x) * right + (py - y) * down) / length).clamp(0.0, 1.0);
        let (dx, dy) = (px - x - along * right, py - y - along * down);
        (dx * dx + dy * dy).sqrt() - width
    });
}

/// A figure of a size at a place, turned a little: not so far that one class becomes another.
struct Placed {
    class: usize,
    x: f32,
    y: f32,
    size: f32,
    cos: f32,
    sin: f32,
}

impl Placed {
    fn draw(class: usize, stream: &mut Stream) -> Self {
        let size = within(stream, 7.0, 10.5);
        // A corner reaches at most 1.3 sizes from the centre, which keeps the whole figure in the image.
        let margin = 1.3 * size;
        let mut place = || within(stream, margin, SIDE as f32 - margin);
        let (x, y) = (place(), place());
        // A slope of 0.36 is 20 degrees.
        let slope = within(stream, -0.36, 0.36);
        let cos = 1.0 / (1.0 + slope * slope).sqrt();
        Self { class, x, y, size, cos, sin: slope * cos }
    }

    /// In pixels.
    fn distance(&self, x: f32, y: f32) -> f32 {
        let (right, down) = ((x - self.x) / self.size, (y - self.y) / self.size);
        let (turned_x, turned_y) = (right * self.cos + down * self.sin, down * self.cos - right * self.sin);
        figure::distance(self.class, turned_x, turned_y) * self.size
    }
}

/// Of some colours the one farthest from what lies where the figure will.
fn contrasting(canvas: &[Colour], placed: &Placed, stream: &mut Stream) -> Colour {
    let below = canvas[placed.y as usize * SIDE + placed.x as usize];
    let far = |colour: &Colour| colour.iter().zip(below).map(|(a, b)| (a - b).abs()).sum::<f32>();
    let mut best = colour(stream);
    for _ in 0..4 {
        let other = colour(stream);
        if far(&other) > far(&best) {
            best = other;
        }
    }
    best
}

/// Paints what has a negative distance, with edges one pixel soft; gives the box around what is more than half
/// covered.
fn paint(canvas: &mut [Colour], colour: Colour, opacity: f32, distance: impl Fn(f32, f32) -> f32) -> Area {
    let side = SIDE as f32;
    let mut area = Area { top: side, left: side, bottom: 0.0, right: 0.0 };
    for (pixel, value) in canvas.iter_mut().enumerate() {
        let (column, row) = ((pixel % SIDE) as f32, (pixel / SIDE) as f32);
        let cover = (0.5 - distance(column + 0.5, row + 0.5)).clamp(0.0, 1.0);
        for (channel, paint) in value.iter_mut().zip(colour) {
            *channel += cover * opacity * (paint - *channel);
        }
        if cover > 0.5 {
            area.top = area.top.min(row);
            area.left = area.left.min(column);
            area.bottom = area.bottom.max(row + 1.0);
            area.right = area.right.max(column + 1.0);
        }
    }
    area
}

/// A byte, with a camera's noise: four uniform bytes add up to nearly a normal, and to the same on every machine.
fn developed(value: f32, stream: &mut Stream) -> u8 {
    const DEVIATION: f32 = 0.05;
    let sum: u16 = stream.bits().to_le_bytes().iter().copied().map(u16::from).sum();
    // Four times the variance of 0..=255 is (256² - 1) / 3, the root of which is 147.8.
    let noise = (f32::from(sum) - 510.0) / 147.8;
    ((value + DEVIATION * noise).clamp(0.0, 1.0) * 255.0).round() as u8
}
