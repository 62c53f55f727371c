//! A convolution of any shape in bytes and in bfloat16: bytes are exact on every instruction set and in every way; bfloat16 keeps the
//! oracle's bound, and its bits wherever products are the same.

use super::convolution::{OneByOne, absolute, halo, noise, problem};
use arbitrary::{Result, Unstructured};
use std::collections::HashMap;
use std::sync::Arc;
use stridewise_kernels::bf16::{Bf16Conversion, Bf16Table, bf16_bits, bf16_value};
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Requantize, Residual, Winograd};
use stridewise_kernels::int8::{Dequantize, Int8Table, Quantize};
use stridewise_kernels::{ConvProblem, Geometry, Halo, Inline, KernelTable, Layout, layout, reference};

pub fn run(bytes: &[u8]) {
    // Bytes that end early describe a problem with zeros in it.
    let _ = convolve(&mut Unstructured::new(bytes));
}

struct Setup {
    p: ConvProblem,
    output_halo: Halo,
    residual_halo: Halo,
    skip: Skip,
    threads: usize,
    clamp: (f32, f32),
}

#[derive(Clone, Copy, PartialEq)]
enum Skip {
    None,
    Buffer,
    InPlace,
}

fn convolve(u: &mut Unstructured<'_>) -> Result<()> {
    let Some(p) = problem(u)? else { return Ok(()) };
    let (output_halo, residual_halo) = (halo(u)?, halo(u)?);
    let skip = *u.choose(&[Skip::None, Skip::Buffer, Skip::InPlace])?;
    let threads = u.int_in_range(1..=5)?;
    let clamp = *u.choose(&[(f32::NEG_INFINITY, f32::INFINITY), (0.0, f32::INFINITY), (-0.5, 0.75)])?;
    let setup = Setup { p, output_halo, residual_halo, skip, threads, clamp };
    if u.arbitrary()? {
        bytes(&setup, u)
    } else {
        halves(&setup, u.arbitrary()?)
    }
    Ok(())
}

impl Setup {
    fn geometry(&self, layout: Layout, output: Halo) -> Geometry {
        let [oh, ow] = self.p.output();
        Geometry::new(layout, [self.p.n, self.p.oc, oh, ow], output).expect("a small geometry")
    }

    /// The input's geometry for each way there is.
    fn ways(&self, algorithms: &[Algorithm], layouts: [Layout; 2]) -> Vec<(Algorithm, Geometry)> {
        let p = &self.p;
        let all = layouts.into_iter().flat_map(|layout| algorithms.iter().map(move |a| (*a, layout)));
        let able = all.filter(|(algorithm, layout)| algorithm.check(p, *layout).is_ok());
        able.map(|(a, layout)| (a, Geometry::new(layout, [p.n, p.c, p.h, p.w], a.required_halo(p)).expect("a small geometry"))).collect()
    }

    /// The output of a convolution, in a buffer that held NaN wherever nothing was written.
    fn output(&self, conv: &Conv, input: &[f32], output: &Geometry, residual: Option<&[f32]>) -> Vec<f32> {
        let mut y = vec![f32::NAN; output.len()];
        let given = match (self.skip, residual) {
            (Skip::Buffer, Some(r)) => Residual::Buffer(r),
            (Skip::InPlace, Some(r)) => {
                y.copy_from_slice(r);
                Residual::InPlace
            }
            _ => Residual::None,
        };
        let mut scratch = vec![f32::NAN; conv.scratch_per_thread() * self.threads];
        conv.run(&OneByOne(self.threads), input, given, &mut y, &mut scratch).expect("buffers of the geometries");
        y
    }
}

/// What outputs of bytes are stored as.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Store {
    Bytes,
    Floats,
    Sums,
}

fn whole(seed: u64, len: usize, half: f32) -> Vec<f32> {
    noise(seed, len).iter().map(|v| (v * half).floor()).collect()
}

