//! Every kernel of every table that this processor can run is called here and its results are checked.
//!
//! The tests take the list from [`KernelTable::kernels`] and make, for each entry, a problem that only this kernel can do. What
//! is called is not concluded but counted: the ops are given a table of the same shape whose kernels count, then call the
//! kernel they stand for. A kernel that no problem reaches, or of a family that nobody wrote a problem for, fails the test.

use crate::conv::tile::{MAX_BLOCKS, MAX_PIXELS, PIXELS, TileArgs, TileFn};
use crate::conv::{Algorithm, Conv, PackedWeights, Residual, Winograd};
use crate::elementwise::Elementwise;
use crate::function::reduce::{NormalizeArgs, REDUCTIONS, ReduceArgs};
use crate::function::rows::{BinaryArgs, UnaryArgs};
use crate::pool::{Pool, Reduction, Windows};
use crate::row::{PoolArgs, RowArgs};
use crate::table::{binary_entry, by_pixels, conv_entry, depthwise_entry, reduce_entry, row_entry, unary_entry};
use crate::winograd_transform::{InputArgs, OutputArgs};
use crate::{Binary, ConvProblem, Geometry, Halo, Inline, Isa, Kernel, KernelTable, Layout, Unary, reference};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

#[path = "../tests/harness/mod.rs"]
mod harness;
use harness::{Guarded, assert_borders_are_zero, bits, buffer_of, dense_of, noise};

thread_local! {
    /// The table that the counting one stands for.
    static ORIGINAL: Cell<&'static KernelTable> = const { Cell::new(&crate::portable::baseline::TABLE) };
    /// Entries of the table, in the order of their calls.
    static CALLS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

fn called(entry: usize) -> &'static KernelTable {
    CALLS.with_borrow_mut(|calls| calls.push(entry));
    ORIGINAL.get()
}

// SAFETY (all blocks of these functions): the caller keeps the contract of the kernel that the function stands for.
#[allow(clippy::undocumented_unsafe_blocks)]
mod counting {
    use super::*;

    pub unsafe fn conv<const P: usize, const B: usize>(args: &TileArgs) {
        unsafe { (called(conv_entry(P, B)).conv_tile[B - 1][P - 1])(args) }
    }

    pub unsafe fn depthwise<const P: usize>(args: &TileArgs) {
        unsafe { (called(depthwise_entry(P)).depthwise_tile[P - 1])(args) }
    }

    pub unsafe fn winograd_f2_input(args: &InputArgs) {
        unsafe { (called(row_entry(5)).winograd_f2.0)(args) }
    }

    pub unsafe fn winograd_f2_output(args: &OutputArgs) {
        unsafe { (called(row_entry(5)).winograd_f2.1)(args) }
    }

    pub unsafe fn winograd_f4_input(args: &InputArgs) {
        unsafe { (called(row_entry(6)).winograd_f4.0)(args) }
    }

    pub unsafe fn winograd_f4_output(args: &OutputArgs) {
        unsafe { (called(row_entry(6)).winograd_f4.1)(args) }
    }

    pub unsafe fn pool_max(args: &PoolArgs) {
        unsafe { (called(row_entry(0)).pool_max)(args) }
    }

    pub unsafe fn pool_mean(args: &PoolArgs) {
        unsafe { (called(row_entry(1)).pool_mean)(args) }
    }

    pub unsafe fn add(args: &RowArgs) {
        unsafe { (called(row_entry(2)).add)(args) }
    }

    pub unsafe fn clamp(args: &RowArgs) {
        unsafe { (called(row_entry(3)).clamp)(args) }
    }

    pub unsafe fn unary<const K: usize>(args: &UnaryArgs) {
        unsafe { (called(unary_entry(K)).functions.unary[K])(args) }
    }

    pub unsafe fn binary<const K: usize>(args: &BinaryArgs) {
        unsafe { (called(binary_entry(K)).functions.binary[K])(args) }
    }

