//! Every convolution kernel of the table against the f64 oracle, and bit for bit against the others.

mod harness;

use harness::{Guarded, Threads, assert_borders_are_zero, noise};
use proptest::prelude::*;
use std::sync::Arc;
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual};
use stridewise_kernels::{ConvProblem, Geometry, Halo, Inline, Isa, KernelTable, Layout, layout, reference};

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

/// The halo that a direct convolution of a problem needs.
fn halo_of(p: &ConvProblem) -> Halo {
    let [oh, ow] = p.output();
    let last = |o: usize, axis: usize| (o - 1) * p.stride[axis] + (p.kernel[axis] - 1) * p.dilation[axis] + 1;
    Halo {
        top: p.pads[0],
        left: p.pads[1],
        bottom: last(oh, 0).saturating_sub(p.h + p.pads[0]),
        right: last(ow, 1).saturating_sub(p.w + p.pads[1]),
    }
}

fn run(p: &ConvProblem, data: &Data, setup: Setup) -> Vec<f32> {
    let [oh, ow] = p.output();
    let table = setup.table;
    let executor = Threads(setup.threads);
    let halo = if setup.algorithm == Algorithm::Im2colGemm { Halo::NONE } else { halo_of(p) };
    let input = Geometry::new(setup.layout, [p.n, p.c, p.h, p.w], halo).unwrap();
    let output = Geometry::new(Layout::Nchw16c, [p.n, p.oc, oh, ow], setup.output_halo).unwrap();
    let residual = match setup.skip {
        Skip::None => None,
        Skip::Buffer => Some(Geometry::new(Layout::Nchw16c, [p.n, p.oc, oh, ow], Halo { top: 1, left: 2, bottom: 0, right: 1 }).unwrap()),
        Skip::InPlace => Some(output),
    };
    let weights = PackedWeights::pack(table, p, setup.layout, &data.weight, Some(&data.bias), &executor).unwrap();
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
    conv.run(&executor, &input_data, given, &mut output_data, &mut scratch).unwrap();

    assert_borders_are_zero(&output, &output_data, &p.to_string());
    let mut dense = vec![0.0; p.n * p.oc * oh * ow];
    layout::to_nchw(&Inline, &output_data, &output, &mut dense).unwrap();
    dense
}

/// The oracle with residual and activation, and for each output the bound that its rounding errors must keep.
fn expected(p: &ConvProblem, data: &Data, skip: Skip, clamp: (f32, f32)) -> Vec<(f64, f64)> {
    let absolute = |v: &[f32]| v.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let exact = reference::convolution(p, &data.input, &data.weight, Some(&data.bias));
    let magnitude = reference::convolution(p, &absolute(&data.input), &absolute(&data.weight), Some(&absolute(&data.bias)));
    let steps = (p.c / p.groups * p.kernel[0] * p.kernel[1]).min(512 + 64) + 8;
    let unit = f64::from(f32::EPSILON) / 2.0;
    (0..exact.len())
        .map(|i| {
            let add = if skip == Skip::None { 0.0 } else { f64::from(data.residual[i]) };
            let value = (exact[i] + add).max(f64::from(clamp.0)).min(f64::from(clamp.1));
            (value, unit * steps as f64 * (magnitude[i] + add.abs()))
        })
        .collect()
}

/// Layouts and algorithms that a problem can be run with.
fn ways(p: &ConvProblem) -> Vec<(Algorithm, Layout)> {
    if p.is_depthwise() {
        return vec![(Algorithm::Depthwise, Layout::Nchw16c), (Algorithm::Direct, Layout::Nchw), (Algorithm::Im2colGemm, Layout::Nchw)];
    }
    let mut ways = Vec::new();
    for layout in [Layout::Nchw16c, Layout::Nchw] {
        ways.extend([(Algorithm::Direct, layout), (Algorithm::Im2colGemm, layout)]);
    }
    ways
}

const NONE: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);
const RELU: (f32, f32) = (0.0, f32::INFINITY);

