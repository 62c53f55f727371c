//! Pooling of every kind against plain loops over NCHW, on every table and number of threads.

mod harness;

use harness::{
    Guarded, Side, Threads, assert_borders_are_zero, bits, buffer_of, cases, dense_of, fenced_at, for_each, noise, noise_with_specials,
    part_of, random_runner, report,
};
use proptest::prelude::*;
use stridewise_kernels::pool::{Pool, Reduction, Sliding, Windows};
use stridewise_kernels::{Error, Geometry, Halo, Inline, KernelTable, Layout, dense};

/// One axis of a pooling op, as ONNX writes it.
#[derive(Clone, Copy, Debug)]
struct Axis {
    size: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    after: usize,
    ceil: bool,
}

impl Axis {
    /// Windows as PyTorch counts them: one that would start behind the image and its padding before it is left out.
    fn count(&self) -> usize {
        let room = self.size + self.before + self.after - self.kernel;
        let count = if self.ceil { room.div_ceil(self.stride) } else { room / self.stride } + 1;
        if (count - 1) * self.stride >= self.size + self.before { count - 1 } else { count }
    }

    fn windows(&self, count_padding: bool) -> Result<Windows, Error> {
        Windows::sliding(self.size, [self.kernel, self.stride], [self.before, self.after], self.count(), count_padding)
    }

    /// Elements of the image under a window, and how many positions its mean is over.
    fn window(&self, index: usize, count_padding: bool) -> (Vec<usize>, usize) {
        let positions = (0..self.kernel).map(|k| index * self.stride + k);
        let inside: Vec<usize> = positions.clone().filter_map(|p| p.checked_sub(self.before)).filter(|p| *p < self.size).collect();
        let padded = positions.filter(|p| *p < self.before + self.size + self.after).count();
        let divisor = if count_padding { padded } else { inside.len() };
        (inside, divisor)
    }
}

/// The elements of an image under each window of an axis, and the window's divisor.
type Grid = Vec<(Vec<usize>, usize)>;

/// Pools with plain loops in f64: each value and the bound that rounding errors must keep.
fn reference(reduction: Reduction, input: &[f32], [n, c, h, w]: [usize; 4], rows: &Grid, columns: &Grid) -> Vec<(f64, f64)> {
    let mut output = Vec::new();
    for_each([n, c, rows.len(), columns.len()], |[n, channel, y, x]| {
        let ((under_y, divisor_y), (under_x, divisor_x)) = (&rows[y], &columns[x]);
        let plane = (n * c + channel) * h * w;
        let values = under_y.iter().flat_map(|y| under_x.iter().map(move |x| f64::from(input[plane + y * w + x])));
        output.push(match reduction {
            Reduction::Maximum => (values.fold(f64::NEG_INFINITY, |m, v| if m.is_nan() || v.is_nan() { f64::NAN } else { m.max(v) }), 0.0),
            Reduction::Mean => {
                let divisor = (divisor_y * divisor_x) as f64;
                let magnitude: f64 = values.clone().map(f64::abs).sum();
                let roundings = (under_y.len() * under_x.len() + 1) as f64;
                (
                    values.sum::<f64>() / divisor,
                    roundings * f64::from(f32::EPSILON) / 2.0 * magnitude / divisor + f64::from(f32::MIN_POSITIVE),
                )
            }
        });
    });
    output
}