    pub unsafe fn reduce<const K: usize>(args: &ReduceArgs) -> f32 {
        unsafe { (called(reduce_entry(K)).functions.reduce[K])(args) }
    }

    pub unsafe fn normalize(args: &NormalizeArgs) {
        unsafe { (called(reduce_entry(REDUCTIONS.len())).functions.normalize)(args) }
    }

    pub unsafe fn affine(args: &RowArgs) {
        unsafe { (called(row_entry(4)).affine)(args) }
    }
}

static CONV_TILES: [&[TileFn; MAX_PIXELS]; MAX_BLOCKS] = [
    by_pixels!(12, counting::conv, 1),
    by_pixels!(12, counting::conv, 2),
    by_pixels!(12, counting::conv, 3),
    by_pixels!(12, counting::conv, 4),
];

/// Kernels that count for this thread, then do what those of `original` do.
fn counting(original: &'static KernelTable) -> &'static KernelTable {
    ORIGINAL.set(original);
    let depthwise_tile: [TileFn; PIXELS] = [
        counting::depthwise::<1>,
        counting::depthwise::<2>,
        counting::depthwise::<3>,
        counting::depthwise::<4>,
        counting::depthwise::<5>,
        counting::depthwise::<6>,
    ];
    // Tests end soon; a table must live for ever.
    let rows = original.conv_tile.iter().zip(CONV_TILES).map(|(row, all)| &all[..row.len()]);
    let conv_tile = Box::leak(rows.collect::<Vec<_>>().into_boxed_slice());
    Box::leak(Box::new(KernelTable {
        isa: original.isa,
        name: original.name,
        conv_tile,
        depthwise_tile,
        winograd_f2: (counting::winograd_f2_input, counting::winograd_f2_output),
        winograd_f4: (counting::winograd_f4_input, counting::winograd_f4_output),
        pool_max: counting::pool_max,
        pool_mean: counting::pool_mean,
        add: counting::add,
        clamp: counting::clamp,
        affine: counting::affine,
        functions: crate::function::FunctionKernels {
            unary: crate::function::every_unary!(counting::unary),
            binary: crate::function::every_binary!(counting::binary),
            reduce: [counting::reduce::<0>, counting::reduce::<1>, counting::reduce::<2>, counting::reduce::<3>],
            normalize: counting::normalize,
        },
        fma_chain: original.fma_chain,
        fma_chains: original.fma_chains,
    }))
}

/// Pixels and channels of a tile, from its kernel's name: `conv-6x64-avx512`.
fn tile_of(kernel: &Kernel) -> (usize, usize) {
    let shape = kernel.name.split('-').nth(1).and_then(|s| s.split_once('x')).expect("a shape in the name");
    (shape.0.parse().unwrap(), shape.1.parse().unwrap())
}

const NO_BOUNDS: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

fn blocked(dims: [usize; 4]) -> Geometry {
    Geometry::new(Layout::Nchw16c, dims, Halo { top: 1, left: 1, bottom: 1, right: 1 }).unwrap()
}

/// Convolves one image whose output has as many pixels as the tile, and checks it against the oracle.
fn convolve(table: &'static KernelTable, text: &str, algorithm: Algorithm, layout: Layout) -> Vec<f32> {
    let p: ConvProblem = text.parse().unwrap();
    let [oh, ow] = p.output();
    let input = noise(1, p.n * p.c * p.h * p.w);
    let weight = noise(2, p.weight_len());
    let bias = noise(3, p.oc);
    let from = Geometry::new(layout, [p.n, p.c, p.h, p.w], algorithm.required_halo(&p)).unwrap();
    let to = blocked([p.n, p.oc, oh, ow]);
    let packed = PackedWeights::pack(table, &p, algorithm, layout, &weight, Some(&bias), &Inline).unwrap();
    let conv = Conv::new(p, algorithm, from, to, None, Arc::new(packed), NO_BOUNDS, 1).unwrap();
    let mut output = Guarded::filled(to.len(), f32::NAN);
    let mut scratch = Guarded::filled(conv.scratch_per_thread(), f32::NAN);
    conv.run(&Inline, &buffer_of(&from, &input), Residual::None, &mut output, &mut scratch).unwrap();
    assert_borders_are_zero(&to, &output, text);
    let found = dense_of(&to, &output);
    let absolute = |v: &[f32]| v.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let exact = reference::convolution(&p, &input, &weight, Some(&bias));
    let magnitude = reference::convolution(&p, &absolute(&input), &absolute(&weight), Some(&absolute(&bias)));
    for ((value, exact), magnitude) in found.iter().zip(exact).zip(magnitude) {
        let error = (f64::from(*value) - exact).abs();
        assert!(
            error <= 600.0 * f64::from(f32::EPSILON) * magnitude,
            "{} {algorithm:?} {layout:?} {text}: {value}, not {exact}",
            table.name
        );
    }
    found
}

/// Pools 2 × 3 windows of 3 × 2 elements.
fn pool(table: &'static KernelTable, reduction: Reduction) -> Vec<f32> {
    let (from, to) = (blocked([2, 17, 5, 6]), blocked([2, 17, 2, 3]));
    let input = noise(4, 2 * 17 * 5 * 6);
    let rows = Windows::sliding(5, [3, 2], [0, 0], 2, true).unwrap();
    let columns = Windows::sliding(6, [2, 2], [0, 0], 3, true).unwrap();
    let mut output = Guarded::filled(to.len(), f32::NAN);
    let pool = Pool::new(reduction, from, to, rows, columns, table).unwrap();
    pool.run(&Inline, &buffer_of(&from, &input), &mut output).unwrap();
    let found = dense_of(&to, &output);
    let mut values = found.iter();
    harness::for_each(to.dims(), |[n, c, y, x]| {
        let at = |i: usize| f64::from(input[((n * 17 + c) * 5 + 2 * y + i / 2) * 6 + 2 * x + i % 2]);
        let exact = match reduction {
            Reduction::Maximum => (0..6).map(at).fold(f64::NEG_INFINITY, f64::max),
            Reduction::Mean => (0..6).map(at).sum::<f64>() / 6.0,
        };
        let value = f64::from(*values.next().unwrap());
        let bound = if reduction == Reduction::Maximum { 0.0 } else { 1e-6 };
        assert!((value - exact).abs() <= bound, "{} {reduction:?}: {value}, not {exact}", table.name);
    });
    found
}

fn elementwise(table: &'static KernelTable, family: &str) -> Vec<f32> {
    let g = blocked([2, 17, 2, 3]);
    let len = 2 * 17 * 2 * 3;
    let (a, b) = (noise(5, len), noise(6, len));
    let (scale, shift) = (noise(7, 17), noise(8, 17));
    let bounds = (-0.5, 0.75);
    let (op, second) = match family {
        "add" => (Elementwise::add(g, g, g, bounds, table), Some(buffer_of(&g, &b))),
        "clamp" => (Elementwise::clamp(g, g, bounds, table), None),
        _ => (Elementwise::affine(g, g, &scale, &shift, bounds, table), None),
    };
    let mut output = Guarded::filled(g.len(), f32::NAN);
    op.unwrap().run(&Inline, &buffer_of(&g, &a), second.as_deref(), &mut output).unwrap();
    let found = dense_of(&g, &output);
    for (i, value) in found.iter().enumerate() {
        let channel = i / 6 % 17;
        let plain = match family {
            "add" => a[i] + b[i],
            "clamp" => a[i],
            _ => a[i].mul_add(scale[channel], shift[channel]),
        };
        assert_eq!(*value, plain.clamp(bounds.0, bounds.1), "{} {family}", table.name);
    }
    found
}

/// The function of a kernel's name, `unary-silu-avx512`.
fn function_of(kernel: &Kernel) -> &str {
    kernel.name.split('-').nth(1).expect("a function in the name")
}

/// Numbers on both sides of zero; what the functions of them should be, tests of their own check more closely.
fn unary(table: &'static KernelTable, kernel: &Kernel) -> Vec<f32> {
    let functions = [
        (Unary::Clip { low: -0.5, high: 0.25 }, (|x| x.clamp(-0.5, 0.25)) as fn(f64) -> f64),
        (Unary::LeakyRelu { alpha: 0.5 }, |x| if x < 0.0 { x / 2.0 } else { x }),
        (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Unary::HardSigmoid { alpha: 0.25, beta: 0.5 }, |x| x / 4.0 + 0.5),
        (Unary::HardSwish, |x| x * (x / 6.0 + 0.5)),
        (Unary::Silu, |x| x / (1.0 + (-x).exp())),
        (Unary::Swish { alpha: 2.0 }, |x| x / (1.0 + (-2.0 * x).exp())),
        (Unary::Mish, |x| x * x.exp().ln_1p().tanh()),
        (Unary::Elu { alpha: 2.0 }, |x| if x < 0.0 { 2.0 * x.exp_m1() } else { x }),
        (Unary::Gelu, |x| x / 2.0 * (1.0 + erf(x / 2f64.sqrt()))),
        (Unary::GeluTanh, |x| x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())),
        (Unary::Erf, erf),
        (Unary::Tanh, f64::tanh),
        (Unary::Softplus, |x| x.exp().ln_1p()),
        (Unary::Softsign, |x| x / (1.0 + x.abs())),
        (Unary::ThresholdedRelu { alpha: 0.25 }, |x| if x > 0.25 { x } else { 0.0 }),
        (Unary::Exp, f64::exp),
        (Unary::Log, f64::ln),
        (Unary::Sqrt, f64::sqrt),
        (Unary::Abs, f64::abs),
        (Unary::Neg, |x| -x),
        (Unary::Reciprocal, f64::recip),
        (Unary::Sign, f64::signum),
        (Unary::Floor, f64::floor),
        (Unary::Ceil, f64::ceil),
        (Unary::Round, f64::round_ties_even),
        (Unary::Not, |_| 0.0),
        (Unary::IsNan, |_| 0.0),
        (Unary::Power { exponent: 2.0 }, |x| x * x),
        (Unary::Power { exponent: 3.0 }, |x| x * x * x),
        (Unary::Power { exponent: 0.5 }, f64::sqrt),
        (Unary::Power { exponent: -1.5 }, |x| x.powf(-1.5)),
        (Unary::Affine { scale: 0.5, shift: 2.0 }, |x| x / 2.0 + 2.0),
        (Unary::Identity, |x| x),
    ];
    let (function, exact) =
        functions.into_iter().find(|(f, _)| f.kernel().0.name() == function_of(kernel)).unwrap_or_else(|| panic!("{}", kernel.name));
    // Two whole vectors and a part of one.
    let input: Vec<f32> = noise(9, 37).into_iter().map(|x| x + 1e-3).collect();
    let mut output = Guarded::filled(37, f32::NAN);
    crate::dense::Map::new(function, 37, table).run(&Inline, &Guarded::of(&input), &mut output).unwrap();
    for (x, y) in input.iter().zip(&*output) {
        let exact = exact(f64::from(*x));
        let error = (f64::from(*y) - exact).abs();
        assert!(error <= 4e-7 * exact.abs().max(0.5) || (exact.is_nan() && y.is_nan()), "{}: {y} at {x}, not {exact}", kernel.name);
    }
    output.to_vec()
}

