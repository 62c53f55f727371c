//! Every convolution kernel of the table against the f64 oracle, and bit for bit against the others.

mod harness;

use harness::{Guarded, Side, Threads, assert_borders_are_zero, bits, cases, fenced_at, noise, part_of, random_runner, report};
use proptest::prelude::*;
use std::sync::Arc;
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual, Winograd, schedule_prefetch};
use stridewise_kernels::denormals::FlushDenormals;
use stridewise_kernels::{ConvProblem, Executor, Geometry, Halo, Inline, Isa, KernelTable, Layout, layout, reference};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Skip {
    None,
    Buffer,
    InPlace,
}

/// How a problem is run.
#[derive(Clone, Copy, Debug)]
struct Setup {
    table: &'static KernelTable,
    algorithm: Algorithm,
    layout: Layout,
    threads: usize,
    skip: Skip,
    clamp: (f32, f32),
    output_halo: Halo,
}

struct Data {
    input: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Data {
    fn new(p: &ConvProblem) -> Data {
        let [oh, ow] = p.output();
        let seed = p.to_string().bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        Data {
            input: noise(seed, p.n * p.c * p.h * p.w),
            weight: noise(seed + 1, p.weight_len()),
            bias: noise(seed + 2, p.oc),
            residual: noise(seed + 3, p.n * p.oc * oh * ow),
        }
    }
}

fn run(p: &ConvProblem, data: &Data, setup: Setup) -> Vec<f32> {
    run_on(&Threads(setup.threads), p, data, setup)
}

fn run_on(executor: &dyn Executor, p: &ConvProblem, data: &Data, setup: Setup) -> Vec<f32> {
    let [oh, ow] = p.output();
    let table = setup.table;
    let input = Geometry::new(setup.layout, [p.n, p.c, p.h, p.w], setup.algorithm.required_halo(p)).unwrap();
    let output = Geometry::new(Layout::Nchw16c, [p.n, p.oc, oh, ow], setup.output_halo).unwrap();
    let residual = match setup.skip {
        Skip::None => None,
        Skip::Buffer => Some(Geometry::new(Layout::Nchw16c, [p.n, p.oc, oh, ow], Halo { top: 1, left: 2, bottom: 0, right: 1 }).unwrap()),
        Skip::InPlace => Some(output),
    };
    let weights = PackedWeights::pack(table, p, setup.algorithm, setup.layout, &data.weight, Some(&data.bias), executor).unwrap();
    let conv = Conv::new(*p, setup.algorithm, input, output, residual, Arc::new(weights), setup.clamp, setup.threads).unwrap();

    let mut input_data = Guarded::filled(input.len(), f32::NAN);
    layout::from_nchw(&Inline, &data.input, &input, &mut input_data).unwrap();
    let mut residual_data = Guarded::filled(residual.map_or(0, |g| g.len()), f32::NAN);
    let mut output_data = Guarded::filled(output.len(), f32::NAN);
    let given = match (setup.skip, residual) {
        (Skip::Buffer, Some(g)) => {
            layout::from_nchw(&Inline, &data.residual, &g, &mut residual_data).unwrap();
            Residual::Buffer(&residual_data)
        }
        (Skip::InPlace, Some(g)) => {
            layout::from_nchw(&Inline, &data.residual, &g, &mut output_data).unwrap();
            Residual::InPlace
        }
        _ => Residual::None,
    };
    let mut scratch = Guarded::filled(conv.scratch_per_thread() * setup.threads, f32::NAN);
    conv.run(executor, &input_data, given, &mut output_data, &mut scratch).unwrap();

    assert_borders_are_zero(&output, &output_data, &p.to_string());
    let mut dense = vec![0.0; p.n * p.oc * oh * ow];
    layout::to_nchw(&Inline, &output_data, &output, &mut dense).unwrap();
    dense
}

/// The oracle without residual and activation, and the sum of the magnitudes that each output is made of.
fn oracle(p: &ConvProblem, data: &Data) -> (Vec<f64>, Vec<f64>) {
    let absolute = |v: &[f32]| v.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let exact = reference::convolution(p, &data.input, &data.weight, Some(&data.bias)).unwrap();
    let magnitude = reference::convolution(p, &absolute(&data.input), &absolute(&data.weight), Some(&absolute(&data.bias))).unwrap();
    (exact, magnitude)
}

/// The oracle with residual and activation, and for each output the bound that its rounding errors must keep.
fn expected(p: &ConvProblem, data: &Data, (exact, magnitude): &(Vec<f64>, Vec<f64>), skip: Skip, clamp: (f32, f32)) -> Vec<(f64, f64)> {
    let k = p.c / p.groups * p.kernel[0] * p.kernel[1];
    // A chunk of 128, or the whole segments of 16 that are about as many, and the sums of the chunks; narrow groups have one chain.
    let narrow = p.groups > 1 && p.c / p.groups < 16 || Algorithm::Grouped.check(p, Layout::Nchw16c).is_ok();
    let steps = if narrow { k } else { k.min(128 + 16 + k / 128) } + 8;
    let unit = f64::from(f32::EPSILON) / 2.0;
    (0..exact.len())
        .map(|i| {
            let add = if skip == Skip::None { 0.0 } else { f64::from(data.residual[i]) };
            let value = (exact[i] + add).max(f64::from(clamp.0)).min(f64::from(clamp.1));
            (value, unit * steps as f64 * (magnitude[i] + add.abs()))
        })
        .collect()
}

/// Layouts and algorithms that sum a problem directly.
fn direct_ways(p: &ConvProblem) -> Vec<(Algorithm, Layout)> {
    let algorithms = [Algorithm::Direct, Algorithm::Depthwise, Algorithm::Grouped, Algorithm::Im2colGemm];
    possible(p, &algorithms)
}

/// All layouts and algorithms that a problem can be run with.
fn ways(p: &ConvProblem) -> Vec<(Algorithm, Layout)> {
    let mut ways = direct_ways(p);
    ways.extend(possible(p, &[Winograd::F2, Winograd::F4].map(Algorithm::Winograd)));
    ways
}

fn possible(p: &ConvProblem, algorithms: &[Algorithm]) -> Vec<(Algorithm, Layout)> {
    let all = [Layout::Nchw16c, Layout::Nchw].into_iter().flat_map(|layout| algorithms.iter().map(move |a| (*a, layout)));
    all.filter(|(algorithm, layout)| algorithm.check(p, *layout).is_ok()).collect()
}

const NONE: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);
const RELU: (f32, f32) = (0.0, f32::INFINITY);

