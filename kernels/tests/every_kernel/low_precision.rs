//! Every kernel of bytes and of bfloat16, counted and checked as those of f32 are.

use super::convolutions::tile_of;
use super::harness::bytes::{byte_buffer_of, byte_noise, bytes_of, exact_sums, requantized};
use super::harness::halves::{assert_borders_are_zero as assert_halves_are_zero, half_buffer_of, halves_of, winograd_of_halves};
use super::harness::{Guarded, buffer_of, dense_of, noise};
use std::sync::Arc;
use stridewise_kernels::bf16::{Bf16Conversion, Bf16Table, bf16_bits, bf16_value};
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Requantize, Residual, Winograd};
use stridewise_kernels::elementwise::Elementwise;
use stridewise_kernels::int8::{Dequantize, Int8Table, Quantize, QuantizedAdd, QuantizedPool, quantize_value};
use stridewise_kernels::pool::{Pool, Reduction, Windows};
use stridewise_kernels::testing::{GROUPS, SHAPES, TILE, bf16, int8, take_calls};
use stridewise_kernels::{ConvProblem, Geometry, Halo, Inline, Isa, Kernel, KernelTable, Layout, reference};

const NO_BOUNDS: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

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
        // Tiles that are whole, that hang over the border, and of one pixel; a last plane with one block, and with two.
        "winograd_f2" => {
            let problems = ["n2c35h6w7o35k3p1", "n1c70h5w9o60k3p1", "n1c17h1w1o17k3p1"];
            problems.map(|p| (p.into(), Algorithm::Winograd(Winograd::F2), true)).into()
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
        assert_eq!(found, expected, "{} {algorithm:?} {text}: output {i}", table.name());
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
        for (entry, kernel) in int8::entries(original) {
            take_calls();
            exercise_bytes(&kernel, table);
            let mut calls = take_calls();
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
    let (exact, magnitude) = if matches!(algorithm, Algorithm::Winograd(_)) {
        winograd_of_halves(&p, &input, &weight, &bias)
    } else {
        let absolute = |v: &[f32]| v.iter().map(|x| x.abs()).collect::<Vec<_>>();
        let exact = reference::convolution(&p, &input, &weight, Some(&bias)).unwrap();
        (exact, reference::convolution(&p, &absolute(&input), &absolute(&weight), Some(&absolute(&bias))).unwrap())
    };
    for ((value, exact), magnitude) in halves_of(&to, &output).iter().zip(exact).zip(magnitude) {
        let bound = exact.abs() / 256.0 + 600.0 * f64::from(f32::EPSILON) * magnitude;
        let error = (f64::from(*value) - exact).abs();
        assert!(error <= bound, "{} {algorithm:?} {text}: {value}, not {exact}", table.name());
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
            let reduction = if mean { Reduction::Mean } else { Reduction::Maximum };
            let pool = Pool::new(reduction, halves, to, rows, columns, any).unwrap().with_table(reduction, table);
            pool.run(&Inline, &from, &mut output).unwrap();
            assert_halves_are_zero(&to, &output, &kernel.name);
            for (i, found) in halves_of(&to, &output).into_iter().enumerate() {
                let [p, q, r, s] = [0, 1, 6, 7].map(|at| a[i / 3 * 12 + i % 3 * 2 + at]);
                let expected = if mean { ((p + q) + (r + s)) / 4.0 } else { p.max(q).max(r).max(s) };
                assert_eq!(found, nearest(expected), "{}", kernel.name);
            }
            return;
        }
        "bf16_add" => {
            let op = Elementwise::add(halves, halves, halves, bounds, any).unwrap().with_table(table);
            op.run(&Inline, &from, Some(&second), &mut output).unwrap();
            a.iter().zip(&b).map(|(a, b)| nearest((a + b).clamp(bounds.0, bounds.1))).collect()
        }
        "bf16_clamp" => {
            let op = Elementwise::clamp(halves, halves, bounds, any).unwrap().with_table(table);
            op.run(&Inline, &from, None, &mut output).unwrap();
            a.iter().map(|x| nearest(x.clamp(bounds.0, bounds.1))).collect()
        }
        "bf16_affine" => {
            let op = Elementwise::affine(halves, halves, &scale, &shift, bounds, any).unwrap().with_table(table);
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
            let op = Bf16Conversion::new(floats, halves, any).unwrap().with_table(table);
            op.run(&Inline, &buffer_of(&floats, &wide), &mut output).unwrap();
            wide.iter().map(|x| nearest(*x)).collect()
        }
        "bf16_widen" => {
            let mut output = Guarded::filled(floats.len(), f32::NAN);
            let op = Bf16Conversion::new(halves, floats, any).unwrap().with_table(table);
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
        let entries = bf16::entries(original);
        let tiles: Vec<usize> = entries.iter().filter(|(_, kernel)| kernel.family == "bf16_conv").map(|(entry, _)| *entry).collect();
        for (entry, kernel) in entries {
            take_calls();
            exercise_bf16(&kernel, table);
            let mut calls = take_calls();
            if kernel.family == "bf16_winograd_f2" {
                // Between its transforms the products are those of convolution tiles.
                calls.retain(|call| !tiles.contains(call));
            }
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
        let found = int8::chains(table, 3);
        let offset = 10 * int8::offset(table);
        let word = 16 + 9 + 4 + 1 - offset;
        // Chains of vectors begin with their numbers, those of tiles with zeros.
        let first = |i| if found.numbered { i } else { 0 };
        let expected: i32 = (0..found.count as i32).map(|i| 16 * (first(i) + 3 * word)).sum();
        assert_eq!(found.sum, expected, "{table:?}");
    }
}

#[test]
fn chains_of_bf16_do_every_product() {
    for table in Bf16Table::all() {
        let found = bf16::chains(table, 3);
        let first = |i| if found.numbered { i } else { 0 };
        let expected: f32 = (0..found.count).map(|i| 16.0 * (first(i) as f32 + 3.0 * 4.25)).sum();
        assert_eq!(found.sum, expected, "{table:?}");
    }
}
