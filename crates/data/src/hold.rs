use sokd_core::{Error, Key, Result};

/// The rows of each class, each class in an order of its own that `key` draws.
fn shuffled(labels: &[u32], classes: usize, key: Key) -> Vec<Vec<u32>> {
    let mut rows = vec![Vec::new(); classes];
    for (row, &label) in labels.iter().enumerate() {
        rows[label as usize].push(row as u32);
    }
    for (class, rows) in rows.iter_mut().enumerate() {
        key.stream_at(0, 0, class as u32).shuffle(rows);
    }
    rows
}

/// How many of `total` each class gives, in proportion to its size; what rounding leaves over goes to the largest
/// remainders (Hamilton's method), the lower class first.
fn shares(sizes: &[usize], total: usize) -> Vec<usize> {
    let all = sizes.iter().sum::<usize>().max(1);
    let mut shares: Vec<usize> = sizes.iter().map(|size| size * total / all).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&class| std::cmp::Reverse(sizes[class] * total % all));
    let left = total.min(all) - shares.iter().sum::<usize>();
    for &class in &order[..left] {
        shares[class] += 1;
    }
    shares
}

/// Rows of `labels` in two parts, both in ascending order: `held` of them, each class in proportion, and of the
/// rest at most `limit` of each class. A smaller `limit` keeps a subset of what a larger one keeps.
///
/// `held` must not exceed the number of labels.
pub(crate) fn hold(
    labels: &[u32],
    classes: usize,
    held: usize,
    limit: Option<usize>,
    key: Key,
) -> (Vec<u32>, Vec<u32>) {
    let by_class = shuffled(labels, classes, key);
    let sizes: Vec<usize> = by_class.iter().map(Vec::len).collect();
    let (mut aside, mut kept) = (Vec::with_capacity(held), Vec::new());
    for (rows, share) in by_class.iter().zip(shares(&sizes, held)) {
        let (first, rest) = rows.split_at(share);
        aside.extend_from_slice(first);
        kept.extend_from_slice(&rest[..rest.len().min(limit.unwrap_or(usize::MAX))]);
    }
    aside.sort_unstable();
    kept.sort_unstable();
    (aside, kept)
}

/// The rows held out of training, and those left to learn from.
///
/// # Errors
/// [`Error::Setting`] when nothing would be left to learn from.
pub(crate) fn hold_out(
    labels: &[u32],
    classes: usize,
    search: usize,
    limit: Option<usize>,
    seed: u64,
) -> Result<(Vec<u32>, Vec<u32>)> {
    if search >= labels.len() {
        let problem =
            format!("{search} of {} training images leave none to learn from: hold out fewer", labels.len());
        return Err(Error::setting("search", problem));
    }
    if limit == Some(0) {
        return Err(Error::setting("limit", "0 images of each class leave none to learn from"));
    }
    Ok(hold(labels, classes, search, limit, Key::new(seed).fold("hold out")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounding_goes_to_the_largest_remainders() {
        assert_eq!(shares(&[5, 5, 5], 10), [4, 3, 3]);
        assert_eq!(shares(&[1, 8, 1], 5), [1, 4, 0]);
        assert_eq!(shares(&[3, 4], 7), [3, 4]);
        assert_eq!(shares(&[], 0), [0; 0]);
    }

    proptest! {
        #[test]
        fn parts_are_stratified_disjoint_and_nested(
            labels in proptest::collection::vec(0u32..5, 1..200), share in 0.0..1.0f64, limit in 1usize..9, seed: u64,
        ) {
            let held = (labels.len() as f64 * share) as usize;
            let count = |rows: &[u32], class: u32| rows.iter().filter(|&&row| labels[row as usize] == class).count();
            let (aside, all) = hold(&labels, 5, held, None, Key::new(seed));
            prop_assert_eq!(aside.len(), held);
            let mut both = [aside.clone(), all.clone()].concat();
            both.sort_unstable();
            prop_assert_eq!(both, (0..labels.len() as u32).collect::<Vec<_>>());
            for class in 0..5 {
                let size = labels.iter().filter(|&&label| label == class).count();
                let exact = size as f64 * held as f64 / labels.len() as f64;
                prop_assert!((count(&aside, class) as f64 - exact).abs() < 1.0);
            }
            let (same, few) = hold(&labels, 5, held, Some(limit), Key::new(seed));
            let (_, more) = hold(&labels, 5, held, Some(limit + 1), Key::new(seed));
            prop_assert_eq!(same, aside);
            prop_assert!(few.iter().all(|row| more.contains(row)));
            prop_assert!((0..5).all(|class| count(&few, class) == count(&all, class).min(limit)));
        }
    }
}