/// Runs a problem in every way on every instruction set; returns how many runs that were.
fn check(p: &ConvProblem) -> usize {
    let data = Data::new(p);
    let halo = Halo { top: 1, left: 1, bottom: 1, right: 1 };
    let variants = [
        (Side::End, Skip::None, NONE, Halo::NONE, 1),
        (Side::Start, Skip::Buffer, RELU, halo, 2),
        (Side::End, Skip::Buffer, RELU, halo, 1),
        (Side::Start, Skip::InPlace, (-0.5, 0.75), Halo { top: 0, left: 3, bottom: 2, right: 0 }, 3),
    ];
    let oracle = oracle(p, &data);
    let mut runs = 0;
    for (side, skip, clamp, output_halo, threads) in variants {
        let exact = expected(p, &data, &oracle, skip, clamp);
        let mut first: std::collections::HashMap<(Layout, Option<Winograd>), Vec<u32>> = Default::default();
        for (algorithm, layout) in ways(p) {
            // Winograd's transforms add up values of a whole tile, so its errors are relative to the largest of them.
            let (variant, largest) = match algorithm {
                Algorithm::Winograd(variant) => (Some(variant), exact.iter().fold(0f64, |m, (_, bound)| m.max(*bound))),
                _ => (None, 0.0),
            };
            for table in KernelTable::all() {
                let setup = Setup { table, algorithm, layout, threads, skip, clamp, output_halo };
                let found = fenced_at(side, || run(p, &data, setup));
                for (i, (value, (exact, bound))) in found.iter().zip(&exact).enumerate() {
                    let error = (f64::from(*value) - exact).abs();
                    let bound = bound.max(largest);
                    assert!(error <= bound, "{p} {setup:?}: output {i} is {value}, exactly {exact}: off by {error}, bound {bound}");
                }
                let bits = bits(&found);
                let other = first.entry((layout, variant)).or_insert_with(|| bits.clone());
                assert!(*other == bits, "{p} {setup:?}: not the bits of the first way");
                runs += 1;
            }
        }
    }
    runs
}

