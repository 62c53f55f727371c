//! Convolutions and other ops of bfloat16 against f64, on every table, algorithm, layout and number of threads.

#![cfg(feature = "bf16")]

mod harness;

use harness::halves::{assert_borders_are_zero as assert_halves_are_zero, half_buffer_of, halves_of, winograd_of_halves};
use harness::{Guarded, Threads, assert_borders_are_zero, bits, buffer_of, dense_of, noise, part_of};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use stridewise_kernels::bf16::{Bf16Conversion, Bf16Table, bf16_bits, bf16_value};
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual, Winograd};
use stridewise_kernels::elementwise::Elementwise;
use stridewise_kernels::pool::{Pool, Reduction, Windows};
use stridewise_kernels::{ConvProblem, Geometry, Halo, Inline, KernelTable, Layout, layout, reference};

fn rounded(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|x| bf16_value(bf16_bits(x))).collect()
}

struct Data {
    input: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Data {
    /// Inputs, weights and residual are bfloat16, so that what is compared is the kernel and not the rounding of its operands.
    fn new(p: &ConvProblem) -> Data {
        let [oh, ow] = p.output();
        let seed = p.to_string().bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        Data {
            input: rounded(noise(seed, p.n * p.c * p.h * p.w)),
            weight: rounded(noise(seed + 1, p.weight_len())),
            bias: noise(seed + 2, p.oc),
            residual: rounded(noise(seed + 3, p.n * p.oc * oh * ow)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    algorithm: Algorithm,
    layout: Layout,
    threads: usize,
    residual: bool,
    wide: bool,
    clamp: (f32, f32),
}

fn run(table: &'static Bf16Table, p: &ConvProblem, data: &Data, setup: Setup) -> Vec<f32> {
    let [oh, ow] = p.output();
    let input = Geometry::new(setup.layout, [p.n, p.c, p.h, p.w], setup.algorithm.required_halo(p)).unwrap();
    let stored = if setup.wide { Layout::Nchw16c } else { Layout::Nchw32c };
    let output = Geometry::new(stored, [p.n, p.oc, oh, ow], Halo { top: 1, left: 2, bottom: 0, right: 1 }).unwrap();
    let executor = Threads(setup.threads);
    let weights = PackedWeights::pack_bf16(table, p, setup.algorithm, setup.layout, &data.weight, Some(&data.bias), &executor).unwrap();
    let residual = setup.residual.then_some(output);
    let conv = Conv::new(*p, setup.algorithm, input, output, residual, Arc::new(weights), setup.clamp, setup.threads).unwrap();
    let mut result = match (setup.residual, setup.wide) {
        (false, _) => Guarded::filled(output.len(), f32::NAN),
        (true, true) => buffer_of(&output, &data.residual),
        (true, false) => half_buffer_of(&output, &data.residual),
    };
    let given = if setup.residual { Residual::InPlace } else { Residual::None };
    let mut scratch = Guarded::filled(conv.scratch_per_thread() * setup.threads, f32::NAN);
    conv.run(&executor, &half_buffer_of(&input, &data.input), given, &mut result, &mut scratch).unwrap();
    if setup.wide {
        assert_borders_are_zero(&output, &result, &p.to_string());
        return dense_of(&output, &result);
    }
    assert_halves_are_zero(&output, &result, &p.to_string());
    halves_of(&output, &result)
}

/// All layouts and algorithms that a problem can be run with.
fn ways(p: &ConvProblem) -> Vec<(Algorithm, Layout)> {
    let algorithms =
        [Algorithm::Direct, Algorithm::Depthwise, Algorithm::Grouped, Algorithm::Im2colGemm, Algorithm::Winograd(Winograd::F2)];
    let all = [Layout::Nchw32c, Layout::Nchw2c].into_iter().flat_map(|layout| algorithms.map(|a| (a, layout)));
    all.filter(|(algorithm, layout)| algorithm.check(p, *layout).is_ok()).collect()
}

fn check(p: &ConvProblem) {
    let data = Data::new(p);
    let absolute = |v: &[f32]| v.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let direct = reference::convolution(p, &data.input, &data.weight, Some(&data.bias)).unwrap();
    let magnitude = reference::convolution(p, &absolute(&data.input), &absolute(&data.weight), Some(&absolute(&data.bias))).unwrap();
    let direct = (direct, magnitude);
    let transformed = Algorithm::Winograd(Winograd::F2)
        .check(p, Layout::Nchw32c)
        .ok()
        .map(|()| winograd_of_halves(p, &data.input, &data.weight, &data.bias));
    if let Some((values, _)) = &transformed {
        // Rounded once more, they are still near the convolution.
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let error = squares(&mut values.iter().zip(&direct.0).map(|(a, b)| a - b));
        let size = squares(&mut direct.1.iter().copied());
        assert!(error <= size / 256.0, "{p}: {error} of {size}");
    }
    let steps = (p.c / p.groups * p.kernel[0] * p.kernel[1]).min(1024 + 64) + 8;
    let unit = f64::from(f32::EPSILON) / 2.0;
    let none = (f32::NEG_INFINITY, f32::INFINITY);
    for (residual, wide, clamp, threads) in
        [(false, false, none, 1), (true, false, (0.0, f32::INFINITY), 2), (false, true, none, 3), (true, true, (-0.5, 0.75), 1)]
    {
        let mut first: HashMap<_, Vec<u32>> = HashMap::new();
        for (algorithm, layout) in ways(p) {
            let (exact, magnitude) = match &transformed {
                Some(transformed) if matches!(algorithm, Algorithm::Winograd(_)) => transformed,
                _ => &direct,
            };
            for table in Bf16Table::all() {
                let setup = Setup { algorithm, layout, threads, residual, wide, clamp };
                let found = run(table, p, &data, setup);
                for (i, value) in found.iter().enumerate() {
                    let add = if residual { f64::from(data.residual[i]) } else { 0.0 };
                    let expected = (exact[i] + add).max(f64::from(clamp.0)).min(f64::from(clamp.1));
                    // Half a place of a bfloat16 of eight bits, if it is stored as one.
                    let stored = if wide { 0.0 } else { expected.abs() / 256.0 };
                    let bound = unit * steps as f64 * (magnitude[i] + add.abs()) * 1.01 + stored;
                    let error = (f64::from(*value) - expected).abs();
                    assert!(error <= bound, "{p} on {table:?}, {setup:?}: output {i} is {value}, exactly {expected}");
                }
                // All algorithms give the same bits, but Winograd and that of narrow groups, which adds up channel by channel; on all tables, where
                // each product is a fused multiply-add, else on each.
                let own = table.has_dot_products().then(|| table.name());
                if own.is_some() {
                    let other = run(table, p, &data, Setup { threads: 5, ..setup });
                    assert!(bits(&found) == bits(&other), "{p}, {setup:?}: other bits on 5 threads");
                }
                let another = [algorithm == Algorithm::Grouped, matches!(algorithm, Algorithm::Winograd(_))];
                let other = first.entry((layout, another, own)).or_insert_with(|| bits(&found));
                assert!(*other == bits(&found), "{p} on {table:?}, {setup:?}: not the bits of the first way");
            }
        }
    }
}

const GRID: &[&str] = &[
    "n1c1h1w1o1k1",
    "n1c3h1w1o16k1",
    "n1c33h7w7o65k1",
    "n2c31h5w9o33k3p1",
    "n1c64h7w7o64k3p1",
    "n3c17h6w5o49k3p2x1x0x3",
    "n1c1h1w1o1k3p1",
    "n1c70h6w6o80k1s2",
    "n1c3h23w19o64k7s2p3",
    "n1c2h3w3o3k2p5",
    "n1c8h12w11o24k3p0x3x4x1d2x3",
    "n2c70h5w7o70k3s2p1g70",
    "n1c64h7w7o64k5p2g64",
    "n1c20h6w6o20k3p1g5",
    "n1c80h6w6o80k3p1g10",
    "n1c18h5w5o27k3p1g9",
    "n1c2400h3w3o40k1",
    "n1c300h3w5o130k3p1",
    "n1c48h7w7o10k7",
];

#[test]
fn convolutions_of_bf16_match_the_f64_reference() {
    let grid: Vec<_> = part_of(GRID).collect();
    grid.iter().for_each(|text| check(&text.parse().unwrap()));
    println!("{} problems on {:?}", grid.len(), Bf16Table::all());
}

/// Groups of tiles whose sums wait for the rest of K, before others whose sums do not.
#[test]
fn sums_that_wait_are_no_other_tiles_business() {
    let p: ConvProblem = "n1c96h12w12o2048k6p3x3x2x2g4".parse().unwrap();
    let data = Data::new(&p);
    // Plain code takes too long, and has small tiles.
    for table in Bf16Table::all().into_iter().filter(|table| table.has_dot_products()) {
        let setup = |algorithm| Setup { algorithm, layout: Layout::Nchw32c, threads: 1, residual: false, wide: true, clamp: (0.0, 9.0) };
        let [direct, gathered] = [Algorithm::Direct, Algorithm::Im2colGemm].map(|algorithm| run(table, &p, &data, setup(algorithm)));
        assert!(bits(&direct) == bits(&gathered), "{p} on {table:?}");
    }
}

fn problems() -> impl Strategy<Value = ConvProblem> {
    let group = (1usize..5, 1usize..20, 1usize..20);
    let axis = (1usize..12, 1usize..5, 1usize..4, 0usize..4, 0usize..4, 1usize..3);
    (1usize..3, group, axis.clone(), axis).prop_filter_map("the kernel is over the padded input", |(n, (groups, width, outputs), y, x)| {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: harness::cases(32), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_convolutions_of_bf16_match_the_f64_reference(p in problems()) {
        check(&p);
    }
}

/// Every bfloat16 is kept, and every float goes to the nearest, whatever the layouts.
#[test]
fn conversions_round_to_nearest_in_every_layout() {
    let dims = [2, 37, 3, 35];
    let len: usize = dims.iter().product();
    let mut values = noise(8, len);
    let specials = [0x3f80_8000u32, 0x3f81_8000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7f80_0001, 0x7f7f_ffff, 0x8000_0000];
    specials.into_iter().enumerate().for_each(|(i, bits)| values[i * 53] = f32::from_bits(bits));
    let halo = Halo { top: 1, left: 2, bottom: 0, right: 1 };
    for table in KernelTable::all() {
        for floats in [Layout::Nchw, Layout::Nchw16c] {
            for halves in [Layout::Nchw2c, Layout::Nchw32c] {
                let (from, to) = (Geometry::new(floats, dims, Halo::NONE).unwrap(), Geometry::new(halves, dims, halo).unwrap());
                let mut narrow = Guarded::filled(to.len(), f32::NAN);
                Bf16Conversion::new(from, to, table).unwrap().run(&Threads(2), &buffer_of(&from, &values), &mut narrow).unwrap();
                assert_halves_are_zero(&to, &narrow, table.name());
                let expected = rounded(values.clone());
                assert!(bits(&halves_of(&to, &narrow)) == bits(&expected), "{table:?} {from:?} {to:?}");
                let back = Geometry::new(floats, dims, halo).unwrap();
                let mut wide = Guarded::filled(back.len(), f32::NAN);
                Bf16Conversion::new(to, back, table).unwrap().run(&Threads(2), &narrow, &mut wide).unwrap();
                assert_borders_are_zero(&back, &wide, table.name());
                assert!(bits(&dense_of(&back, &wide)) == bits(&expected), "{table:?} {to:?} {back:?}");
            }
        }
    }
    assert!(bf16_value(bf16_bits(f32::NAN)).is_nan() && bf16_value(bf16_bits(f32::from_bits(0x7f80_0001))).is_nan());
    assert_eq!([1.0f32 + 1.0 / 256.0, 1.0 + 3.0 / 256.0].map(|x| bf16_value(bf16_bits(x))), [1.0, 1.0 + 4.0 / 256.0]);
}

/// Pools and element-wise ops compute in f32 and round once.
#[test]
fn other_ops_of_bf16_round_once() {
    let dims = [2, 70, 4, 5];
    let len = dims.iter().product();
    let (a, b) = (rounded(noise(1, len)), rounded(noise(2, len)));
    let (scale, shift) = (noise(3, 70), noise(4, 70));
    let halo = Halo { top: 1, left: 1, bottom: 1, right: 1 };
    let g = Geometry::new(Layout::Nchw32c, dims, halo).unwrap();
    let bounds = (0.1, 0.75);
    for table in KernelTable::all() {
        let run = |op: Elementwise, second: bool| {
            let mut output = Guarded::filled(g.len(), f32::NAN);
            let second = second.then(|| half_buffer_of(&g, &b));
            op.run(&Threads(3), &half_buffer_of(&g, &a), second.as_deref(), &mut output).unwrap();
            assert_halves_are_zero(&g, &output, table.name());
            halves_of(&g, &output)
        };
        let bounded = |x: f32| x.clamp(bounds.0, bounds.1);
        let sums: Vec<f32> = a.iter().zip(&b).map(|(a, b)| bounded(a + b)).collect();
        assert_eq!(run(Elementwise::add(g, g, g, bounds, table).unwrap(), true), rounded(sums), "{table:?}");
        assert_eq!(run(Elementwise::clamp(g, g, bounds, table).unwrap(), false), rounded(a.iter().map(|x| bounded(*x)).collect()));
        let affine = |(i, x): (usize, &f32)| bounded(x.mul_add(scale[i / 20 % 70], shift[i / 20 % 70]));
        let expected = rounded(a.iter().enumerate().map(affine).collect());
        assert_eq!(run(Elementwise::affine(g, g, &scale, &shift, bounds, table).unwrap(), false), expected, "{table:?}");

        let to = Geometry::new(Layout::Nchw32c, [2, 70, 1, 1], halo).unwrap();
        let windows = || (Windows::adaptive(4, 1).unwrap(), Windows::adaptive(5, 1).unwrap());
        for reduction in [Reduction::Maximum, Reduction::Mean] {
            let mut output = Guarded::filled(to.len(), f32::NAN);
            let pool = Pool::new(reduction, g, to, windows().0, windows().1, table).unwrap();
            pool.run(&Threads(2), &half_buffer_of(&g, &a), &mut output).unwrap();
            assert_halves_are_zero(&to, &output, table.name());
            let expected = a.chunks(20).map(|plane| match reduction {
                Reduction::Maximum => plane.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                Reduction::Mean => plane.chunks(5).map(|row| row.iter().fold(0.0, |s, x| s + x)).fold(0.0, |s: f32, x| s + x) / 20.0,
            });
            assert_eq!(halves_of(&to, &output), rounded(expected.collect()), "{table:?} {reduction:?}");
        }
    }
}

#[test]
fn formats_that_do_not_belong_together_are_refused() {
    let p: ConvProblem = "n1c8h4w4o8k1".parse().unwrap();
    let table = KernelTable::all()[0];
    let [floats, halves, bytes] =
        [Layout::Nchw16c, Layout::Nchw32c, Layout::Nchw64c].map(|l| Geometry::new(l, [1, 8, 4, 4], Halo::NONE).unwrap());
    let direct = Algorithm::Direct;
    assert!(PackedWeights::pack_bf16(table.bf16().unwrap(), &p, direct, Layout::Nchw16c, &[0.0; 64], None, &Inline).is_err());
    assert!(PackedWeights::pack(table, &p, direct, Layout::Nchw64c, &[0.0; 64], None, &Inline).is_err());
    let weights =
        || Arc::new(PackedWeights::pack_bf16(table.bf16().unwrap(), &p, direct, Layout::Nchw32c, &[0.0; 64], None, &Inline).unwrap());
    let none = (f32::NEG_INFINITY, f32::INFINITY);
    let refusal = |input, output, residual| Conv::new(p, direct, input, output, residual, weights(), none, 1).err();
    assert!(refusal(halves, halves, None).is_none() && refusal(halves, floats, Some(floats)).is_none());
    assert!(refusal(floats, halves, None).unwrap().to_string().contains("Nchw32c"));
    assert!(refusal(halves, bytes, None).unwrap().to_string().contains("Nchw64c"));
    assert!(refusal(halves, halves, Some(floats)).unwrap().to_string().contains("residual"));
    assert!(Bf16Conversion::new(floats, floats, table).is_err() && Bf16Conversion::new(halves, bytes, table).is_err());
    assert!(Elementwise::clamp(halves, floats, none, table).is_err());
    let mut buffer = vec![0.0; halves.len()];
    assert!(layout::from_nchw(&Inline, &[0.0; 128], &halves, &mut buffer).is_err());
    assert!(layout::to_nchw(&Inline, &vec![0.0; bytes.len()], &bytes, &mut [0.0; 128]).is_err());
}