/// Runs a problem in every way on every instruction set; returns how many runs that were.
fn check(p: &ConvProblem) -> usize {
    let data = Data::new(p);
    let variants = [
        (Skip::None, NONE, Halo::NONE, 1),
        (Skip::Buffer, RELU, Halo { top: 1, left: 1, bottom: 1, right: 1 }, 2),
        (Skip::InPlace, (-0.5, 0.75), Halo { top: 0, left: 3, bottom: 2, right: 0 }, 3),
    ];
    let mut runs = 0;
    for (skip, clamp, output_halo, threads) in variants {
        let exact = expected(p, &data, skip, clamp);
        let mut first: std::collections::HashMap<Layout, Vec<u32>> = Default::default();
        for (algorithm, layout) in ways(p) {
            for table in KernelTable::all() {
                let setup = Setup { table, algorithm, layout, threads, skip, clamp, output_halo };
                let found = run(p, &data, setup);
                for (i, (value, (exact, bound))) in found.iter().zip(&exact).enumerate() {
                    let error = (f64::from(*value) - exact).abs();
                    assert!(error <= *bound, "{p} {setup:?}: output {i} is {value}, exactly {exact}: off by {error}, bound {bound}");
                }
                let bits: Vec<u32> = found.iter().map(|v| v.to_bits()).collect();
                let other = first.entry(layout).or_insert_with(|| bits.clone());
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
];

#[test]
fn kernels_match_the_f64_reference() {
    let runs: usize = GRID.iter().map(|text| check(&text.parse().unwrap())).sum();
    println!("{} problems, {runs} runs on {:?}", GRID.len(), KernelTable::all());
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let table = KernelTable::get(Isa::Portable).unwrap();
    let p: ConvProblem = "n1c16h4w4o16k3p1".parse().unwrap();
    let other: ConvProblem = "n1c16h4w4o16k1".parse().unwrap();
    assert!(PackedWeights::pack(table, &p, Layout::Nchw16c, &[0.0; 3], None, &Inline).is_err());
    let weights = Arc::new(PackedWeights::pack(table, &other, Layout::Nchw16c, &vec![0.0; other.weight_len()], None, &Inline).unwrap());
    let g = |halo| Geometry::new(Layout::Nchw16c, [1, 16, 4, 4], halo).unwrap();
    assert!(Conv::new(p, Algorithm::Direct, g(halo_of(&p)), g(Halo::NONE), None, weights.clone(), NONE, 1).is_err());
    let right = Arc::new(PackedWeights::pack(table, &p, Layout::Nchw16c, &vec![0.0; p.weight_len()], None, &Inline).unwrap());
    assert!(Conv::new(p, Algorithm::Direct, g(Halo::NONE), g(Halo::NONE), None, right.clone(), NONE, 1).is_err(), "halo too small");
    let conv = Conv::new(p, Algorithm::Direct, g(halo_of(&p)), g(Halo::NONE), None, right, NONE, 1).unwrap();
    let (input, mut output) = (vec![0.0; g(halo_of(&p)).len()], vec![0.0; g(Halo::NONE).len()]);
    assert!(conv.run(&Inline, &input[1..], Residual::None, &mut output, &mut []).is_err());
    assert!(conv.run(&Inline, &input, Residual::None, &mut output[1..], &mut []).is_err());
    assert!(conv.run(&Inline, &input, Residual::InPlace, &mut output, &mut []).is_err(), "no residual was planned");
    assert!(conv.run(&Inline, &input, Residual::None, &mut output, &mut []).is_ok());
}

#[test]
fn problem_strings_round_trip_and_malformed_ones_are_refused() {
    for text in GRID {
        let p: ConvProblem = text.parse().unwrap();
        assert_eq!(p.to_string().parse::<ConvProblem>().unwrap(), p);
    }
    for bad in [
        "",
        "c1",
        "n1c1h1w1o1k0",
        "n0c1h1w1o1k1",
        "n1c1h1w1o1k2",
        "n1c1h1w1o1k1s0",
        "n1c1h1w1o1k1g2",
        "n1c1h1w1o1k1q1",
        "n1n1c1h1w1o1k1",
        "n1c1h1w1o1k1x1x1",
        "n1c99999999999999999999h1w1o1k1",
        "n1c4294967296h4294967296w4294967296o1k1",
        "n1c1h1w1o1k1p9223372036854775807",
        "n1c1h1w1o1k9223372036854775807d9223372036854775807",
        "é",
    ] {
        assert!(bad.parse::<ConvProblem>().is_err(), "{bad}");
    }
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_problems_match_the_f64_reference(p in problems()) {
        check(&p);
    }
}