/// Edges of every kind: single pixels, kernels larger than the image, pads larger than the kernel, strides that leave a
/// remainder or skip the kernel, channel counts around a block, groups of every width, dilation, batches.
const GRID: &[&str] = &[
    "n1c1h1w1o1k1",
    "n1c3h1w1o16k1",
    "n3c16h1w1o17k3p1",
    "n1c16h7w7o16k1",
    "n1c64h7w7o64k1",
    "n1c64h7w7o64k3p1",
    "n2c15h5w9o33k3p1",
    "n1c17h8w8o15k3s2p1",
    "n1c33h6w6o80k1s2",
    "n1c3h23w19o64k7s2p3",
    "n1c3h9w9o20k3x5p1x2",
    "n1c4h5w5o5k5p4x3x2x1",
    "n1c2h3w3o3k2p5",
    "n1c16h4w4o16k3s5p1",
    "n1c16h9w9o16k1s4",
    "n1c8h12w11o24k3p2d2",
    "n1c8h12w11o24k3p0x3x4x1d2x3",
    "n1c3h16w16o8k3p3d3",
    "n1c16h6w6o16k3p1g16",
    "n2c33h5w7o33k3s2p1g33",
    "n1c64h7w7o64k5p2g64",
    "n1c20h3w4o20k2p3x0x1x2g20",
    "n1c20h6w6o20k3p1g5",
    "n1c32h6w6o32k3p1g2",
    "n1c32h6w6o64k3p1g8",
    "n1c48h5w5o48k3p1g2",
    "n1c24h5w5o36k3p1g12",
    "n1c64h5w5o128k3p1g2",
    "n1c128h4w4o128k3p1g32",
    "n1c8h5w5o16k3p1g8",
    "n1c600h3w3o40k1",
    "n1c64h7w7o32k3p1",
    "n5c640h1w1o70k1",
    "n1c48h7w7o10k7",
    "n1c16h1w40o16k1x7p0x3",
    "n1c16h40w1o16k7x1p3x0",
    "n1c16h3w3o16k3p2",
    "n13c5h1w1o5k1",
    "n1c1h5w5o1k3p1",
    "n1c16h5w5o96k3p1",
    "n1c16h5w5o112k3p1",
    "n2c150h12w12o64k3p1",
    "n1c256h3w5o130k3p1",
    "n1c512h3w2o16k3p1",
    "n2c8h2w8o8k3s4x1p2d2",
    "n1c4h9w9o4k7p3",
];

#[test]
fn kernels_match_the_f64_reference() {
    let grid: Vec<_> = part_of(GRID).collect();
    let runs: usize = grid.iter().map(|text| check(&text.parse().unwrap())).sum();
    report(&format!("convolution: {} problems of the grid, {runs} runs on {:?}", grid.len(), KernelTable::all()));
}

fn problems() -> impl Strategy<Value = ConvProblem> {
    let group = (1usize..5, 1usize..20, 1usize..20);
    let axis = (1usize..14, 1usize..5, 1usize..4, 0usize..4, 0usize..4, 1usize..3);
    (1usize..4, group, axis.clone(), axis).prop_filter_map("the kernel is over the padded input", |(n, (groups, width, outputs), y, x)| {
        let p = ConvProblem {
            n,
            c: groups * width,
            h: y.0,
            w: x.0,
            oc: groups * outputs,
            kernel: [y.1, x.1],
            stride: [y.2, x.2],
            pads: [y.3, x.3, y.4, x.4],
            dilation: [y.5, x.5],
            groups,
        };
        p.validate().is_ok().then_some(p)
    })
}

/// Every table in one way without residual or bounds.
fn plain(table: &'static KernelTable, (algorithm, layout): (Algorithm, Layout)) -> Setup {
    Setup { table, algorithm, layout, threads: 1, skip: Skip::None, clamp: NONE, output_halo: Halo::NONE }
}

