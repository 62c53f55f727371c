//! Where each value lies in the arena: offsets from liveness.
//!
//! Values are placed largest first, each at the lowest offset where it overlaps no placed value that is alive at the same time
//! (greedy by size: Pisarchyk and Lee, Efficient memory management for deep neural net inference, 2020, section 5.2).

/// A value to place: its size in elements, and the first and last step at which it is alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    pub len: usize,
    pub first: usize,
    pub last: usize,
}

/// A cache line of f32.
const ALIGN: usize = 16;

/// The offset of each value, and the arena's size, in elements; `None` when sizes overflow.
pub(super) fn place(values: &[Lifetime]) -> Option<(Vec<usize>, usize)> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(values[i].len));
    let mut offsets = vec![0; values.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0usize;
    for i in order {
        let value = values[i];
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&j| values[j].first <= value.last && value.first <= values[j].last)
            .map(|&j| (offsets[j], offsets[j] + values[j].len))
            .collect();
        taken.sort_unstable();
        let mut offset = 0usize;
        for (begin, end) in taken {
            if offset.checked_add(value.len)? <= begin {
                break;
            }
            offset = offset.max(end.checked_next_multiple_of(ALIGN)?);
        }
        offsets[i] = offset;
        total = total.max(offset.checked_add(value.len)?);
        placed.push(i);
    }
    Some((offsets, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_alive_together_do_not_overlap(raw in proptest::collection::vec((1usize..1000, 0usize..20, 0usize..6), 1..40)) {
            let values: Vec<_> = raw.iter().map(|&(len, first, more)| Lifetime { len, first, last: first + more }).collect();
            let (offsets, total) = place(&values).unwrap();
            for (i, a) in values.iter().enumerate() {
                prop_assert!(offsets[i] % ALIGN == 0 && offsets[i] + a.len <= total);
                for (j, b) in values.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = offsets[i] + a.len <= offsets[j] || offsets[j] + b.len <= offsets[i];
                    prop_assert!(!together || apart);
                }
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let step = |first| Lifetime { len: 160, first, last: first + 1 };
        let (_, total) = place(&[step(0), step(1), step(2), step(3)]).unwrap();
        assert_eq!(total, 320);
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let huge = Lifetime { len: usize::MAX / 2 + 1, first: 0, last: 0 };
        assert!(place(&[huge, huge]).is_none());
    }
}