struct Case<'a> {
    name: String,
    reduction: Reduction,
    dims: [usize; 4],
    windows: [&'a Windows; 2],
    grids: [&'a Grid; 2],
}

/// Runs a case on every table and several numbers of threads. Returns the number of runs.
fn check(case: &Case<'_>, input: &[f32]) -> usize {
    let [n, c, _, _] = case.dims;
    let output_dims = [n, c, case.grids[0].len(), case.grids[1].len()];
    let (none, some) = ([Halo::NONE; 2], [Halo { top: 1, left: 2, bottom: 0, right: 3 }, Halo { top: 2, left: 0, bottom: 1, right: 1 }]);
    use Side::{End, Start};
    let setups = [(none, 1, End), (some, 3, Start), (none, 1, Start), (some, 2, End), (none, 5, End), (none, 16, Start)];
    // Starting threads is most of the work where a processor is emulated: many of them only where there is something to share out.
    let setups = if n * c > 40 { &setups[..] } else { &setups[..3] };
    let expected = reference(case.reduction, input, case.dims, case.grids[0], case.grids[1]);
    let mut first: Option<Vec<u32>> = None;
    let mut runs = 0;
    for table in KernelTable::all() {
        for &([from_halo, to_halo], threads, side) in setups {
            let from = Geometry::new(Layout::Nchw16c, case.dims, from_halo).unwrap();
            let to = Geometry::new(Layout::Nchw16c, output_dims, to_halo).unwrap();
            let [rows, columns] = case.windows.map(Windows::clone);
            let pool = Pool::new(case.reduction, from, to, rows, columns, table).unwrap();
            let output = fenced_at(side, || {
                let mut output = Guarded::filled(to.len(), f32::NAN);
                pool.run(&Threads(threads), &buffer_of(&from, input), &mut output).unwrap();
                output
            });
            let context = format!("{} of {:?} on {table:?}, {threads} threads", case.name, case.dims);
            assert_borders_are_zero(&to, &output, &context);
            let found = dense_of(&to, &output);
            for (i, (value, (exact, bound))) in found.iter().zip(&expected).enumerate() {
                let value = f64::from(*value);
                let same = value == *exact || value.is_nan() && exact.is_nan() || (value - exact).abs() <= *bound;
                assert!(same, "{context}: output {i} is {value}, exactly {exact}, bound {bound}");
            }
            let bits = bits(&found);
            assert!(*first.get_or_insert_with(|| bits.clone()) == bits, "{context}: not the bits of the first run");
            runs += 1;
        }
    }
    runs
}

/// Checks a sliding maximum and both kinds of mean.
fn check_sliding(n: usize, c: usize, y: Axis, x: Axis, input: &[f32]) -> usize {
    let mut runs = 0;
    for (reduction, padded) in [(Reduction::Maximum, false), (Reduction::Mean, false), (Reduction::Mean, true)] {
        let windows = [y.windows(padded).unwrap(), x.windows(padded).unwrap()];
        let grids = [y, x].map(|axis| (0..axis.count()).map(|i| axis.window(i, padded)).collect::<Grid>());
        let name = format!("{reduction:?}, padding counted {padded}, {y:?}, {x:?}");
        let dims = [n, c, y.size, x.size];
        runs += check(&Case { name, reduction, dims, windows: [&windows[0], &windows[1]], grids: [&grids[0], &grids[1]] }, input);
    }
    runs
}

fn axis(size: usize, kernel: usize, stride: usize, pad: usize, ceil: bool) -> Axis {
    Axis { size, kernel, stride, before: pad, after: pad, ceil }
}

/// Single pixels, pads on one side and on both, tails that only `ceil_mode` has, strides over the kernel.
fn grid() -> Vec<(Axis, Axis)> {
    let same = |a: Axis| (a, a);
    vec![
        same(axis(1, 1, 1, 0, false)),
        same(axis(1, 3, 2, 1, false)),
        same(axis(7, 7, 1, 0, false)),
        same(axis(8, 2, 2, 0, false)),
        same(axis(7, 2, 2, 0, true)),
        same(axis(11, 3, 2, 1, false)),
        same(axis(8, 3, 2, 1, true)),
        same(axis(6, 3, 2, 0, true)),
        (axis(5, 3, 1, 1, false), axis(19, 3, 4, 1, true)),
        (axis(9, 2, 3, 0, false), axis(1, 1, 1, 0, false)),
        (
            Axis { size: 6, kernel: 3, stride: 2, before: 0, after: 1, ceil: false },
            Axis { size: 5, kernel: 4, stride: 3, before: 2, after: 0, ceil: true },
        ),
    ]
}

#[test]
fn sliding_windows_match_plain_loops() {
    let mut runs = 0;
    for (i, (y, x)) in part_of(grid().into_iter().enumerate()) {
        // Every channel count with the common shapes, the others with two of them.
        let channels = if i < 6 { &[1, 3, 15, 16, 17, 33][..] } else { &[3, 33] };
        for &c in channels {
            for n in [1, 3] {
                runs += check_sliding(n, c, y, x, &noise((n * c + i) as u64, n * c * y.size * x.size));
            }
        }
    }
    report(&format!("pooling: {runs} runs of the grid on {:?}", KernelTable::all()));
}

#[test]
fn adaptive_and_global_windows_match_plain_loops() {
    for (size, count) in
        part_of([([7, 7], [1, 1]), ([1, 1], [1, 1]), ([5, 3], [2, 3]), ([7, 10], [3, 4]), ([2, 3], [7, 5]), ([13, 1], [6, 1])])
    {
        for (n, c) in [(1, 1), (3, 15), (1, 16), (3, 17), (1, 33)] {
            for reduction in [Reduction::Mean, Reduction::Maximum] {
                let grids = [0, 1].map(|a| {
                    let window = |i: usize| (i * size[a] / count[a]..((i + 1) * size[a]).div_ceil(count[a])).collect::<Vec<_>>();
                    (0..count[a]).map(|i| (window(i), window(i).len())).collect::<Grid>()
                });
                let windows = [0, 1].map(|a| Windows::adaptive(size[a], count[a]).unwrap());
                let dims = [n, c, size[0], size[1]];
                let name = format!("adaptive {reduction:?} to {count:?}");
                let case = Case { name, reduction, dims, windows: [&windows[0], &windows[1]], grids: [&grids[0], &grids[1]] };
                check(&case, &noise(n as u64, dims.iter().product()));
            }
        }
    }
}

/// NaN wins a maximum and spreads through a mean, infinities obey f64, wherever in the window they are.
#[test]
fn special_values_go_through_as_in_plain_loops() {
    for (y, x) in [(axis(9, 3, 2, 1, false), axis(8, 3, 2, 1, true)), (axis(6, 2, 2, 0, false), axis(7, 1, 1, 0, false))] {
        for (n, c) in [(1, 3), (3, 17)] {
            // f32 sums overflow where f64 sums do not: what is documented of those is only that they are equal everywhere.
            let input: Vec<f32> = noise_with_specials(5, n * c * y.size * x.size)
                .iter()
                .map(|v| if v.is_finite() { v.clamp(-1e30, 1e30) } else { *v })
                .collect();
            check_sliding(n, c, y, x, &input);
        }
    }
    for value in [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -1e30, -0.0] {
        check_sliding(1, 17, axis(2, 2, 1, 0, false), axis(2, 2, 1, 0, false), &[value; 4 * 17]);
    }
}

#[test]
fn windows_that_cover_nothing_are_refused() {
    let refused = |windows: Result<Windows, Error>| assert!(matches!(windows, Err(Error::Problem { .. })), "{windows:?}");
    refused(Windows::sliding(8, [0, 1], [0, 0], 1, false));
    refused(Windows::sliding(8, [2, 0], [0, 0], usize::MAX, false));
    refused(Windows::sliding(8, [2, 2], [0, 0], 5, false));
    refused(Windows::sliding(8, [2, 1], [2, 0], 3, false));
    refused(Windows::sliding(8, [2, 1], [0, 9], 9, true));
    refused(Windows::sliding(0, [2, 1], [1, 1], 1, true));
    refused(Windows::sliding(8, [usize::MAX, usize::MAX], [0, usize::MAX], usize::MAX, true));
    refused(Windows::adaptive(0, 3));
    refused(Windows::adaptive(0, usize::MAX));
    // Steps over the whole input, in the middle of all windows.
    let over = Sliding { kernel: 2, stride: 1, dilation: 5, pads: [5, 5], ceil_mode: false, count_include_pad: false };
    refused(Windows::onnx(1, &over));
    assert!(matches!(dense::Pool::new(Reduction::Mean, &[1, 1, 1], &[over]).map(|_| ()), Err(Error::Problem { .. })));
    let every = Sliding { stride: 5, ..over };
    assert!(Windows::onnx(1, &every).is_ok() && dense::Pool::new(Reduction::Mean, &[1, 1, 1], &[every]).is_ok());
    assert!(Windows::sliding(8, [usize::MAX, usize::MAX], [usize::MAX - 1, usize::MAX], 1, true).is_ok());
    // Too many to hold: refused before memory is touched.
    for huge in [Windows::sliding(usize::MAX, [1, 1], [0, 0], usize::MAX, true), Windows::adaptive(usize::MAX, usize::MAX)] {
        assert!(matches!(huge, Err(Error::OutOfMemory { .. })), "{huge:?}");
    }
}

#[test]
fn buffers_that_do_not_fit_the_windows_are_refused() {
    let table = KernelTable::all()[0];
    let g = |layout, dims| Geometry::new(layout, dims, Halo::NONE).unwrap();
    let blocked = |dims| g(Layout::Nchw16c, dims);
    let windows = || Windows::adaptive(4, 2).unwrap();
    let pool = |from, to| Pool::new(Reduction::Mean, from, to, windows(), windows(), table);
    assert!(pool(blocked([1, 16, 4, 4]), blocked([1, 16, 2, 2])).is_ok());
    for (from, to) in [
        (blocked([1, 16, 4, 4]), blocked([1, 16, 2, 3])),
        (blocked([1, 16, 4, 4]), blocked([1, 16, 1, 2])),
        (blocked([1, 16, 3, 4]), blocked([1, 16, 2, 2])),
        (blocked([1, 16, 4, 3]), blocked([1, 16, 2, 2])),
        (blocked([1, 16, 4, 4]), blocked([1, 15, 2, 2])),
        (blocked([2, 16, 4, 4]), blocked([1, 16, 2, 2])),
        (g(Layout::Nchw, [1, 16, 4, 4]), blocked([1, 16, 2, 2])),
        (blocked([1, 16, 4, 4]), g(Layout::Nchw, [1, 16, 2, 2])),
    ] {
        assert!(matches!(pool(from, to), Err(Error::Problem { .. })), "{from:?} into {to:?}");
    }
    // The steps of windows over more elements do not fit either.
    let far = Sliding { kernel: 1, stride: 1 << 62, dilation: 1 << 62, pads: [0, 0], ceil_mode: false, count_include_pad: false };
    let far = Windows::onnx(1 << 62, &far).unwrap();
    let one = Windows::adaptive(4, 1).unwrap();
    assert!(Pool::new(Reduction::Mean, blocked([1, 16, 4, 4]), blocked([1, 16, 1, 1]), far, one, table).is_err());
    let empty = Windows::adaptive(4, 0).unwrap();
    assert!(Pool::new(Reduction::Mean, blocked([1, 16, 4, 4]), blocked([1, 16, 2, 2]), empty, windows(), table).is_err());
}

#[test]
fn slices_of_other_lengths_are_refused() {
    let (from, to) = (
        Geometry::new(Layout::Nchw16c, [1, 16, 4, 4], Halo::NONE).unwrap(),
        Geometry::new(Layout::Nchw16c, [1, 16, 2, 2], Halo::NONE).unwrap(),
    );
    let windows = || Windows::adaptive(4, 2).unwrap();
    let pool = Pool::new(Reduction::Mean, from, to, windows(), windows(), KernelTable::all()[0]).unwrap();
    for (input, output) in
        [(from.len() - 1, to.len()), (from.len() + 1, to.len()), (from.len(), to.len() - 1), (from.len(), to.len() + 1), (0, 0)]
    {
        let result = pool.run(&Inline, &vec![0.0; input], &mut vec![0.0; output]);
        assert!(matches!(result, Err(Error::Length { .. })), "{input} {output}");
    }
}

fn axes() -> impl Strategy<Value = Axis> {
    (1usize..14, 1usize..5, 1usize..4, 0usize..4, 0usize..4, any::<bool>()).prop_filter_map(
        "every window covers an element",
        |(size, kernel, stride, before, after, ceil)| {
            let axis = Axis { size, kernel, stride, before: before.min(kernel - 1), after: after.min(kernel - 1), ceil };
            (size + axis.before + axis.after >= kernel).then_some(axis)
        },
    )
}

#[test]
fn random_windows_match_plain_loops() {
    let cases = cases(64);
    let runs = std::cell::Cell::new(0);
    let problems = (1usize..4, 1usize..40, axes(), axes(), any::<u32>());
    let result = random_runner("random pooling windows", cases).run(&problems, |(n, c, y, x, seed)| {
        runs.set(runs.get() + check_sliding(n, c, y, x, &noise(u64::from(seed), n * c * y.size * x.size)));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    report(&format!("pooling: {cases} random problems, {} runs on {:?}", runs.get(), KernelTable::all()));
}