/// More pixels than a block has, more output channels than wait for the rest of K at a time, and K in several chunks, with the
/// residual in place: im2col gives the bits of direct convolution.
#[test]
fn im2col_in_blocks_gives_the_bits_of_direct_convolution() {
    for text in part_of(["n1c80h31w30o600k3p1", "n2c19h40w21o40k5s2p3d2", "n1c1040h5w5o1100k1"]) {
        let p: ConvProblem = text.parse().unwrap();
        let data = Data::new(&p);
        for table in KernelTable::all() {
            // Plain code without fused multiply-add takes too long.
            if table.isa() == Isa::Portable && Isa::available().len() > 1 {
                continue;
            }
            let setup =
                |algorithm| Setup { skip: Skip::InPlace, threads: 2, clamp: (0.0, 6.0), ..plain(table, (algorithm, Layout::Nchw16c)) };
            let [direct, gemm] = [Algorithm::Direct, Algorithm::Im2colGemm].map(|algorithm| run(&p, &data, setup(algorithm)));
            assert!(bits(&direct) == bits(&gemm), "{text} on {table:?}");
        }
    }
}

#[test]
fn asking_for_weights_ahead_changes_no_bit() {
    let p: ConvProblem = "n1c64h9w9o64k3p1".parse().unwrap();
    let data = Data::new(&p);
    for table in KernelTable::all() {
        for (algorithm, threads) in ways(&p).into_iter().filter(|w| w.1 == Layout::Nchw16c).flat_map(|w| [(w.0, 1), (w.0, 3)]) {
            let plane = Geometry::new(Layout::Nchw16c, [1, 64, 9, 9], algorithm.required_halo(&p)).unwrap();
            let weights = PackedWeights::pack(table, &p, algorithm, Layout::Nchw16c, &data.weight, Some(&data.bias), &Inline).unwrap();
            let weights = Arc::new(weights);
            let conv = || Conv::new(p, algorithm, plane, plane, None, weights.clone(), NONE, threads).unwrap();
            let mut chain = [conv(), conv(), conv()];
            let mut input = Guarded::filled(plane.len(), f32::NAN);
            layout::from_nchw(&Inline, &data.input, &plane, &mut input).unwrap();
            let run = |conv: &Conv| {
                let mut output = Guarded::filled(plane.len(), f32::NAN);
                let mut scratch = Guarded::filled(conv.scratch_per_thread() * threads, f32::NAN);
                conv.run(&Threads(threads), &input, Residual::None, &mut output, &mut scratch).unwrap();
                bits(&output)
            };
            let alone = run(&chain[0]);
            schedule_prefetch(&mut chain.iter_mut().collect::<Vec<_>>());
            for conv in &chain {
                assert!(run(conv) == alone, "{algorithm:?} on {table:?} with {threads} threads");
            }
        }
    }
}

#[test]
fn results_are_bitwise_equal_for_every_number_of_threads() {
    for text in part_of([
        "n1c64h7w7o64k3p1",
        "n2c33h5w7o33k3s2p1g33",
        "n3c20h6w5o130k1",
        "n1c3h23w19o40k7s2p3",
        "n1c600h1w1o1000k1",
        "n1c40h9w5o72k3p1g2",
        "n1c256h17w16o65k3p1",
    ]) {
        let p: ConvProblem = text.parse().unwrap();
        let data = Data::new(&p);
        for table in KernelTable::all() {
            for way in ways(&p) {
                let setup = Setup { skip: Skip::InPlace, clamp: RELU, ..plain(table, way) };
                let one = bits(&run(&p, &data, setup));
                for threads in [2, 3, 5, 16] {
                    assert!(bits(&run(&p, &data, Setup { threads, ..setup })) == one, "{p} {setup:?}: other bits on {threads} threads");
                }
            }
        }
    }
}

