/// The figures, by label.
pub(super) const NAMES: [&str; 10] = [
    "disc",
    "ring",
    "square",
    "frame",
    "triangle-up",
    "triangle-down",
    "plus",
    "cross",
    "bars-horizontal",
    "bars-vertical",
];

/// How far `(x, y)` lies outside the figure, negative inside; `y` points down, and the figure reaches about from
/// -1 to 1 both ways.
///
/// Signed distances compose: a union is a minimum, an intersection a maximum, an outline the absolute value. Only
/// arithmetic that IEEE 754 fixes to the bit stands here, so that the set is the same on every machine.
pub(super) fn distance(class: usize, x: f32, y: f32) -> f32 {
    match class {
        0 => radius(x, y) - 0.95,
        1 => (radius(x, y) - 0.75).abs() - 0.2,
        2 => square(x, y) - 0.8,
        3 => (square(x, y) - 0.67).abs() - 0.18,
        4 => triangle(x, y),
        5 => triangle(x, -y),
        6 => plus(x, y),
        7 => plus((x + y) * DIAGONAL, (x - y) * DIAGONAL),
        8 => bars(x, y),
        _ => bars(y, x),
    }
}

const DIAGONAL: f32 = std::f32::consts::FRAC_1_SQRT_2;

fn radius(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

fn square(x: f32, y: f32) -> f32 {
    x.abs().max(y.abs())
}

/// Standing on its base; two sides and the base.
fn triangle(x: f32, y: f32) -> f32 {
    let side = 0.873 * x.abs() - 0.488 * (y + 0.95);
    side.max(y - 0.75)
}

fn plus(x: f32, y: f32) -> f32 {
    let bar = |along: f32, across: f32| (along.abs() - 0.95).max(across.abs() - 0.28);
    bar(x, y).min(bar(y, x))
}

/// Three lying bars.
fn bars(x: f32, y: f32) -> f32 {
    let period = 0.72;
    let bar = (y - period * (y / period).round()).abs() - 0.19;
    bar.max(square(x, y) - 0.92)
}
