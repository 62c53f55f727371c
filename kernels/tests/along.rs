//! Ops along an axis against plain sorting.

mod harness;

use harness::{Guarded, Threads, noise};
use stridewise_kernels::dense::{Extreme, TopK};

fn guarded(values: &[f32]) -> Guarded {
    let mut buffer = Guarded::filled(values.len(), f32::NAN);
    buffer.copy_from_slice(values);
    buffer
}

/// In order, equal elements by their places, and NaN before all.
#[test]
fn first_elements_come_as_a_stable_sort_puts_them() {
    for shape in [[1, 1, 1], [2, 9, 1], [3, 17, 5], [1, 100, 2]] {
        let [outer, len, inner] = shape;
        let mut input: Vec<f32> = noise(1, outer * len * inner).iter().map(|x| (x * 4.0).round() / 4.0).collect();
        input.iter_mut().step_by(13).for_each(|x| *x = f32::NAN);
        input.iter_mut().skip(3).step_by(11).for_each(|x| *x = -0.0);
        for k in [0, 1, 2, 3, len / 2, len - 1, len] {
            if k > len {
                continue;
            }
            for extreme in [Extreme::Max, Extreme::Min] {
                let op = TopK::new(&shape, 1, k, extreme).unwrap();
                let (mut values, mut places) = (Guarded::filled(outer * k * inner, 7.0), Guarded::filled(outer * k * inner, 7.0));
                op.run(&Threads(3), &guarded(&input), &mut values, &mut places).unwrap();
                for line in 0..outer * inner {
                    let element = |i: usize| input[(line / inner * len + i) * inner + line % inner];
                    let mut order: Vec<usize> = (0..len).collect();
                    order.sort_by(|&a, &b| {
                        let (x, y) = (element(a), element(b));
                        let by_value = x.partial_cmp(&y).unwrap_or_else(|| x.is_nan().cmp(&y.is_nan()).reverse());
                        let ascending = x.is_nan() || y.is_nan() || extreme == Extreme::Min;
                        if ascending { by_value } else { by_value.reverse() }
                    });
                    for (i, &place) in order[..k].iter().enumerate() {
                        let at = (line / inner * k + i) * inner + line % inner;
                        assert_eq!(places[at] as usize, place, "{k} of {shape:?}, {extreme:?}, line {line}, number {i}");
                        assert_eq!(values[at].to_bits(), element(place).to_bits());
                    }
                }
            }
        }
    }
    // Every element of a long axis, which comes in the worst order.
    let len = 1 << 18;
    let (input, op) = ((0..len).map(|i| i as f32).collect::<Vec<_>>(), TopK::new(&[len], 0, len, Extreme::Max).unwrap());
    let (mut values, mut places) = (vec![0.0; len], vec![0.0; len]);
    op.run(&Threads(1), &input, &mut values, &mut places).unwrap();
    assert!(values.iter().zip(&places).enumerate().all(|(i, (v, p))| *v as usize == len - 1 - i && v == p));
    assert!(TopK::new(&[3, 4], 1, 5, Extreme::Max).is_err() && TopK::new(&[3, 4], 2, 1, Extreme::Max).is_err());
}