/// Whether any value that the kernels multiply by something, if only by zero, for an output is not finite: the blocks of 16
/// channels of every group that has an output in the same block.
fn touched(p: &ConvProblem, input: &[f32], [n, o, y, x]: [usize; 4]) -> bool {
    let (width, outputs) = (p.c / p.groups, p.oc / p.groups);
    let groups = o / 16 * 16 / outputs..(o / 16 * 16 + 16).min(p.oc).div_ceil(outputs);
    let channels = groups.start * width / 16 * 16..(groups.end * width).next_multiple_of(16).min(p.c);
    let inside = |at: usize, tap: usize, axis: usize, size: usize| {
        (at * p.stride[axis] + tap * p.dilation[axis]).checked_sub(p.pads[axis]).filter(|v| *v < size)
    };
    let mut taps = (0..p.kernel[0]).flat_map(|kh| (0..p.kernel[1]).map(move |kw| (kh, kw)));
    taps.any(|(kh, kw)| match (inside(y, kh, 0, p.h), inside(x, kw, 1, p.w)) {
        (Some(row), Some(column)) => channels.clone().any(|c| !input[((n * p.c + c) * p.h + row) * p.w + column].is_finite()),
        _ => false,
    })
}

/// One NaN, one infinity of each sign, and two that meet. Exact where no two groups share a block of channels; where they do,
/// an output is as the oracle says or, if its blocks are touched, NaN.
#[test]
fn nan_and_infinity_go_through_as_in_the_reference() {
    for (text, exact) in [
        ("n1c3h9w9o20k3p1", true),
        ("n2c20h8w9o24k3p1", true),
        ("n1c70h8w8o40k3s2p1", true),
        ("n1c40h7w9o40k3p1g40", true),
        ("n1c64h7w7o64k3p1g2", true),
        ("n1c8h9w9o64k3p1g4", true),
        ("n1c32h7w8o32k3p1g8", false),
        ("n1c48h7w8o48k3p1g2", false),
    ] {
        let p: ConvProblem = text.parse().unwrap();
        let mut data = Data::new(&p);
        let plane = p.h * p.w;
        for (channel, pixel, value) in [
            (0, 0, f32::NAN),
            (p.c - 1, plane - 1, f32::INFINITY),
            (1, plane - p.w, f32::NEG_INFINITY),
            (0, 4 * p.w - 2, f32::INFINITY),
            (p.c / 2, 4 * p.w - 1, f32::NEG_INFINITY),
        ] {
            data.input[channel * plane + pixel] = value;
        }
        for (clamp, skip) in [(NONE, Skip::None), (RELU, Skip::Buffer)] {
            let finite = Data { input: data.input.iter().map(|v| if v.is_finite() { *v } else { 0.0 }).collect(), ..Data::new(&p) };
            let bounds = expected(&p, &finite, &oracle(&p, &finite), skip, clamp);
            let oracle = reference::convolution(&p, &data.input, &data.weight, Some(&data.bias)).unwrap();
            let [oh, ow] = p.output();
            let mut seen = 0;
            for (table, way) in KernelTable::all().into_iter().flat_map(|t| direct_ways(&p).into_iter().map(move |w| (t, w))) {
                let found = run(&p, &data, Setup { skip, clamp, ..plain(table, way) });
                for (i, value) in found.iter().enumerate() {
                    let residual = if skip == Skip::None { 0.0 } else { f64::from(data.residual[i]) };
                    let sum = oracle[i] + residual;
                    // Bounds let NaN pass, which f64::max does not.
                    let exactly = if sum.is_nan() { sum } else { sum.max(f64::from(clamp.0)).min(f64::from(clamp.1)) };
                    let at = [i / (p.oc * oh * ow), i / (oh * ow) % p.oc, i / ow % oh, i % ow];
                    let value = f64::from(*value);
                    let same = value == exactly || value.is_nan() && exactly.is_nan() || (value - exactly).abs() <= bounds[i].1;
                    let shared = !exact || p.is_depthwise() && way.1 == Layout::Nchw;
                    let poisoned = shared && value.is_nan() && touched(&p, &data.input, at);
                    assert!(same || poisoned, "{p} on {table:?}, {way:?}: output {at:?} is {value}, exactly {exactly}");
                    seen += usize::from(!value.is_finite());
                }
            }
            assert!(seen > 0, "{p}: nothing came through");
        }
    }
}

