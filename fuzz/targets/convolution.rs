//! A convolution of any shape, on every instruction set and in every way, has the same bits and keeps the oracle's bound.

use arbitrary::{Result, Unstructured};
use std::collections::HashMap;
use std::sync::Arc;
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual, Winograd};
use stridewise_kernels::{ConvProblem, Geometry, Halo, Inline, KernelTable, Layout, layout, reference};

pub fn run(bytes: &[u8]) {
    // Bytes that end early describe a problem with zeros in it.
    let _ = convolve(&mut Unstructured::new(bytes));
}

/// Most multiply-accumulates of a problem: the oracle does them in f64.
const MOST: u64 = 1 << 15;

/// A problem, unless what was drawn is none or is too large.
pub fn problem(u: &mut Unstructured<'_>) -> Result<Option<ConvProblem>> {
    let groups = u.int_in_range(1..=40)?;
    let depthwise: bool = u.arbitrary()?;
    let (width, outputs) = if depthwise { (1, 1) } else { (u.int_in_range(1..=40)?, u.int_in_range(1..=40)?) };
    let mut pair = |last: usize| -> Result<[usize; 2]> { Ok([u.int_in_range(1..=last)?, u.int_in_range(1..=last)?]) };
    let (kernel, stride, dilation, size) = (pair(5)?, pair(4)?, pair(3)?, pair(40)?);
    let mut pad = || u.int_in_range(0..=4);
    let pads = [pad()?, pad()?, pad()?, pad()?];
    let n = u.int_in_range(1..=3)?;
    let p = ConvProblem { n, c: groups * width, h: size[0], w: size[1], oc: groups * outputs, kernel, stride, pads, dilation, groups };
    Ok((p.validate().is_ok() && p.macs() <= MOST).then_some(p))
}

pub fn halo(u: &mut Unstructured<'_>) -> Result<Halo> {
    let mut side = || u.int_in_range(0..=3);
    Ok(Halo { top: side()?, left: side()?, bottom: side()?, right: side()? })
}

pub fn absolute(values: &[f32]) -> Vec<f32> {
    values.iter().map(|x| x.abs()).collect()
}

/// Values in [-1, 1) that depend on nothing but the seed.
pub fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn convolve(u: &mut Unstructured<'_>) -> Result<()> {
    let Some(p) = problem(u)? else { return Ok(()) };
    let [oh, ow] = p.output();
    let (output_halo, residual_halo) = (halo(u)?, halo(u)?);
    let skip = u.int_in_range(0..=2)?;
    let threads = u.int_in_range(1..=5)?;
    let clamp = *u.choose(&[(f32::NEG_INFINITY, f32::INFINITY), (0.0, f32::INFINITY), (-0.5, 0.75)])?;
    let input = noise(1, p.n * p.c * p.h * p.w);
    let (weight, bias) = (noise(2, p.weight_len()), noise(3, p.oc));
    let addend = noise(4, p.n * p.oc * oh * ow);

    let exact = reference::convolution(&p, &input, &weight, Some(&bias)).expect("a valid problem");
    let magnitude = reference::convolution(&p, &absolute(&input), &absolute(&weight), Some(&absolute(&bias))).expect("a valid problem");
    let steps = (p.c / p.groups * p.kernel[0] * p.kernel[1] + 8) as f64;
    let bound = |i: usize| f64::from(f32::EPSILON) / 2.0 * steps * (magnitude[i] + f64::from(addend[i].abs()));
    let largest = (0..exact.len()).map(bound).fold(0.0, f64::max);

    let output = Geometry::new(Layout::Nchw16c, [p.n, p.oc, oh, ow], output_halo).expect("a small geometry");
    let residual = match skip {
        0 => None,
        1 => Some(Geometry::new(Layout::Nchw16c, [p.n, p.oc, oh, ow], residual_halo).expect("a small geometry")),
        _ => Some(output),
    };
    let mut first: HashMap<(Layout, Option<Winograd>), Vec<u32>> = HashMap::new();
    let winograd = [Winograd::F2, Winograd::F4].map(Algorithm::Winograd);
    for algorithm in [Algorithm::Direct, Algorithm::Depthwise, Algorithm::Grouped, Algorithm::Im2colGemm].into_iter().chain(winograd) {
        for layout_in in [Layout::Nchw16c, Layout::Nchw] {
            if algorithm.check(&p, layout_in).is_err() {
                continue;
            }
            for table in KernelTable::all() {
                let context = || format!("{p} {algorithm:?} {layout_in:?} {table:?}");
                let from = Geometry::new(layout_in, [p.n, p.c, p.h, p.w], algorithm.required_halo(&p)).expect("a small geometry");
                let packed = PackedWeights::pack(table, &p, algorithm, layout_in, &weight, Some(&bias), &Inline).expect("packing");
                let conv = Conv::new(p, algorithm, from, output, residual, Arc::new(packed), clamp, threads).expect("a valid problem");
                // NaN wherever nothing was written, so that a stray read shows.
                let mut x = vec![f32::NAN; from.len()];
                layout::from_nchw(&Inline, &input, &from, &mut x).expect("a buffer of the geometry");
                let mut y = vec![f32::NAN; output.len()];
                let mut r = vec![f32::NAN; residual_len(residual)];
                let given = match (skip, residual) {
                    (1, Some(g)) => {
                        layout::from_nchw(&Inline, &addend, &g, &mut r).expect("a buffer of the geometry");
                        Residual::Buffer(&r)
                    }
                    (2, Some(g)) => {
                        layout::from_nchw(&Inline, &addend, &g, &mut y).expect("a buffer of the geometry");
                        Residual::InPlace
                    }
                    _ => Residual::None,
                };
                let mut scratch = vec![f32::NAN; conv.scratch_per_thread() * threads];
                conv.run(&OneByOne(threads), &x, given, &mut y, &mut scratch).expect("buffers of the geometries");
                let mut found = vec![0.0; exact.len()];
                layout::to_nchw(&Inline, &y, &output, &mut found).expect("a buffer of the geometry");
                let variant = if let Algorithm::Winograd(variant) = algorithm { Some(variant) } else { None };
                for (i, value) in found.iter().enumerate() {
                    let add = if skip == 0 { 0.0 } else { f64::from(addend[i]) };
                    let expected = (exact[i] + add).max(f64::from(clamp.0)).min(f64::from(clamp.1));
                    let bound = if variant.is_some() { largest } else { bound(i) };
                    let error = (f64::from(*value) - expected).abs();
                    assert!(error <= bound, "{}: output {i} is {value}, exactly {expected}, bound {bound}", context());
                }
                let bits: Vec<u32> = found.iter().map(|v| v.to_bits()).collect();
                let other = first.entry((layout_in, variant)).or_insert_with(|| bits.clone());
                assert!(*other == bits, "{}: not the bits of the first way", context());
            }
        }
    }
    Ok(())
}

fn residual_len(residual: Option<Geometry>) -> usize {
    residual.map_or(0, |g| g.len())
}

/// Every thread's part, one after the other: a fuzzer runs this often.
pub struct OneByOne(pub usize);

impl stridewise_kernels::Executor for OneByOne {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        (0..self.0).for_each(part);
    }
}