/// The error function of a small number, by its series.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn binary(table: &'static KernelTable, kernel: &Kernel) -> Vec<f32> {
    let function = *Binary::ALL.iter().find(|f| f.name() == function_of(kernel)).expect("a function of this name");
    let (mut a, mut b) = (noise(10, 37), noise(11, 37));
    (a[3], b[3], a[5], b[6]) = (0.5, 0.5, 0.0, 0.0);
    let mut output = Guarded::filled(37, f32::NAN);
    let op = crate::dense::Combine::new(function, &[37], &[37], Unary::Identity, table).unwrap();
    op.run(&Inline, &Guarded::of(&a), &Guarded::of(&b), &mut output).unwrap();
    let truth = |t: bool| f32::from(u8::from(t));
    for ((&a, &b), &y) in a.iter().zip(&b).zip(&*output) {
        let plain = match function {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
            Binary::Pow => f64::from(a).powf(f64::from(b)) as f32,
            Binary::PRelu => {
                if a < 0.0 {
                    a * b
                } else {
                    a
                }
            }
            Binary::Mod => {
                if a % b != 0.0 && (a < 0.0) != (b < 0.0) {
                    a % b + b
                } else {
                    a % b
                }
            }
            Binary::Fmod => a % b,
            Binary::Equal => truth(a == b),
            Binary::Less => truth(a < b),
            Binary::LessOrEqual => truth(a <= b),
            Binary::Greater => truth(a > b),
            Binary::GreaterOrEqual => truth(a >= b),
            Binary::And => truth(a != 0.0 && b != 0.0),
            Binary::Or => truth(a != 0.0 || b != 0.0),
            Binary::Xor => truth((a != 0.0) != (b != 0.0)),
        };
        assert!(y == plain || (y.is_nan() && plain.is_nan()), "{}: {y} of {a} and {b}, not {plain}", kernel.name);
    }
    output.to_vec()
}

