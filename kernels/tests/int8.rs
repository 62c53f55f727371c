//! Convolutions and other ops of bytes: every table, algorithm, layout and number of threads gives exactly what integers give.

#![cfg(feature = "int8")]

mod harness;

use harness::bytes::{assert_borders_are_zero_points, byte_buffer_of, byte_noise, bytes_of, exact_sums, requantized, scaled};
use harness::{Guarded, Threads, assert_borders_are_zero, buffer_of, dense_of, for_each, noise, part_of};
use proptest::prelude::*;
use std::sync::Arc;
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, QuantizedInput, Requantize, Residual};
use stridewise_kernels::int8::{Dequantize, Int8Table, Quantize, QuantizedAdd, QuantizedPool, quantize_value};
use stridewise_kernels::pool::{Reduction, Windows};
use stridewise_kernels::{ConvProblem, Geometry, Halo, Inline, Isa, KernelTable, Layout};

struct Data {
    input: Vec<u8>,
    weight: Vec<i8>,
    bias: Vec<i32>,
    scales: Vec<f32>,
    residual: Vec<u8>,
    zero: u8,
}

impl Data {
    fn new(p: &ConvProblem) -> Data {
        let [oh, ow] = p.output();
        let seed = p.to_string().bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        let steps = (p.c / p.groups * p.kernel[0] * p.kernel[1]) as f32;
        Data {
            input: byte_noise(seed, p.n * p.c * p.h * p.w),
            weight: byte_noise(seed + 1, p.weight_len()).iter().map(|b| *b as i8).collect(),
            bias: noise(seed + 2, p.oc).iter().map(|b| (b * 2000.0) as i32).collect(),
            // Outputs fill the range of a byte, and some are over it.
            scales: noise(seed + 3, p.oc).iter().map(|s| (s.abs() + 0.3) * 0.02 / steps.sqrt()).collect(),
            residual: byte_noise(seed + 4, p.n * p.oc * oh * ow),
            zero: (seed % 256) as u8,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Skip {
    None,
    Buffer,
    InPlace,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Out {
    Bytes(u8),
    Floats,
    Sums,
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    algorithm: Algorithm,
    layout: Layout,
    threads: usize,
    skip: Skip,
    out: Out,
    clamp: (f32, f32),
    output_halo: Halo,
}

/// Runs a problem and compares every output with what integers give.
fn check_one(table: &'static Int8Table, p: &ConvProblem, data: &Data, sums: &[i64], setup: Setup) {
    let [oh, ow] = p.output();
    let dims = [p.n, p.oc, oh, ow];
    let input = Geometry::new(setup.layout, [p.n, p.c, p.h, p.w], setup.algorithm.required_halo(p)).unwrap();
    let input = input.with_zero_point(data.zero).unwrap();
    let output = match setup.out {
        Out::Bytes(zero) => Geometry::new(Layout::Nchw64c, dims, setup.output_halo).unwrap().with_zero_point(zero).unwrap(),
        _ => Geometry::new(Layout::Nchw16c, dims, setup.output_halo).unwrap(),
    };
    let residual_zero = match setup.skip {
        Skip::Buffer => 77,
        _ => output.zero_point(),
    };
    let other_halo = Halo { top: 1, left: 2, bottom: 0, right: 1 };
    let residual = match setup.skip {
        Skip::None => None,
        Skip::InPlace => Some(output),
        Skip::Buffer => {
            let g = Geometry::new(output.layout(), dims, other_halo).unwrap();
            Some(if let Out::Bytes(_) = setup.out { g.with_zero_point(residual_zero).unwrap() } else { g })
        }
    };
    let weights = PackedWeights::pack_int8(
        table,
        p,
        setup.algorithm,
        setup.layout,
        &data.weight,
        Some(&data.bias),
        data.zero,
        &Threads(setup.threads),
    );
    let requantize = Requantize { scales: &data.scales, residual_scale: 0.37, clamp: setup.clamp, sums: setup.out == Out::Sums };
    let conv =
        Conv::quantized(*p, setup.algorithm, input, output, residual, Arc::new(weights.unwrap()), &requantize, setup.threads).unwrap();

    let bytes = matches!(setup.out, Out::Bytes(_));
    let floats: Vec<f32> = data.residual.iter().map(|b| f32::from(*b) - 100.5).collect();
    let residual_buffer = |g: &Geometry| if bytes { byte_buffer_of(g, &data.residual) } else { buffer_of(g, &floats) };
    let mut result = Guarded::filled(output.len(), f32::NAN);
    let residual_data = residual.map(|g| residual_buffer(&g));
    let given = match (setup.skip, &residual_data) {
        (Skip::Buffer, Some(buffer)) => Residual::Buffer(buffer),
        (Skip::InPlace, Some(buffer)) => {
            result.copy_from_slice(buffer);
            Residual::InPlace
        }
        _ => Residual::None,
    };
    let mut scratch = Guarded::filled(conv.scratch_per_thread() * setup.threads, f32::NAN);
    conv.run(&Threads(setup.threads), &byte_buffer_of(&input, &data.input), given, &mut result, &mut scratch).unwrap();

    let context = format!("{p} on {table:?}, {setup:?}");
    let plane = oh * ow;
    let skips = setup.skip != Skip::None;
    match setup.out {
        Out::Bytes(zero) => {
            assert_borders_are_zero_points(&output, &result, &context);
            for (i, found) in bytes_of(&output, &result).into_iter().enumerate() {
                let residual = skips.then(|| (data.residual[i], residual_zero));
                let expected = requantized(sums[i], i / plane % p.oc, &requantize, residual, zero);
                assert_eq!(found, expected, "{context}: output {i}, sum {}", sums[i]);
            }
        }
        Out::Floats => {
            assert_borders_are_zero(&output, &result, &context);
            for (i, found) in dense_of(&output, &result).into_iter().enumerate() {
                let expected = scaled(sums[i], data.scales[i / plane % p.oc], skips.then(|| floats[i]), setup.clamp);
                assert_eq!(found.to_bits(), expected.to_bits(), "{context}: output {i} is {found}, not {expected}");
            }
        }
        Out::Sums => {
            assert_borders_are_zero(&output, &result, &context);
            let found: Vec<i32> = dense_of(&output, &result).iter().map(|v| v.to_bits() as i32).collect();
            assert!(found.iter().zip(sums).all(|(f, s)| i64::from(*f) == *s), "{context}");
        }
    }
}

const NONE: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);
const RELU: (f32, f32) = (0.0, f32::INFINITY);

/// All layouts and algorithms that a problem can be run with.
fn ways(p: &ConvProblem) -> Vec<(Algorithm, Layout)> {
    let algorithms = [Algorithm::Direct, Algorithm::Depthwise, Algorithm::Grouped, Algorithm::Im2colGemm];
    let all = [Layout::Nchw64c, Layout::Nchw4c].into_iter().flat_map(|layout| algorithms.map(|a| (a, layout)));
    all.filter(|(algorithm, layout)| algorithm.check(p, *layout).is_ok()).collect()
}

/// Runs a problem in every way on every table; returns how many runs that were.
fn check(p: &ConvProblem) -> usize {
    let data = Data::new(p);
    let sums = exact_sums(p, &data.input, data.zero, &data.weight, &data.bias);
    let around = Halo { top: 1, left: 1, bottom: 1, right: 1 };
    let variants = [
        (Skip::None, Out::Bytes(128), NONE, Halo::NONE, 1),
        (Skip::Buffer, Out::Bytes(0), RELU, around, 2),
        (Skip::InPlace, Out::Bytes(9), (-4.0, 100.25), Halo { top: 0, left: 3, bottom: 2, right: 0 }, 3),
        (Skip::None, Out::Floats, (-0.5, 1.0), around, 1),
        (Skip::InPlace, Out::Floats, RELU, Halo::NONE, 2),
        (Skip::None, Out::Sums, NONE, around, 2),
        // A residual whose planes lie further apart than the output's.
        (Skip::Buffer, Out::Bytes(0), NONE, Halo::NONE, 1),
    ];
    let mut runs = 0;
    for (skip, out, clamp, output_halo, threads) in variants {
        for (algorithm, layout) in ways(p) {
            for table in Int8Table::all() {
                check_one(table, p, &data, &sums, Setup { algorithm, layout, threads, skip, out, clamp, output_halo });
                runs += 1;
            }
        }
    }
    runs
}

/// Edges of every kind: channels around a word, a block of outputs and a plane, and those of the f32 kernels.
const GRID: &[&str] = &[
    "n1c1h1w1o1k1",
    "n1c3h1w1o16k1",
    "n2c4h3w5o64k1",
    "n1c5h7w7o65k1",
    "n1c64h7w7o64k1",
    "n1c65h4w5o130k3p1",
    "n2c63h5w9o33k3p1",
    "n1c130h6w6o80k1s2",
    "n1c3h23w19o64k7s2p3",
    "n1c3h9w9o20k3x5p1x2",
    "n1c4h5w5o5k5p4x3x2x1",
    "n1c2h3w3o3k2p5",
    "n1c16h4w4o16k3s5p1",
    "n1c8h12w11o24k3p0x3x4x1d2x3",
    "n1c16h6w6o16k3p1g16",
    "n2c70h5w7o70k3s2p1g70",
    "n1c64h7w7o64k5p2g64",
    "n1c20h3w4o20k2p3x0x1x2g20",
    "n1c20h6w6o20k3p1g5",
    "n1c80h6w6o80k3p1g10",
    "n1c32h6w6o64k3p1g8",
    "n1c24h5w5o36k3p1g12",
    "n1c256h4w4o256k3p1g32",
    "n1c18h5w5o27k3p1g9",
    "n1c2400h3w3o40k1",
    "n3c2304h3w3o70k1",
    "n13c5h1w1o5k1",
    "n1c520h3w5o130k3p1",
    "n1c48h7w7o10k7",
    "n1c16h1w1o448k1g4",
];

#[test]
fn convolutions_of_bytes_are_exact() {
    let grid: Vec<_> = part_of(GRID).collect();
    let runs: usize = grid.iter().map(|text| check(&text.parse().unwrap())).sum();
    println!("{} problems, {runs} runs on {:?}", grid.len(), Int8Table::all());
}

/// Long K in parts, whose sums wait, and more output channels than wait at a time.
#[test]
fn long_sums_of_bytes_wait_and_stay_exact() {
    for text in part_of(["n1c1100h9w17o200k3p1", "n1c4160h5w5o1100k1"]) {
        let p: ConvProblem = text.parse().unwrap();
        let data = Data::new(&p);
        let sums = exact_sums(&p, &data.input, data.zero, &data.weight, &data.bias);
        // Plain code takes too long where there is other.
        for table in Int8Table::all().into_iter().filter(|t| t.isa() != Isa::Portable || Isa::available().len() == 1) {
            for algorithm in [Algorithm::Direct, Algorithm::Im2colGemm] {
                let (skip, out, clamp) = (Skip::InPlace, Out::Bytes(3), RELU);
                let setup = Setup { algorithm, layout: Layout::Nchw64c, threads: 2, skip, out, clamp, output_halo: Halo::NONE };
                check_one(table, &p, &data, &sums, setup);
            }
        }
    }
}

/// All products at the ends of their ranges: what saturates in 16 bits would show.
#[test]
fn products_of_the_largest_bytes_do_not_saturate() {
    let p: ConvProblem = "n1c192h2w3o48k3p1".parse().unwrap();
    for (byte, weight) in [(255, 127), (255, -128), (0, -128), (255, -127)] {
        let data = Data {
            input: vec![byte; p.c * p.h * p.w],
            weight: vec![weight; p.weight_len()],
            bias: vec![-1; p.oc],
            scales: vec![1e-5; p.oc],
            residual: Vec::new(),
            zero: 1,
        };
        let sums = exact_sums(&p, &data.input, data.zero, &data.weight, &data.bias);
        for table in Int8Table::all() {
            for (algorithm, layout) in ways(&p) {
                let (skip, output_halo) = (Skip::None, Halo::NONE);
                check_one(table, &p, &data, &sums, Setup { algorithm, layout, threads: 1, skip, out: Out::Sums, clamp: NONE, output_halo });
            }
        }
    }
}

/// Ties go to the even integer, before the zero point is added.
#[test]
fn halves_are_rounded_to_even() {
    let p: ConvProblem = "n1c1h1w256o2k1".parse().unwrap();
    let data =
        Data { input: (0..=255).collect(), weight: vec![1; 2], bias: vec![0; 2], scales: vec![0.5; 2], residual: Vec::new(), zero: 100 };
    let sums = exact_sums(&p, &data.input, data.zero, &data.weight, &data.bias);
    for table in Int8Table::all() {
        for zero in [0, 1, 100, 255] {
            let (algorithm, layout) = (Algorithm::Direct, Layout::Nchw64c);
            let (skip, out, output_halo) = (Skip::None, Out::Bytes(zero), Halo::NONE);
            check_one(table, &p, &data, &sums, Setup { algorithm, layout, threads: 1, skip, out, clamp: NONE, output_halo });
        }
    }
    let requantize = Requantize { scales: &[0.5], residual_scale: 0.0, clamp: NONE, sums: false };
    let found: Vec<u8> = [-3, -1, 1, 3, 5].iter().map(|sum| requantized(*sum, 0, &requantize, None, 100)).collect();
    assert_eq!(found, [98, 100, 100, 102, 102]);
}

/// What comes out of a quantised convolution is what its quantised operands give, and close to what the floats do.
#[test]
fn quantised_weights_are_close_to_the_floats() {
    let p: ConvProblem = "n1c70h6w5o40k3p1".parse().unwrap();
    let (input_scale, zero) = (0.02f32, 90u8);
    let bytes = byte_noise(1, p.n * p.c * p.h * p.w);
    let floats: Vec<f32> = bytes.iter().map(|b| (f32::from(*b) - f32::from(zero)) * input_scale).collect();
    let mut weight = noise(2, p.weight_len());
    // A channel of zeros, and one of large weights.
    weight[..630].fill(0.0);
    weight[630..1260].iter_mut().for_each(|w| *w *= 1000.0);
    let bias = noise(3, p.oc);
    let from = Geometry::new(Layout::Nchw64c, [1, 70, 6, 5], Algorithm::Direct.required_halo(&p)).unwrap().with_zero_point(zero).unwrap();
    let to = Geometry::new(Layout::Nchw16c, [1, 40, 6, 5], Halo::NONE).unwrap();
    let exact = stridewise_kernels::reference::convolution(&p, &floats, &weight, Some(&bias)).unwrap();
    let input = |scale| QuantizedInput { scale, zero, means: &[], steps: &[] };
    for table in KernelTable::all() {
        let packed = PackedWeights::pack_quantized(
            table,
            &p,
            Algorithm::Direct,
            Layout::Nchw64c,
            &weight[..],
            Some(&bias),
            &input(input_scale),
            &Inline,
        )
        .unwrap();
        let scales: Vec<f32> = packed.weight_scales().iter().map(|s| s * input_scale).collect();
        let requantize = Requantize { scales: &scales, residual_scale: 1.0, clamp: NONE, sums: false };
        let conv = Conv::quantized(p, Algorithm::Direct, from, to, None, Arc::new(packed), &requantize, 1).unwrap();
        let mut output = Guarded::filled(to.len(), f32::NAN);
        let mut scratch = Guarded::filled(conv.scratch_per_thread(), f32::NAN);
        conv.run(&Inline, &byte_buffer_of(&from, &bytes), Residual::None, &mut output, &mut scratch).unwrap();
        for (i, found) in dense_of(&to, &output).into_iter().enumerate() {
            // Half a step of each weight times the largest input, for every weight at worst; far less on the average.
            let step = f64::from(scales[i / 30]) / 2.0;
            let error = (f64::from(found) - exact[i]).abs();
            assert!(error <= step * (630.0f64).sqrt() * 255.0 + 1e-4, "{table:?}: output {i} is {found}, exactly {}", exact[i]);
        }
    }
    for (scale, value) in [(0.0, 1.0), (f32::NAN, 1.0), (1.0, f32::NAN), (1.0, f32::INFINITY)] {
        weight[700] = value;
        let table = KernelTable::all()[0];
        let refused =
            PackedWeights::pack_quantized(table, &p, Algorithm::Direct, Layout::Nchw64c, &weight[..], Some(&bias), &input(scale), &Inline);
        assert!(refused.is_err(), "{scale} {value}");
    }
}

/// With the means of the inputs, what rounding the weights adds on the average is gone: all of it, where inputs are their means.
#[test]
fn biases_make_up_for_rounded_weights() {
    let p: ConvProblem = "n1c24h1w1o16k1g2".parse().unwrap();
    let (scale, zero) = (0.1f32, 3u8);
    let bytes: Vec<u8> = (0..24).map(|c| 50 + 7 * c).collect();
    let means: Vec<f32> = bytes.iter().map(|b| (f32::from(*b) - f32::from(zero)) * scale).collect();
    let (weight, bias) = (noise(4, p.weight_len()), noise(5, p.oc));
    let exact = stridewise_kernels::reference::convolution(&p, &means, &weight, Some(&bias)).unwrap();
    let from = Geometry::new(Layout::Nchw64c, [1, 24, 1, 1], Halo::NONE).unwrap().with_zero_point(zero).unwrap();
    let to = Geometry::new(Layout::Nchw16c, [1, 16, 1, 1], Halo::NONE).unwrap();
    let table = KernelTable::all()[0];
    let errors = |means: &[f32]| {
        let input = QuantizedInput { scale, zero, means, steps: &[] };
        let layout = Layout::Nchw64c;
        let packed =
            PackedWeights::pack_quantized(table, &p, Algorithm::Direct, layout, &weight[..], Some(&bias), &input, &Inline).unwrap();
        let scales: Vec<f32> = packed.weight_scales().iter().map(|s| s * scale).collect();
        let requantize = Requantize { scales: &scales, residual_scale: 1.0, clamp: NONE, sums: false };
        let conv = Conv::quantized(p, Algorithm::Direct, from, to, None, Arc::new(packed), &requantize, 1).unwrap();
        let mut output = Guarded::filled(to.len(), f32::NAN);
        conv.run(&Inline, &byte_buffer_of(&from, &bytes), Residual::None, &mut output, &mut []).unwrap();
        let found = dense_of(&to, &output).into_iter().map(f64::from);
        found.zip(&exact).zip(scales).map(|((f, e), s)| (f - e).abs() / f64::from(s)).fold(0.0, f64::max)
    };
    // In units of the bias, which is rounded to the nearest.
    assert!(errors(&means) <= 0.51, "{}", errors(&means));
    assert!(errors(&[]) > 10.0, "{}", errors(&[]));
    let few = QuantizedInput { scale, zero, means: &means[1..], steps: &[] };
    assert!(PackedWeights::pack_quantized(table, &p, Algorithm::Direct, Layout::Nchw64c, &weight[..], None, &few, &Inline).is_err());
}

#[test]
fn sums_that_could_overflow_are_refused() {
    let p: ConvProblem = "n1c70000h1w1o2k1".parse().unwrap();
    let table = Int8Table::all()[0];
    let mut weight = vec![127i8; p.weight_len()];
    weight[..70_000].fill(1);
    let error = PackedWeights::pack_int8(table, &p, Algorithm::Direct, Layout::Nchw64c, &weight, None, 0, &Inline).err().unwrap();
    assert!(error.to_string().contains("output channel 1"), "{error}");
    let error =
        PackedWeights::pack_int8(table, &p, Algorithm::Direct, Layout::Nchw64c, &weight[..140_000], Some(&[i32::MIN, 0]), 0, &Inline);
    assert!(error.err().unwrap().to_string().contains("output channel 0"));
    // Just under the limit, with an offset of the tile's that is over it: the same on every table.
    let p: ConvProblem = "n1c50000h1w1o1k1".parse().unwrap();
    for (zero, fits) in [(0, true), (128, false)] {
        let (weight, input) = (vec![127; 50_000], vec![255; 50_000]);
        let data = Data { input, weight, bias: vec![0], scales: vec![1e-6], residual: Vec::new(), zero };
        for table in Int8Table::all() {
            let packed = PackedWeights::pack_int8(table, &p, Algorithm::Direct, Layout::Nchw64c, &data.weight, None, zero, &Inline);
            assert_eq!(packed.is_ok(), fits, "zero point {zero} on {table:?}");
            if fits {
                let (algorithm, layout, skip, out) = (Algorithm::Direct, Layout::Nchw64c, Skip::None, Out::Sums);
                let setup = Setup { algorithm, layout, threads: 1, skip, out, clamp: NONE, output_halo: Halo::NONE };
                check_one(table, &p, &data, &exact_sums(&p, &data.input, zero, &data.weight, &data.bias), setup);
            }
        }
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let p: ConvProblem = "n1c8h4w4o8k1".parse().unwrap();
    let table = Int8Table::all()[0];
    let pack =
        |zero| Arc::new(PackedWeights::pack_int8(table, &p, Algorithm::Direct, Layout::Nchw64c, &[1; 64], None, zero, &Inline).unwrap());
    let bytes = Geometry::new(Layout::Nchw64c, [1, 8, 4, 4], Halo::NONE).unwrap();
    let floats = Geometry::new(Layout::Nchw16c, [1, 8, 4, 4], Halo::NONE).unwrap();
    let good = Requantize { scales: &[1.0; 8], residual_scale: 1.0, clamp: NONE, sums: false };
    let quantized = |input, output, residual, weights, requantize: &Requantize<'_>| {
        Conv::quantized(p, Algorithm::Direct, input, output, residual, weights, requantize, 1).err().map(|e| e.to_string())
    };
    assert_eq!(quantized(bytes, bytes, None, pack(0), &good), None);
    let refused = |found: Option<String>, word: &str| {
        let message = found.expect("a refusal");
        assert!(message.contains(word), "{message}");
    };
    refused(quantized(bytes, bytes, None, pack(5), &good), "zero point 5");
    refused(quantized(floats, bytes, None, pack(0), &good), "Nchw16c");
    refused(quantized(bytes, bytes, Some(floats), pack(0), &good), "residual");
    refused(quantized(bytes, bytes, None, pack(0), &Requantize { scales: &[1.0; 7], ..good }), "7 scales");
    let mut scales = [1.0; 8];
    for scale in [f32::NAN, f32::INFINITY, 1e30] {
        scales[3] = scale;
        refused(quantized(bytes, bytes, None, pack(0), &Requantize { scales: &scales, ..good }), "output channel 3");
    }
    refused(quantized(bytes, bytes, None, pack(0), &Requantize { residual_scale: f32::NAN, ..good }), "residual");
    refused(quantized(bytes, bytes, None, pack(0), &Requantize { clamp: (0.0, f32::NAN), ..good }), "NaN");
    refused(quantized(bytes, bytes, None, pack(0), &Requantize { sums: true, ..good }), "32-bit");
    let f32_conv = Conv::new(p, Algorithm::Direct, bytes, bytes, None, pack(0), NONE, 1).err().unwrap();
    assert!(f32_conv.to_string().contains("Nchw64c"), "{f32_conv}");
    assert!(floats.with_zero_point(3).is_err());
    let layout = Layout::Nchw16c;
    assert!(PackedWeights::pack_int8(table, &p, Algorithm::Direct, layout, &[1; 64], None, 0, &Inline).is_err());
}

#[test]
fn pools_of_bytes_are_exact() {
    let dims = [2, 70, 7, 9];
    let input = byte_noise(5, dims.iter().product());
    let around = Halo { top: 1, left: 2, bottom: 1, right: 0 };
    let from = Geometry::new(Layout::Nchw64c, dims, Halo::NONE).unwrap().with_zero_point(31).unwrap();
    for table in Int8Table::all() {
        for (reduction, zero, scale) in [(Reduction::Maximum, 31, 1.0), (Reduction::Mean, 0, 0.9), (Reduction::Mean, 200, 3.0)] {
            // Windows of 3 × 2 over a border of one, and the whole image.
            let sliding = || (Windows::sliding(7, [3, 2], [1, 1], 4, true).unwrap(), Windows::sliding(9, [2, 1], [1, 0], 9, true).unwrap());
            let whole = || (Windows::adaptive(7, 1).unwrap(), Windows::adaptive(9, 1).unwrap());
            for (rows, columns, count) in [(sliding().0, sliding().1, [4, 9]), (whole().0, whole().1, [1, 1])] {
                let to = Geometry::new(Layout::Nchw64c, [2, 70, count[0], count[1]], around).unwrap().with_zero_point(zero).unwrap();
                let pool = QuantizedPool::new(reduction, from, to, rows, columns, scale, table).unwrap();
                for threads in [1, 3] {
                    let mut output = Guarded::filled(to.len(), f32::NAN);
                    pool.run(&Threads(threads), &byte_buffer_of(&from, &input), &mut output).unwrap();
                    assert_borders_are_zero_points(&to, &output, table.name());
                    let found = bytes_of(&to, &output);
                    let mut found = found.iter();
                    for_each(to.dims(), |[n, c, y, x]| {
                        let span = |at: usize, size: usize, count: usize, kernel: usize, stride: usize| match count {
                            1 => (0..size, size),
                            _ => ((at * stride).saturating_sub(1)..(at * stride + kernel - 1).min(size), kernel),
                        };
                        let (ys, tall) = span(y, 7, count[0], 3, 2);
                        let (xs, wide) = span(x, 9, count[1], 2, 1);
                        let values: Vec<u8> =
                            ys.flat_map(|y| xs.clone().map(move |x| ((n * 70 + c) * 7 + y) * 9 + x)).map(|i| input[i]).collect();
                        let expected = match reduction {
                            Reduction::Maximum => *values.iter().max().unwrap(),
                            Reduction::Mean => {
                                let sum: i32 = values.iter().map(|v| i32::from(*v) - 31).sum();
                                let mean = sum as f32 * (scale / (wide as f32 * tall as f32));
                                (mean.clamp(-f32::from(zero), 255.0 - f32::from(zero)).round_ties_even() + f32::from(zero)) as u8
                            }
                        };
                        assert_eq!(*found.next().unwrap(), expected, "{table:?} {reduction:?} at {n} {c} {y} {x}");
                    });
                }
            }
        }
    }
    let table = Int8Table::all()[0];
    let windows = || Windows::adaptive(7, 1).unwrap();
    let one = Geometry::new(Layout::Nchw64c, [2, 70, 1, 1], Halo::NONE).unwrap();
    let refused = QuantizedPool::new(Reduction::Maximum, from, one, windows(), Windows::adaptive(9, 1).unwrap(), 1.0, table);
    assert!(refused.err().unwrap().to_string().contains("zero point"));
}

#[test]
fn sums_of_bytes_are_exact() {
    let dims = [2, 70, 3, 5];
    let len = dims.iter().product();
    let (a, b) = (byte_noise(6, len), byte_noise(7, len));
    let bytes = |halo, zero| Geometry::new(Layout::Nchw64c, dims, halo).unwrap().with_zero_point(zero).unwrap();
    let (ga, gb) = (bytes(Halo::NONE, 3), bytes(Halo { top: 2, left: 1, bottom: 0, right: 1 }, 250));
    for table in Int8Table::all() {
        for (zero, clamp) in [(0, RELU), (128, NONE), (100, (-20.0, 33.5))] {
            let to = bytes(Halo { top: 1, left: 1, bottom: 1, right: 1 }, zero);
            let add = QuantizedAdd::new(ga, gb, to, [0.8, 1.3], clamp, table).unwrap();
            let mut output = Guarded::filled(to.len(), f32::NAN);
            add.run(&Threads(2), &byte_buffer_of(&ga, &a), &byte_buffer_of(&gb, &b), &mut output).unwrap();
            assert_borders_are_zero_points(&to, &output, table.name());
            let shift = -(3.0f32 * 0.8) - 250.0 * 1.3;
            for (i, found) in bytes_of(&to, &output).into_iter().enumerate() {
                let x = f32::from(a[i]).mul_add(0.8, f32::from(b[i]).mul_add(1.3, shift));
                let x = x.clamp(clamp.0, clamp.1).clamp(-f32::from(zero), 255.0 - f32::from(zero));
                assert_eq!(found, (x.round_ties_even() + f32::from(zero)) as u8, "{table:?}: {} and {}", a[i], b[i]);
            }
        }
    }
}

/// From and to every layout, with values that are ties, out of range and not finite.
#[test]
fn conversions_are_exact_and_alike_in_every_layout() {
    let dims = [2, 71, 3, 35];
    let len: usize = dims.iter().product();
    let mut values: Vec<f32> = noise(8, len).iter().map(|v| v * 40.0).collect();
    for (i, special) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.125, -0.125, 0.375, 1e38, -0.0].into_iter().enumerate() {
        values[i * 37] = special;
    }
    let halo = Halo { top: 1, left: 2, bottom: 0, right: 1 };
    for table in Int8Table::all() {
        for floats in [Layout::Nchw, Layout::Nchw16c] {
            for bytes in [Layout::Nchw4c, Layout::Nchw64c] {
                for zero in [0, 17, 128] {
                    let from = Geometry::new(floats, dims, Halo::NONE).unwrap();
                    let to = Geometry::new(bytes, dims, halo).unwrap().with_zero_point(zero).unwrap();
                    let mut output = Guarded::filled(to.len(), f32::NAN);
                    let quantize = Quantize::new(from, to, 0.25, table).unwrap();
                    quantize.run(&Threads(2), &buffer_of(&from, &values), &mut output).unwrap();
                    assert_borders_are_zero_points(&to, &output, table.name());
                    let found = bytes_of(&to, &output);
                    for (value, byte) in values.iter().zip(&found) {
                        assert_eq!(*byte, quantize_value(*value, 0.25, zero), "{table:?} {from:?} {to:?}: {value}");
                    }
                    let back = Geometry::new(floats, dims, halo).unwrap();
                    let mut floats = Guarded::filled(back.len(), f32::NAN);
                    Dequantize::new(to, back, 0.25, table).unwrap().run(&Threads(2), &output, &mut floats).unwrap();
                    assert_borders_are_zero(&back, &floats, table.name());
                    for (value, byte) in dense_of(&back, &floats).iter().zip(&found) {
                        assert_eq!(*value, (f32::from(*byte) - f32::from(zero)) * 0.25, "{table:?} {to:?} {back:?}");
                    }
                }
            }
        }
    }
    assert_eq!([0.125, 0.375, -0.125, f32::NAN, 1e9, -1e9].map(|x| quantize_value(x, 0.25, 10)), [10, 12, 10, 10, 255, 0]);
}

fn problems() -> impl Strategy<Value = ConvProblem> {
    let group = (1usize..5, 1usize..40, 1usize..40);
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
    #![proptest_config(ProptestConfig { cases: harness::cases(48), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_convolutions_of_bytes_are_exact(p in problems()) {
        check(&p);
    }
}
