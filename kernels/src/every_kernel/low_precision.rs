//! Every kernel of bytes and of bfloat16, counted and checked as those of f32 are.

use super::convolutions::tile_of;
use super::harness::bytes::{byte_buffer_of, byte_noise, bytes_of, exact_sums, requantized};
use super::harness::halves::{assert_borders_are_zero as assert_halves_are_zero, half_buffer_of, halves_of};
use super::harness::{Guarded, buffer_of, dense_of, noise};
use crate::bf16::{Bf16Conversion, Bf16Table, bf16_bits, bf16_value};
use crate::conv::grouped_row::{GROUPS, GroupedArgs, GroupedFn, GroupedKernels, SHAPES, TILE};
use crate::conv::tile::{MAX_BLOCKS, MAX_PIXELS, TileArgs, TileFn, Tiles};
use crate::conv::{Algorithm, Conv, PackedWeights, Requantize, Residual};
use crate::elementwise::Elementwise;
use crate::int8::rows::{ElementArgs, MeanArgs, PlanesArgs};
use crate::int8::{Dequantize, Int8Table, Quantize, QuantizedAdd, QuantizedPool, quantize_value};
use crate::pool::{Pool, Reduction, Windows};
use crate::row::{PoolArgs, RowArgs};
use crate::table::{by_pixels, conv_entry, depthwise_entry, groups_entry};
use crate::{ConvProblem, Geometry, Halo, Inline, Isa, Kernel, KernelTable, Layout, reference};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

const NO_BOUNDS: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