/// Rows of some lengths, called straight: the ops that use these kernels need several of them.
fn reduce(table: &'static KernelTable, kernel: &Kernel) -> Vec<f32> {
    let mut found = Vec::new();
    for len in [1, 16, 37, 2100] {
        let input = Guarded::of(&noise(12, len));
        let (scale, shift) = (Guarded::of(&noise(13, len)), Guarded::of(&noise(14, len)));
        let mut output = Guarded::filled(len, f32::NAN);
        let args = ReduceArgs { input: input.as_ptr(), len, shift: 0.25, output: output.as_mut_ptr() };
        let wide = || input.iter().map(|x| f64::from(*x));
        if kernel.family == "normalize" {
            let args = NormalizeArgs {
                input: input.as_ptr(),
                output: output.as_mut_ptr(),
                len,
                mean: 0.25,
                factor: 0.75,
                scale: scale.as_ptr(),
                shift: shift.as_ptr(),
                step: 16,
            };
            // SAFETY: the table is of an available instruction set; all buffers have `len` elements.
            unsafe { (table.functions.normalize)(&args) };
            for i in 0..len {
                assert_eq!(output[i], ((input[i] - 0.25) * 0.75).mul_add(scale[i], shift[i]), "{}", kernel.name);
            }
            found.extend_from_slice(&output);
            continue;
        }
        let index = REDUCTIONS.iter().position(|name| *name == function_of(kernel)).expect("a reduction of this name");
        // SAFETY: the table is of an available instruction set; both buffers have `len` elements.
        let value = unsafe { (table.functions.reduce[index])(&args) };
        let exact: f64 = match REDUCTIONS[index] {
            "sum" => wide().sum(),
            "max" => wide().fold(f64::NEG_INFINITY, f64::max),
            "deviation" => wide().map(|x| (x - 0.25).powi(2)).sum(),
            "exp_sum" => wide().map(|x| (x - 0.25).exp()).sum(),
            other => panic!("{other} has no definition here"),
        };
        assert!((f64::from(value) - exact).abs() <= 1e-6 * len as f64, "{}: {value}, not {exact}", kernel.name);
        found.push(value);
        if REDUCTIONS[index] == "exp_sum" {
            assert!(input.iter().zip(&*output).all(|(x, e)| (e - (x - 0.25).exp()).abs() <= 1e-6 * e), "{}", kernel.name);
            found.extend_from_slice(&output);
        }
    }
    found
}

