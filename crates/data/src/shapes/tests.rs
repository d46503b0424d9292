use super::*;
use sokd_core::{Dataset, Split};

fn read(shapes: &Shapes) -> Memory {
    shapes.read(&Locations::default()).unwrap()
}

#[test]
fn a_smaller_set_is_the_beginning_of_a_larger_one() {
    let large = read(&Shapes { train: 40, search: 10, test: 10, seed: 3 });
    let small = read(&Shapes { train: 20, search: 0, test: 10, seed: 3 });
    for row in 0..20 {
        assert_eq!(small.image(Split::Train, row), large.image(Split::Train, row));
        assert_eq!(
            small.areas(Split::Train).unwrap()[row as usize],
            large.areas(Split::Train).unwrap()[row as usize]
        );
    }
    assert_eq!(small.image(Split::Test, 9), large.image(Split::Test, 9));
    assert_ne!(small.image(Split::Train, 0), small.image(Split::Test, 0));
    assert_ne!(large.image(Split::Search, 0), large.image(Split::Train, 0));
    let other = read(&Shapes { train: 20, search: 0, test: 10, seed: 4 });
    assert_ne!(other.image(Split::Train, 0), small.image(Split::Train, 0));
}

#[test]
fn every_ten_rows_hold_each_figure_once() {
    let labels = draw(Key::new(1), 50).labels;
    for ten in labels.chunks(10) {
        let mut ten = ten.to_vec();
        ten.sort_unstable();
        assert_eq!(ten, (0..10).collect::<Vec<_>>());
    }
    assert_ne!(labels[..10], labels[10..20]);
}

#[test]
fn boxes_lie_inside_and_have_the_figures_size() {
    let images = draw(Key::new(5), 500);
    for area in images.areas.unwrap() {
        let (height, width) = (area.bottom - area.top, area.right - area.left);
        assert!(area.top >= 0.0 && area.left >= 0.0 && area.bottom <= 32.0 && area.right <= 32.0, "{area:?}");
        assert!((8.0..=26.0).contains(&height) && (8.0..=26.0).contains(&width), "{area:?}");
    }
}

#[test]
fn the_declared_statistics_are_the_true_ones() {
    let norm = draw(Key::new(0), 10_000).statistics();
    for channel in 0..3 {
        assert!((norm.mean[channel] - PIXELS.mean[channel]).abs() < 0.01, "{norm:?}");
        assert!((norm.std[channel] - PIXELS.std[channel]).abs() < 0.01, "{norm:?}");
    }
}