fn bytes(setup: &Setup, u: &mut Unstructured<'_>) {
    let Setup { p, skip, threads, clamp, .. } = setup;
    let zeros: [u8; 3] = u.arbitrary().unwrap_or_default();
    let store = *u.choose(&[Store::Bytes, Store::Bytes, Store::Floats, Store::Sums]).unwrap_or(&Store::Bytes);
    let [oh, ow] = p.output();
    let dense = |dims| Geometry::new(Layout::Nchw, dims, Halo::NONE).expect("a small geometry");
    let (dense_in, dense_out) = (dense([p.n, p.c, p.h, p.w]), dense([p.n, p.oc, oh, ow]));

    // Numbers are kept as floats, which hold them exactly: the oracle's sums are exact too.
    let input: Vec<f32> = whole(1, dense_in.len(), 128.0).iter().map(|v| v + 128.0 - f32::from(zeros[0])).collect();
    let (weight, bias) = (whole(2, p.weight_len(), 128.0), whole(3, p.oc, 2000.0));
    let sums = reference::convolution(p, &input, &weight, Some(&bias)).expect("a valid problem");
    let weight: Vec<i8> = weight.iter().map(|w| *w as i8).collect();
    let bias: Vec<i32> = bias.iter().map(|b| *b as i32).collect();
    let steps = (p.c / p.groups * p.kernel[0] * p.kernel[1]) as f32;
    // Outputs fill the range of a byte, and some are over it.
    let scales: Vec<f32> = noise(4, p.oc).iter().map(|s| (s.abs() + 0.3) * 0.02 / steps.sqrt()).collect();
    let unit = if store == Store::Bytes { 100.0 } else { 1.0 };
    let requantize =
        Requantize { scales: &scales, residual_scale: 0.37, clamp: (clamp.0 * unit, clamp.1 * unit), sums: store == Store::Sums };

    let (stored, output_zero) = if store == Store::Bytes { (Layout::Nchw64c, zeros[1]) } else { (Layout::Nchw16c, 0) };
    let zeroed = |g: Geometry, zero| if store == Store::Bytes { g.with_zero_point(zero).expect("a geometry of bytes") } else { g };
    let output = zeroed(setup.geometry(stored, setup.output_halo), output_zero);
    let (residual, residual_zero) = match skip {
        _ if store == Store::Sums => (None, 0),
        Skip::None => (None, 0),
        Skip::Buffer => (Some(zeroed(setup.geometry(stored, setup.residual_halo), zeros[2])), zeros[2]),
        Skip::InPlace => (Some(output), output_zero),
    };
    let addend: Vec<f32> = whole(5, dense_out.len(), 128.0).iter().map(|v| v + 128.0 - f32::from(residual_zero)).collect();

    let mut first: Option<Vec<u32>> = None;
    let algorithms = [Algorithm::Direct, Algorithm::Depthwise, Algorithm::Grouped, Algorithm::Im2colGemm];
    for (algorithm, from) in setup.ways(&algorithms, [Layout::Nchw64c, Layout::Nchw4c]) {
        let from = from.with_zero_point(zeros[0]).expect("a geometry of bytes");
        for table in Int8Table::all() {
            let context = || format!("{p} {algorithm:?} {:?} into {store:?} on {table:?}", from.layout());
            let quantized = |values: &[f32], g: &Geometry| {
                let mut buffer = vec![f32::NAN; g.len()];
                let quantize = Quantize::new(dense(g.dims()), *g, 1.0, table).expect("geometries of one shape");
                quantize.run(&Inline, values, &mut buffer).expect("buffers of the geometries");
                buffer
            };
            let weights =
                PackedWeights::pack_int8(table, p, algorithm, from.layout(), &weight, Some(&bias), zeros[0], &Inline).expect("packing");
            let conv = Conv::quantized(*p, algorithm, from, output, residual, Arc::new(weights), &requantize, *threads)
                .unwrap_or_else(|error| panic!("{}: {error}", context()));
            let other = residual.map(|g| {
                if store == Store::Bytes {
                    return quantized(&addend, &g);
                }
                let mut buffer = vec![f32::NAN; g.len()];
                layout::from_nchw(&Inline, &addend, &g, &mut buffer).expect("a buffer of the geometry");
                buffer
            });
            let y = setup.output(&conv, &quantized(&input, &from), &output, other.as_deref());
            let mut found = vec![0.0; dense_out.len()];
            if store == Store::Bytes {
                let dequantize = Dequantize::new(output, dense_out, 1.0, table).expect("geometries of one shape");
                dequantize.run(&Inline, &y, &mut found).expect("buffers of the geometries");
            } else {
                layout::to_nchw(&Inline, &y, &output, &mut found).expect("a buffer of the geometry");
            }
            for (i, value) in found.iter().enumerate() {
                let add = if residual.is_none() { 0.0 } else { f64::from(addend[i]) };
                let scale = f64::from(scales[i / (oh * ow) % p.oc]);
                let bounded = |x: f64| x.max(f64::from(requantize.clamp.0)).min(f64::from(requantize.clamp.1));
                let (is, expected, bound) = match store {
                    Store::Sums => (f64::from(value.to_bits() as i32), sums[i], 0.0),
                    Store::Floats => (f64::from(*value), bounded(sums[i] * scale + add), 1e-6 * (sums[i].abs() * scale + add.abs())),
                    // Half a step, and what f32 may round to the other side of it.
                    Store::Bytes => {
                        let exact = bounded(sums[i] * scale + add * f64::from(requantize.residual_scale));
                        let zero = f64::from(output_zero);
                        (f64::from(*value), exact.max(-zero).min(255.0 - zero), 0.501)
                    }
                };
                assert!((is - expected).abs() <= bound, "{}: output {i} is {is}, exactly {expected}", context());
            }
            let bits: Vec<u32> = found.iter().map(|v| v.to_bits()).collect();
            assert!(*first.get_or_insert_with(|| bits.clone()) == bits, "{}: not the bits of the first way", context());
        }
    }
}