/// Does the problems that need this kernel, all of them and none that another kernel has a part in.
fn exercise(kernel: &Kernel, table: &'static KernelTable) -> Vec<f32> {
    match kernel.family {
        "conv" => {
            let (pixels, channels) = tile_of(kernel);
            // A last block that is not full, and a K in one chunk and in two.
            let problems = [format!("n1c19h1w{pixels}o{channels}k1"), format!("n1c61h1w{pixels}o{}k3p1", channels - 3)];
            let mut found = Vec::new();
            for text in problems {
                for layout in [Layout::Nchw16c, Layout::Nchw] {
                    found.extend(convolve(table, &text, Algorithm::Direct, layout));
                    found.extend(convolve(table, &text, Algorithm::Im2colGemm, layout));
                }
            }
            found
        }
        "depthwise" => {
            let pixels = tile_of(kernel).0;
            convolve(table, &format!("n1c35h1w{pixels}o35k3p1g35"), Algorithm::Depthwise, Layout::Nchw16c)
        }
        // Tiles that are whole, and tiles that hang over the border.
        "winograd_f2" => convolve(table, "n2c35h6w7o35k3p1", Algorithm::Winograd(Winograd::F2), Layout::Nchw16c),
        "winograd_f4" => convolve(table, "n2c35h8w11o35k3p1", Algorithm::Winograd(Winograd::F4), Layout::Nchw16c),
        "pool_max" => pool(table, Reduction::Maximum),
        "pool_mean" => pool(table, Reduction::Mean),
        "add" | "clamp" | "affine" => elementwise(table, kernel.family),
        "reduce" | "normalize" => reduce(table, kernel),
        "unary" => unary(table, kernel),
        "binary" => binary(table, kernel),
        other => panic!("no problem is written down for kernels of the family `{other}`"),
    }
}