/// Winograd's transforms mix a tile of pixels, so one value that is not finite may make NaN of its whole tile; tiles that do not
/// hold it, other images and the channels that pad the output are as if it were not there.
#[test]
fn winograd_keeps_what_is_not_finite_within_its_tiles() {
    let p: ConvProblem = "n2c20h13w14o24k3p1".parse().unwrap();
    let clean = Data::new(&p);
    let (row, column) = (5, 6);
    for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut data = Data::new(&p);
        data.input[(3 * p.h + row) * p.w + column] = special;
        for variant in [Winograd::F2, Winograd::F4] {
            // A tile reads one row and column before its first output and one behind its last.
            let reads = |output: usize, at: usize| {
                let first = output / variant.outputs() * variant.outputs();
                (first..first + variant.outputs() + 2).contains(&(at + 1))
            };
            for table in KernelTable::all() {
                let setup = plain(table, (Algorithm::Winograd(variant), Layout::Nchw16c));
                let (found, undisturbed) = (run(&p, &data, setup), run(&p, &clean, setup));
                for (i, (value, expected)) in found.iter().zip(&undisturbed).enumerate() {
                    let (n, y, x) = (i / (p.oc * p.h * p.w), i / p.w % p.h, i % p.w);
                    let under = y.abs_diff(row) <= 1 && x.abs_diff(column) <= 1;
                    if n == 0 && reads(y, row) && reads(x, column) {
                        assert!(!under || !value.is_finite(), "{variant:?} on {table:?}: {special} was lost at {y}, {x}");
                    } else {
                        assert_eq!(value.to_bits(), expected.to_bits(), "{variant:?} on {table:?}: {special} reached {n}, {y}, {x}");
                    }
                }
            }
        }
    }
}

/// Sums of denormals are exact but for the last place, and the same on every table.
#[test]
fn denormals_are_kept_where_they_are_not_flushed() {
    for text in ["n1c20h5w6o24k3p1", "n1c33h5w6o33k3p1g33"] {
        let p: ConvProblem = text.parse().unwrap();
        let mut data = Data::new(&p);
        for values in [&mut data.input, &mut data.bias] {
            values.iter_mut().for_each(|v| *v *= 1e-39);
        }
        let oracle = reference::convolution(&p, &data.input, &data.weight, Some(&data.bias)).unwrap();
        let bound = 2.0 * p.weight_len() as f64 * f64::from(f32::from_bits(1));
        for way in direct_ways(&p) {
            let mut first = None;
            for table in KernelTable::all() {
                let found = run(&p, &data, plain(table, way));
                assert!(found.iter().zip(&oracle).all(|(v, o)| (f64::from(*v) - o).abs() <= bound), "{p} on {table:?}");
                assert!(found.iter().any(|v| v.is_subnormal()), "{p} on {table:?}: all flushed");
                assert!(*first.get_or_insert_with(|| bits(&found)) == bits(&found), "{p} on {table:?}, {way:?}");
            }
        }
    }
}

/// Where they are flushed, no denormal comes out, and every instruction set flushes the same.
#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn denormals_are_flushed_alike_on_every_instruction_set() {
    let p: ConvProblem = "n1c20h5w6o24k3p1".parse().unwrap();
    let mut data = Data::new(&p);
    data.input.iter_mut().for_each(|v| *v *= 1e-37);
    data.bias.fill(0.0);
    let found = |table, way| {
        let _flush = FlushDenormals::new();
        bits(&run_on(&Inline, &p, &data, plain(table, way)))
    };
    // A table of functions of the C library follows that library's rules.
    let tables = Isa::available()
        .iter()
        .map(|isa| KernelTable::get(*isa).unwrap())
        .filter(|t| t.isa() != Isa::Portable || t.name() != "portable" || cfg!(target_arch = "aarch64"));
    let mut first = None;
    for table in tables {
        for way in [(Algorithm::Direct, Layout::Nchw16c), (Algorithm::Im2colGemm, Layout::Nchw16c)] {
            let found = found(table, way);
            assert!(!found.iter().any(|b| f32::from_bits(*b).is_subnormal()), "{table:?}");
            assert!(*first.get_or_insert_with(|| found.clone()) == found, "{table:?}, {way:?}");
        }
    }
}

#[test]
fn random_problems_match_the_f64_reference() {
    let cases = cases(96);
    let runs = std::cell::Cell::new(0);
    let result = random_runner("random convolutions", cases).run(&problems(), |p| {
        runs.set(runs.get() + check(&p));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    report(&format!("convolution: {cases} random problems, {} runs on {:?}", runs.get(), KernelTable::all()));
}