fn halves(setup: &Setup, wide: bool) {
    let Setup { p, skip, threads, clamp, .. } = setup;
    let [oh, ow] = p.output();
    let rounded = |values: Vec<f32>| values.into_iter().map(|x| bf16_value(bf16_bits(x))).collect::<Vec<_>>();
    let (input, weight) = (rounded(noise(1, p.n * p.c * p.h * p.w)), rounded(noise(2, p.weight_len())));
    let (bias, addend) = (noise(3, p.oc), rounded(noise(4, p.n * p.oc * oh * ow)));
    let exact = reference::convolution(p, &input, &weight, Some(&bias)).expect("a valid problem");
    let magnitude = reference::convolution(p, &absolute(&input), &absolute(&weight), Some(&absolute(&bias))).expect("a valid problem");
    let steps = (p.c / p.groups * p.kernel[0] * p.kernel[1] + 8) as f64;

    let stored = if wide { Layout::Nchw16c } else { Layout::Nchw32c };
    let output = setup.geometry(stored, setup.output_halo);
    let residual = match skip {
        Skip::None => None,
        Skip::Buffer => Some(setup.geometry(stored, setup.residual_halo)),
        Skip::InPlace => Some(output),
    };
    let plain = KernelTable::all()[0];
    let dense = |g: &Geometry| Geometry::new(Layout::Nchw, g.dims(), Halo::NONE).expect("a small geometry");
    let buffer = |values: &[f32], g: &Geometry| {
        let mut buffer = vec![f32::NAN; g.len()];
        if g.layout() == Layout::Nchw16c {
            layout::from_nchw(&Inline, values, g, &mut buffer).expect("a buffer of the geometry");
        } else {
            let narrow = Bf16Conversion::new(dense(g), *g, plain).expect("geometries of one shape");
            narrow.run(&Inline, values, &mut buffer).expect("buffers of the geometries");
        }
        buffer
    };
    let other = residual.map(|g| buffer(&addend, &g));

    let mut first: HashMap<_, Vec<u32>> = HashMap::new();
    let winograd = Algorithm::Winograd(Winograd::F2);
    let algorithms = [Algorithm::Direct, Algorithm::Depthwise, Algorithm::Grouped, Algorithm::Im2colGemm, winograd];
    for (algorithm, from) in setup.ways(&algorithms, [Layout::Nchw32c, Layout::Nchw2c]) {
        let x = buffer(&input, &from);
        for table in Bf16Table::all() {
            let context = || format!("{p} {algorithm:?} {:?} into {stored:?} on {table:?}", from.layout());
            let weights = PackedWeights::pack_bf16(table, p, algorithm, from.layout(), &weight, Some(&bias), &Inline).expect("packing");
            let conv = Conv::new(*p, algorithm, from, output, residual, Arc::new(weights), *clamp, *threads)
                .unwrap_or_else(|error| panic!("{}: {error}", context()));
            let y = setup.output(&conv, &x, &output, other.as_deref());
            let mut found = vec![0.0; exact.len()];
            if wide {
                layout::to_nchw(&Inline, &y, &output, &mut found).expect("a buffer of the geometry");
            } else {
                let widen = Bf16Conversion::new(output, dense(&output), plain).expect("geometries of one shape");
                widen.run(&Inline, &y, &mut found).expect("buffers of the geometries");
            }
            let (mut error, mut size) = (0.0, 0.0);
            for (i, value) in found.iter().enumerate() {
                let add = if residual.is_none() { 0.0 } else { f64::from(addend[i]) };
                let expected = (exact[i] + add).max(f64::from(clamp.0)).min(f64::from(clamp.1));
                // Half a place of a bfloat16 of eight bits, if it is stored as one.
                let rounding = if wide { 0.0 } else { expected.abs() / 256.0 };
                let off = (f64::from(*value) - expected).abs();
                if algorithm != winograd {
                    let bound = f64::from(f32::EPSILON) / 2.0 * steps * (magnitude[i] + add.abs()) * 1.01 + rounding;
                    assert!(off <= bound, "{}: output {i} is {value}, exactly {expected}, bound {bound}", context());
                }
                error += off * off;
                size += (magnitude[i] + add.abs()).powi(2);
            }
            // Transformed operands are rounded once more, which only all outputs together bound.
            assert!(error.sqrt() <= size.sqrt() / 64.0, "{}: {error} of {size}", context());
            // Dot products round as their processor does, and narrow groups add up channel by channel.
            let own = table.has_dot_products().then(|| table.name());
            let key = (from.layout(), algorithm == Algorithm::Grouped, algorithm == winograd, own);
            let bits: Vec<u32> = found.iter().map(|v| v.to_bits()).collect();
            assert!(*first.entry(key).or_insert_with(|| bits.clone()) == bits, "{}: not the bits of the first way", context());
        }
    }
}
