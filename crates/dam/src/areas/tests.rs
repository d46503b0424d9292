use super::*;
use sokd_core::Key;

fn at(channel: usize, row: usize, column: usize, value: f32) -> Peak {
    Peak { channel, row, column, value }
}

/// Two heatmaps of 3 × 4, channels last.
fn heat(first: [[f32; 4]; 3], second: [[f32; 4]; 3]) -> Vec<f32> {
    let cells = first.as_flattened().iter().zip(second.as_flattened());
    cells.flat_map(|(a, b)| [*a, *b]).collect()
}

#[test]
fn peaks_are_those_that_a_hand_finds() {
    let heat = heat(
        [[5.0, 1.0, 0.0, 4.0], [1.0, 1.0, 0.0, 3.0], [0.0, 0.0, 2.0, 0.0]],
        [[0.0, 0.0, 0.0, 0.0], [0.0, 6.0, 0.0, 0.0], [0.0, 0.0, 0.0, 4.0]],
    );
    let best = [at(1, 1, 1, 6.0), at(0, 0, 0, 5.0), at(0, 0, 3, 4.0), at(1, 2, 3, 4.0)];
    for count in 0..=4 {
        assert_eq!(peaks(&heat, [3, 4, 2], count, 3), best[..count]);
    }
    // The 3 beside a 4 is no peak and the 2 is beside the 3; what is left are flat places.
    let fifth = peaks(&heat, [3, 4, 2], 5, 3)[4];
    assert_eq!(fifth, at(1, 0, 3, 0.0));
    // Of a window of one cell, everything is the largest value.
    assert_eq!(peaks(&heat, [3, 4, 2], 5, 1)[4], at(0, 1, 3, 3.0));
    // Of a window over the map, only one cell in each.
    assert_eq!(peaks(&heat, [3, 4, 2], 5, 7), [at(1, 1, 1, 6.0), at(0, 0, 0, 5.0)]);
}

#[test]
fn equal_peaks_are_taken_in_order() {
    let flat = peaks(&[0.5; 24], [3, 4, 2], 8, 3);
    let first: Vec<_> = (0..8).map(|cell| at(0, cell / 4, cell % 4, 0.5)).collect();
    assert_eq!(flat, first);
    assert_eq!(peaks(&[f32::NAN; 24], [3, 4, 2], 8, 3), []);
}

/// The definition, slowly: every cell that is its window's largest, sorted.
fn slowly(heat: &[f32], [height, width, channels]: [usize; 3], count: usize) -> Vec<Peak> {
    let value = |row: usize, column: usize, channel: usize| heat[(row * width + column) * channels + channel];
    let mut all = Vec::new();
    for channel in 0..channels {
        for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
            let own = value(row, column, channel);
            let near = |a: usize, b: usize| a.abs_diff(b) <= 1;
            let higher = (0..height * width).any(|other| {
                let (there, across) = (other / width, other % width);
                near(there, row) && near(across, column) && value(there, across, channel) > own
            });
            if !higher {
                all.push(at(channel, row, column, own));
            }
        }
    }
    all.sort_by(|a, b| b.value.total_cmp(&a.value));
    all.truncate(count);
    all
}

#[test]
fn the_short_way_finds_what_the_definition_says() {
    let mut stream = Key::new(3).stream();
    for case in 0..200u64 {
        let shape = [1 + case as usize % 5, 2 + case as usize % 4, 1 + case as usize % 3];
        // Few values, so that many are equal.
        let heat: Vec<_> = (0..shape.iter().product()).map(|_| stream.below(7) as f32).collect();
        assert_eq!(peaks(&heat, shape, 4, 3), slowly(&heat, shape, 4), "{shape:?}: {heat:?}");
    }
}

#[test]
fn boxes_are_cut_to_whole_cells_of_the_map() {
    let around = |row, column, size, offset, least| {
        let Cells { top, left, bottom, right } =
            Cells::around(&at(0, row, column, 1.0), size, offset, least, [4, 6]);
        [top, left, bottom, right]
    };
    assert_eq!(around(2, 3, [0.0, 0.0], [0.0, 0.0], 0.0), [2, 3, 2, 3]);
    // Centre (3.5, 2.25), corners 2.5 to 4.5 and 0.75 to 3.75.
    assert_eq!(around(2, 3, [2.0, 3.0], [0.5, 0.25], 0.0), [0, 2, 3, 4]);
    // Half a box is outside, and an offset can leave the map.
    assert_eq!(around(0, 5, [4.0, 4.0], [0.0, 0.0], 0.0), [0, 3, 2, 5]);
    assert_eq!(around(3, 0, [1.0, 1.0], [-9.0, 9.0], 0.0), [3, 0, 3, 0]);
    // No box is turned inside out, and none is below the least.
    assert_eq!(around(1, 1, [-3.0, -3.0], [0.0, 0.0], 0.0), [1, 1, 1, 1]);
    assert_eq!(around(1, 1, [-3.0, 4.0], [0.0, 0.0], 2.0), [0, 0, 3, 2]);
}

fn found(cells: Cells) -> Found {
    Found { peak: at(0, cells.top, cells.left, 1.0), size: [1.0; 2], cells }
}

#[test]
fn cells_are_counted_as_often_as_they_are_covered() {
    let boxes = [[0, 0, 1, 1], [1, 1, 2, 2], [1, 1, 1, 1]];
    let boxes = boxes.map(|[top, left, bottom, right]| found(Cells { top, left, bottom, right }));
    assert_eq!(cover(&boxes, [3, 4]), [1, 1, 0, 0, 1, 3, 1, 0, 0, 1, 1, 0]);
    assert_eq!(cover(&[], [1, 2]), [0, 0]);
}

#[test]
fn a_box_goes_anywhere_it_fits_equally_often() {
    let cells = Cells { top: 1, left: 1, bottom: 2, right: 1 };
    let mut stream = Key::new(1).stream();
    let mut counts = [[0u32; 4]; 2];
    for _ in 0..8000 {
        let moved = cells.anywhere([3, 4], &mut stream);
        assert_eq!(moved.sides(), [2, 1]);
        counts[moved.top][moved.left] += 1;
    }
    assert!(counts.as_flattened().iter().all(|count| count.abs_diff(1000) < 150), "{counts:?}");
}

#[test]
fn cells_are_parts_of_the_image() {
    let grid = Grid { map: [4, 2], image: [32, 20] };
    let Area { top, left, bottom, right } = grid.area(&Cells { top: 1, left: 0, bottom: 2, right: 0 });
    assert_eq!([top, left, bottom, right], [8.0, 0.0, 24.0, 10.0]);
}