#[test]
fn every_kernel_is_called_and_right() {
    let mut results: std::collections::HashMap<String, Vec<u32>> = Default::default();
    let mut count = 0;
    for original in KernelTable::all() {
        let table = counting(original);
        assert_eq!(table.kernels(), original.kernels());
        for (entry, kernel) in original.entries() {
            CALLS.take();
            let found = exercise(&kernel, table);
            let mut calls = CALLS.take();
            if kernel.family.starts_with("winograd") {
                // Between its transforms the products are those of convolution tiles.
                calls.retain(|call| *call >= depthwise_entry(1));
            }
            calls.dedup();
            assert_eq!(calls, [entry], "{}: other kernels or none were called", kernel.name);
            // The same problem on other tables gives the same bits.
            let problem = kernel.name.trim_end_matches(original.name).to_string();
            let first = results.entry(problem).or_insert_with(|| bits(&found));
            assert!(*first == bits(&found), "{}: not the bits of the first table", kernel.name);
            count += 1;
        }
    }
    println!("{count} kernels of {:?}", KernelTable::all());
}

#[test]
fn tables_are_complete_and_names_unique() {
    let tables = KernelTable::all();
    for &isa in Isa::available() {
        assert!(tables.iter().any(|t| std::ptr::eq(*t, KernelTable::get(isa).unwrap())), "{isa}");
    }
    let names: Vec<String> = tables.iter().flat_map(|t| t.kernels()).map(|k| k.name).collect();
    let places: std::collections::HashSet<usize> = tables[0].entries().into_iter().map(|(entry, _)| entry).collect();
    assert_eq!(places.len(), tables[0].entries().len());
    assert_eq!(names.iter().collect::<std::collections::HashSet<_>>().len(), names.len());
}

/// The chains of the peak measurement do the arithmetic that they are counted for.
#[test]
fn fma_chains_do_every_fma() {
    for table in KernelTable::all() {
        let mut chains: Vec<f32> = (0..table.fma_chains).map(|i| i as f32).collect();
        for _ in 0..50 {
            chains.iter_mut().for_each(|c| *c = c.mul_add(0.999, 0.003));
        }
        let lane = chains[1..].iter().fold(chains[0], |sum, c| sum + c);
        let expected: f32 = [lane; 16].iter().sum();
        // SAFETY: `KernelTable::all` gives tables of available instruction sets only.
        let found = unsafe { (table.fma_chain)(50) };
        assert_eq!(found, expected, "{}", table.name);
    }
}