thread_local! {
    /// The tables that the counting ones stand for.
    static INT8: Cell<&'static Int8Table> = const { Cell::new(&crate::portable::int8::baseline::TABLE) };
    static BF16: Cell<&'static Bf16Table> = const { Cell::new(&crate::portable::bf16::baseline::TABLE) };
    /// Entries of the table, in the order of their calls.
    static CALLS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Counting kernels of one format: of tiles and of rows of groups.
macro_rules! counting_convolutions {
    ($original:ident) => {
        fn called(entry: usize) {
            CALLS.with_borrow_mut(|calls| calls.push(entry));
        }

        pub unsafe fn conv<const P: usize, const B: usize>(args: &TileArgs) {
            called(conv_entry(P, B));
            unsafe { ($original.get().conv_tile.kernels[B - 1][P - 1])(args) }
        }

        pub unsafe fn depthwise_any(args: &GroupedArgs) {
            called(depthwise_entry(0));
            unsafe { ($original.get().grouped.depthwise_any)(args) }
        }

        pub unsafe fn depthwise_shaped<const I: usize>(args: &GroupedArgs) {
            called(depthwise_entry(1 + I));
            unsafe { ($original.get().grouped.depthwise_shaped[I])(args) }
        }

        pub unsafe fn groups<const I: usize>(args: &GroupedArgs) {
            called(groups_entry(I));
            unsafe { ($original.get().grouped.groups[I])(args) }
        }

        pub static TILES: [&[TileFn; MAX_PIXELS]; MAX_BLOCKS] =
            [by_pixels!(32, conv, 1), by_pixels!(32, conv, 2), by_pixels!(32, conv, 3), by_pixels!(32, conv, 4)];

        static DEPTHWISE: [GroupedFn; SHAPES.len()] =
            [depthwise_shaped::<0>, depthwise_shaped::<1>, depthwise_shaped::<2>, depthwise_shaped::<3>];

        /// As many kernels as a table has.
        pub fn grouped(original: &GroupedKernels) -> GroupedKernels {
            let depthwise_shaped = &DEPTHWISE[..original.depthwise_shaped.len()];
            GroupedKernels { depthwise_any, depthwise_shaped, groups: [groups::<0>, groups::<1>] }
        }

        /// As many tiles as a table has.
        pub fn tiles(original: Tiles) -> Tiles {
            // Tests end soon; a table must live for ever.
            let rows = original.kernels.iter().zip(TILES).map(|(row, all)| &all[..row.len()]);
            Tiles { kernels: Box::leak(rows.collect::<Vec<_>>().into_boxed_slice()), ..original }
        }
    };
}

// SAFETY (all blocks of these functions): the caller keeps the contract of the kernel that the function stands for.
#[allow(clippy::undocumented_unsafe_blocks)]
mod int8 {
    use super::*;
    use crate::int8::row_entry;

    counting_convolutions!(INT8);

    pub unsafe fn pool_max(args: &PoolArgs) {
        called(row_entry(0));
        unsafe { (INT8.get().pool_max)(args) }
    }

    pub unsafe fn pool_mean(args: &MeanArgs) {
        called(row_entry(1));
        unsafe { (INT8.get().pool_mean)(args) }
    }

    pub unsafe fn add(args: &ElementArgs) {
        called(row_entry(2));
        unsafe { (INT8.get().add)(args) }
    }

    pub unsafe fn quantize(args: &ElementArgs) {
        called(row_entry(3));
        unsafe { (INT8.get().quantize)(args) }
    }

    pub unsafe fn dequantize(args: &ElementArgs) {
        called(row_entry(4));
        unsafe { (INT8.get().dequantize)(args) }
    }

    pub unsafe fn quantize_planes(args: &PlanesArgs) {
        called(row_entry(5));
        unsafe { (INT8.get().quantize_planes)(args) }
    }

    /// Kernels that count for this thread, then do what those of `original` do.
    pub fn counting(original: &'static Int8Table) -> &'static Int8Table {
        INT8.set(original);
        Box::leak(Box::new(Int8Table {
            isa: original.isa,
            name: original.name,
            offset: original.offset,
            conv_tile: tiles(original.conv_tile),
            grouped: grouped(&original.grouped),
            pool_max,
            pool_mean,
            add,
            quantize,
            dequantize,
            quantize_planes,
            chain: original.chain,
            chains: original.chains,
        }))
    }
}

// SAFETY (all blocks of these functions): as above.
#[allow(clippy::undocumented_unsafe_blocks)]
mod bf16 {
    use super::*;
    use crate::bf16::row_entry;

    counting_convolutions!(BF16);

    pub unsafe fn pool<const I: usize>(args: &PoolArgs) {
        called(row_entry(I));
        let table = BF16.get();
        unsafe { [table.pool_max, table.pool_mean][I](args) }
    }

    pub unsafe fn row<const I: usize>(args: &RowArgs) {
        called(row_entry(2 + I));
        let table = BF16.get();
        unsafe { [table.add, table.clamp, table.affine, table.narrow, table.widen][I](args) }
    }

    /// Kernels that count for this thread, then do what those of `original` do.
    pub fn counting(original: &'static Bf16Table) -> &'static Bf16Table {
        BF16.set(original);
        Box::leak(Box::new(Bf16Table {
            isa: original.isa,
            name: original.name,
            dot_products: original.dot_products,
            conv_tile: tiles(original.conv_tile),
            grouped: grouped(&original.grouped),
            pool_max: pool::<0>,
            pool_mean: pool::<1>,
            add: row::<0>,
            clamp: row::<1>,
            affine: row::<2>,
            narrow: row::<3>,
            widen: row::<4>,
            chain: original.chain,
            chains: original.chains,
        }))
    }
}

/// The problems that need a kernel of convolution, and none that another kernel has a part in.
fn problems(kernel: &Kernel) -> Vec<(String, Algorithm, bool)> {
    match kernel.family.split_once('_').unwrap().1 {
        "conv" => {
            let (pixels, channels) = tile_of(kernel);
            let problems = [format!("n1c19h1w{pixels}o{channels}k1"), format!("n1c93h1w{pixels}o{}k3p1", channels - 3)];
            let ways = [(Algorithm::Direct, true), (Algorithm::Im2colGemm, true), (Algorithm::Direct, false)];
            problems.into_iter().flat_map(|p| ways.map(|(algorithm, blocked)| (p.clone(), algorithm, blocked))).collect()
        }
        "depthwise" => {
            let (k, s) = SHAPES.iter().find(|(k, s)| kernel.name.contains(&format!("-k{k}s{s}-"))).copied().unwrap_or((4, 3));
            let problem = |ow: usize| format!("n1c35h5w{}o35k{k}s{s}p1g35", (ow - 1) * s + k - 2);
            (1..=3 * TILE).map(|ow| (problem(ow), Algorithm::Depthwise, true)).collect()
        }
        "groups" => {
            let g = GROUPS.iter().find(|g| kernel.name.contains(&format!("-{g}-"))).expect("a width in the name");
            let problem = |ow: usize| format!("n1c40h5w{}o40k3x2s1x2p1g{}", 2 * ow - 1, 40 / g);
            (1..=3 * TILE).map(|ow| (problem(ow), Algorithm::Grouped, true)).collect()
        }
        other => panic!("no problem is written down for kernels of the family `{other}`"),
    }
}

fn geometry(layout: Layout, dims: [usize; 4], zero: u8) -> Geometry {
    Geometry::new(layout, dims, Halo { top: 1, left: 1, bottom: 1, right: 1 }).unwrap().with_zero_point(zero).unwrap()
}

/// Convolves bytes, with a residual in place, and compares with what integers give.
fn convolve_bytes(table: &'static Int8Table, (text, algorithm, blocked): &(String, Algorithm, bool)) {
    let p: ConvProblem = text.parse().unwrap();
    let [oh, ow] = p.output();
    let input = byte_noise(1, p.n * p.c * p.h * p.w);
    let weight: Vec<i8> = byte_noise(2, p.weight_len()).iter().map(|b| *b as i8).collect();
    let bias: Vec<i32> = noise(3, p.oc).iter().map(|b| (b * 1000.0) as i32).collect();
    let scales: Vec<f32> = noise(4, p.oc).iter().map(|s| s.abs() * 1e-3).collect();
    let residual = byte_noise(5, p.n * p.oc * oh * ow);
    let layout = if *blocked { Layout::Nchw64c } else { Layout::Nchw4c };
    let from = Geometry::new(layout, [p.n, p.c, p.h, p.w], algorithm.required_halo(&p)).unwrap().with_zero_point(7).unwrap();
    let to = geometry(Layout::Nchw64c, [p.n, p.oc, oh, ow], 11);
    let weights = PackedWeights::pack_int8(table, &p, *algorithm, layout, &weight, Some(&bias), 7, &Inline).unwrap();
    let requantize = Requantize { scales: &scales, residual_scale: 0.3, clamp: NO_BOUNDS, sums: false };
    let conv = Conv::quantized(p, *algorithm, from, to, Some(to), Arc::new(weights), &requantize, 1).unwrap();
    let mut output = byte_buffer_of(&to, &residual);
    let mut scratch = Guarded::filled(conv.scratch_per_thread(), f32::NAN);
    conv.run(&Inline, &byte_buffer_of(&from, &input), Residual::InPlace, &mut output, &mut scratch).unwrap();
    let sums = exact_sums(&p, &input, 7, &weight, &bias);
    for (i, found) in bytes_of(&to, &output).into_iter().enumerate() {
        let expected = requantized(sums[i], i / (oh * ow) % p.oc, &requantize, Some((residual[i], 11)), 11);
        assert_eq!(found, expected, "{} {algorithm:?} {text}: output {i}", table.name);
    }
}

/// Does what needs this kernel and no other.
fn exercise_bytes(kernel: &Kernel, table: &'static Int8Table) {
    let dims = [2, 70, 2, 16];
    let len = dims.iter().product();
    let (a, b) = (byte_noise(6, len), byte_noise(7, len));
    let (from, to) = (geometry(Layout::Nchw64c, dims, 9), geometry(Layout::Nchw64c, dims, 200));
    let floats: Vec<f32> = noise(8, len).iter().map(|x| x * 30.0).collect();
    let mut output = Guarded::filled(to.len(), f32::NAN);
    match kernel.family {
        "int8_pool_max" | "int8_pool_mean" => {
            let mean = kernel.family == "int8_pool_mean";
            let (reduction, zero) = if mean { (Reduction::Mean, 200) } else { (Reduction::Maximum, 9) };
            let to = geometry(Layout::Nchw64c, [2, 70, 1, 8], zero);
            let mut output = Guarded::filled(to.len(), f32::NAN);
            let (rows, columns) = (Windows::adaptive(2, 1).unwrap(), Windows::sliding(16, [2, 2], [0, 0], 8, true).unwrap());
            let pool = QuantizedPool::new(reduction, from, to, rows, columns, 1.0, table).unwrap();
            pool.run(&Inline, &byte_buffer_of(&from, &a), &mut output).unwrap();
            for (i, found) in bytes_of(&to, &output).into_iter().enumerate() {
                let window = [0, 1, 16, 17].map(|at| a[i / 8 * 32 + i % 8 * 2 + at]);
                let sum: i32 = window.iter().map(|v| i32::from(*v) - 9).sum();
                let expected = if mean {
                    ((sum as f32 * 0.25).round_ties_even() + 200.0).clamp(0.0, 255.0) as u8
                } else {
                    *window.iter().max().unwrap()
                };
                assert_eq!(found, expected, "{}: output {i}", kernel.name);
            }
        }
        "int8_add" => {
            let add = QuantizedAdd::new(from, from, to, [0.5, 0.25], NO_BOUNDS, table).unwrap();
            add.run(&Inline, &byte_buffer_of(&from, &a), &byte_buffer_of(&from, &b), &mut output).unwrap();
            for (i, found) in bytes_of(&to, &output).into_iter().enumerate() {
                let x = (f32::from(a[i]) - 9.0) * 0.5 + (f32::from(b[i]) - 9.0) * 0.25;
                assert_eq!(found, (x.round_ties_even() + 200.0).clamp(0.0, 255.0) as u8, "{}", kernel.name);
            }
        }
        "quantize" | "quantize_planes" => {
            let (floating, bytes) = match kernel.family {
                "quantize" => (Layout::Nchw16c, Layout::Nchw64c),
                _ => (Layout::Nchw, Layout::Nchw4c),
            };
            let (from, to) = (Geometry::new(floating, dims, Halo::NONE).unwrap(), geometry(bytes, dims, 200));
            let mut output = Guarded::filled(to.len(), f32::NAN);
            Quantize::new(from, to, 0.1, table).unwrap().run(&Inline, &buffer_of(&from, &floats), &mut output).unwrap();
            let expected: Vec<u8> = floats.iter().map(|x| quantize_value(*x, 0.1, 200)).collect();
            assert_eq!(bytes_of(&to, &output), expected, "{}", kernel.name);
        }
        "dequantize" => {
            let to = Geometry::new(Layout::Nchw16c, dims, Halo::NONE).unwrap();
            let mut output = Guarded::filled(to.len(), f32::NAN);
            Dequantize::new(from, to, 0.1, table).unwrap().run(&Inline, &byte_buffer_of(&from, &a), &mut output).unwrap();
            let expected: Vec<f32> = a.iter().map(|x| (f32::from(*x) - 9.0) * 0.1).collect();
            assert_eq!(dense_of(&to, &output), expected, "{}", kernel.name);
        }
        _ => problems(kernel).iter().for_each(|problem| convolve_bytes(table, problem)),
    }
}

#[test]
fn every_kernel_of_bytes_is_called_and_right() {
    for original in Int8Table::all() {
        let table = int8::counting(original);
        assert_eq!(table.kernels(), original.kernels());
        for (entry, kernel) in original.entries() {
            CALLS.take();
            exercise_bytes(&kernel, table);
            let mut calls = CALLS.take();
            calls.dedup();
            assert_eq!(calls, [entry], "{}: other kernels or none were called", kernel.name);
        }
    }
    println!("{:?}", Int8Table::all());
}

/// Convolves bfloat16 and compares with f64.
fn convolve_bf16(table: &'static Bf16Table, (text, algorithm, blocked): &(String, Algorithm, bool)) {
    let p: ConvProblem = text.parse().unwrap();
    let [oh, ow] = p.output();
    let round = |v: Vec<f32>| v.into_iter().map(|x| bf16_value(bf16_bits(x))).collect::<Vec<f32>>();
    let (input, weight, bias) = (round(noise(1, p.n * p.c * p.h * p.w)), round(noise(2, p.weight_len())), noise(3, p.oc));
    let layout = if *blocked { Layout::Nchw32c } else { Layout::Nchw2c };
    let from = Geometry::new(layout, [p.n, p.c, p.h, p.w], algorithm.required_halo(&p)).unwrap();
    let to = Geometry::new(Layout::Nchw32c, [p.n, p.oc, oh, ow], Halo { top: 1, left: 1, bottom: 1, right: 1 }).unwrap();
    let weights = PackedWeights::pack_bf16(table, &p, *algorithm, layout, &weight, Some(&bias), &Inline).unwrap();
    let conv = Conv::new(p, *algorithm, from, to, None, Arc::new(weights), NO_BOUNDS, 1).unwrap();
    let mut output = Guarded::filled(to.len(), f32::NAN);
    let mut scratch = Guarded::filled(conv.scratch_per_thread(), f32::NAN);
    let buffer = half_buffer_of(&from, &input);
    conv.run(&Inline, &buffer, Residual::None, &mut output, &mut scratch).unwrap();
    assert_halves_are_zero(&to, &output, text);
    let absolute = |v: &[f32]| v.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let exact = reference::convolution(&p, &input, &weight, Some(&bias)).unwrap();
    let magnitude = reference::convolution(&p, &absolute(&input), &absolute(&weight), Some(&absolute(&bias))).unwrap();
    for ((value, exact), magnitude) in halves_of(&to, &output).iter().zip(exact).zip(magnitude) {
        let bound = exact.abs() / 256.0 + 600.0 * f64::from(f32::EPSILON) * magnitude;
        let error = (f64::from(*value) - exact).abs();
        assert!(error <= bound, "{} {algorithm:?} {text}: {value}, not {exact}", table.name);
    }
}

/// Does what needs this kernel and no other.
fn exercise_bf16(kernel: &Kernel, table: &'static Bf16Table) {
    let dims = [2, 40, 2, 6];
    let len = dims.iter().product();
    let [a, b] = [6, 7].map(|seed| noise(seed, len).iter().map(|x| bf16_value(bf16_bits(*x))).collect::<Vec<f32>>());
    let halo = Halo { top: 1, left: 1, bottom: 1, right: 1 };
    let halves = Geometry::new(Layout::Nchw32c, dims, halo).unwrap();
    let floats = Geometry::new(Layout::Nchw16c, dims, halo).unwrap();
    let any = KernelTable::get(Isa::Portable).unwrap();
    let (from, second) = (half_buffer_of(&halves, &a), half_buffer_of(&halves, &b));
    let mut output = Guarded::filled(halves.len(), f32::NAN);
    let nearest = |x: f32| bf16_value(bf16_bits(x));
    let bounds = (-0.5, 0.75);
    let (scale, shift) = (noise(8, 40), noise(9, 40));
    let expected: Vec<f32> = match kernel.family {
        "bf16_pool_max" | "bf16_pool_mean" => {
            let to = Geometry::new(Layout::Nchw32c, [2, 40, 1, 3], halo).unwrap();
            let mut output = Guarded::filled(to.len(), f32::NAN);
            let (rows, columns) = (Windows::adaptive(2, 1).unwrap(), Windows::sliding(6, [2, 2], [0, 0], 3, true).unwrap());
            let mean = kernel.family == "bf16_pool_mean";
            let pool = if mean { table.pool_mean } else { table.pool_max };
            Pool::with_kernel(pool, halves, to, rows, columns).unwrap().run(&Inline, &from, &mut output).unwrap();
            assert_halves_are_zero(&to, &output, &kernel.name);
            for (i, found) in halves_of(&to, &output).into_iter().enumerate() {
                let [p, q, r, s] = [0, 1, 6, 7].map(|at| a[i / 3 * 12 + i % 3 * 2 + at]);
                let expected = if mean { ((p + q) + (r + s)) / 4.0 } else { p.max(q).max(r).max(s) };
                assert_eq!(found, nearest(expected), "{}", kernel.name);
            }
            return;
        }
        "bf16_add" => {
            let op = Elementwise::add(halves, halves, halves, bounds, any).unwrap().with_kernel(table.add);
            op.run(&Inline, &from, Some(&second), &mut output).unwrap();
            a.iter().zip(&b).map(|(a, b)| nearest((a + b).clamp(bounds.0, bounds.1))).collect()
        }
        "bf16_clamp" => {
            let op = Elementwise::clamp(halves, halves, bounds, any).unwrap().with_kernel(table.clamp);
            op.run(&Inline, &from, None, &mut output).unwrap();
            a.iter().map(|x| nearest(x.clamp(bounds.0, bounds.1))).collect()
        }
        "bf16_affine" => {
            let op = Elementwise::affine(halves, halves, &scale, &shift, bounds, any).unwrap().with_kernel(table.affine);
            op.run(&Inline, &from, None, &mut output).unwrap();
            let affine = |(i, x): (usize, &f32)| nearest(x.mul_add(scale[i / 12 % 40], shift[i / 12 % 40]).clamp(bounds.0, bounds.1));
            a.iter().enumerate().map(affine).collect()
        }
        "bf16_narrow" => {
            // Values that are no bf16, ties among them, and what is not finite.
            let mut wide: Vec<f32> = a.iter().zip(&scale.repeat(len)).map(|(x, s)| x * s).collect();
            for (i, bits) in
                [0x3f80_8000, 0x3f81_8000, 0x3f80_7fff, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff, 0x8000_0000].into_iter().enumerate()
            {
                wide[i * 11] = f32::from_bits(bits);
            }
            let op = Bf16Conversion::new(floats, halves, any).unwrap().with_kernel(table.narrow);
            op.run(&Inline, &buffer_of(&floats, &wide), &mut output).unwrap();
            wide.iter().map(|x| nearest(*x)).collect()
        }
        "bf16_widen" => {
            let mut output = Guarded::filled(floats.len(), f32::NAN);
            let op = Bf16Conversion::new(halves, floats, any).unwrap().with_kernel(table.widen);
            op.run(&Inline, &from, &mut output).unwrap();
            assert_eq!(dense_of(&floats, &output), a, "{}", kernel.name);
            return;
        }
        _ => return problems(kernel).iter().for_each(|problem| convolve_bf16(table, problem)),
    };
    assert_halves_are_zero(&halves, &output, &kernel.name);
    assert_eq!(halves_of(&halves, &output), expected, "{}", kernel.name);
}

#[test]
fn every_kernel_of_bf16_is_called_and_right() {
    for original in Bf16Table::all() {
        let table = bf16::counting(original);
        assert_eq!(table.kernels(), original.kernels());
        for (entry, kernel) in original.entries() {
            CALLS.take();
            exercise_bf16(&kernel, table);
            let mut calls = CALLS.take();
            calls.dedup();
            assert_eq!(calls, [entry], "{}: other kernels or none were called", kernel.name);
        }
    }
    println!("{:?}", Bf16Table::all());
}

#[test]
fn names_of_kernels_are_unique() {
    let mut names: Vec<String> = Int8Table::all().iter().flat_map(|t| t.kernels()).map(|k| k.name).collect();
    names.extend(Bf16Table::all().iter().flat_map(|t| t.kernels()).map(|k| k.name));
    let unique: std::collections::HashSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
}

/// The chains of the peak measurement do the products that they are counted for.
#[test]
fn chains_of_bytes_do_every_product() {
    for table in Int8Table::all() {
        // SAFETY: `Int8Table::all` gives tables of available instruction sets only.
        let found = unsafe { (table.chain)(3) };
        let offset = 10 * table.offset;
        let word = 16 + 9 + 4 + 1 - offset;
        // Chains of vectors begin with their numbers, those of tiles with zeros.
        let first = |i| if table.conv_tile.by_runs.is_some() { 0 } else { i };
        let expected: i32 = (0..table.chains as i32).map(|i| 16 * (first(i) + 3 * word)).sum();
        assert_eq!(found, expected, "{table:?}");
    }
}

#[test]
fn chains_of_bf16_do_every_product() {
    for table in Bf16Table::all() {
        // SAFETY: `Bf16Table::all` gives tables of available instruction sets only.
        let found = unsafe { (table.chain)(3) };
        let first = |i| if table.conv_tile.by_runs.is_some() { 0 } else { i };
        let expected: f32 = (0..table.chains).map(|i| 16.0 * (first(i) as f32 + 3.0 * 4.25)).sum();
        assert_eq!(found, expected, "{table:?}");
    }
}
