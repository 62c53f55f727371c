//! Every kernel of every table that this processor can run is called here and its results are checked.
//!
//! The tests take the list from [`KernelTable::kernels`] and make, for each entry, a problem that only this kernel can do. What
//! is called is not concluded but counted: the ops are given a table of the same shape whose kernels count, then call the
//! kernel they stand for. A kernel that no problem reaches, or of a family that nobody wrote a problem for, fails the test.

#[path = "every_kernel/convolutions.rs"]
mod convolutions;
#[path = "every_kernel/functions.rs"]
mod functions;
mod harness;
#[cfg(all(feature = "bf16", feature = "int8"))]
#[path = "every_kernel/low_precision.rs"]
mod low_precision;

use harness::{Guarded, at_both_ends, bits, buffer_of, dense_of, noise};
use std::cell::Cell;
use stridewise_kernels::conv::Winograd;
use stridewise_kernels::elementwise::Elementwise;
use stridewise_kernels::pool::{Pool, Reduction, Windows};
use stridewise_kernels::testing::{self, counting, take_calls};
use stridewise_kernels::{Geometry, Halo, Inline, Isa, Kernel, KernelTable, Layout, peak};

thread_local! {
    /// How many problems were done.
    static PROBLEMS: Cell<usize> = const { Cell::new(0) };
}

fn blocked(dims: [usize; 4]) -> Geometry {
    Geometry::new(Layout::Nchw16c, dims, Halo { top: 1, left: 1, bottom: 1, right: 1 }).unwrap()
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
    count_problem();
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
        assert!((value - exact).abs() <= bound, "{} {reduction:?}: {value}, not {exact}", table.name());
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
    count_problem();
    let found = dense_of(&g, &output);
    for (i, value) in found.iter().enumerate() {
        let channel = i / 6 % 17;
        let plain = match family {
            "add" => a[i] + b[i],
            "clamp" => a[i],
            _ => a[i].mul_add(scale[channel], shift[channel]),
        };
        assert_eq!(*value, plain.clamp(bounds.0, bounds.1), "{} {family}", table.name());
    }
    found
}

fn count_problem() {
    PROBLEMS.set(PROBLEMS.get() + 1);
}

/// Does the problems that need this kernel, all of them and none that another kernel has a part in.
fn exercise(kernel: &Kernel, table: &'static KernelTable) -> Vec<f32> {
    match kernel.family {
        "conv" => convolutions::tile(table, kernel),
        "depthwise" => convolutions::depthwise(table, kernel),
        "groups" => convolutions::groups(table, kernel),
        "winograd_f2" => convolutions::winograd(table, Winograd::F2),
        "winograd_f4" => convolutions::winograd(table, Winograd::F4),
        "pool_max" => pool(table, Reduction::Maximum),
        "pool_mean" => pool(table, Reduction::Mean),
        "add" | "clamp" | "affine" => elementwise(table, kernel.family),
        "unary" => functions::unary(table, kernel),
        "binary" => functions::binary(table, kernel),
        "reduce" | "normalize" => functions::reduce(table, kernel),
        "blend" => functions::blend(table),
        "resample" => functions::resample(table),
        "lane_sums" => functions::lane_sums(table, 0),
        "lane_squares" => functions::lane_sums(table, 1),
        other => panic!("no problem is written down for kernels of the family `{other}`"),
    }
}

#[test]
fn every_kernel_is_called_and_right() {
    let mut results: std::collections::HashMap<String, Vec<u32>> = Default::default();
    let tables = KernelTable::all();
    for original in &tables {
        let table = counting(original);
        assert_eq!(table.kernels(), original.kernels());
        let entries = testing::entries(original);
        let tiles: Vec<usize> = entries.iter().filter(|(_, kernel)| kernel.family == "conv").map(|(entry, _)| *entry).collect();
        for (entry, kernel) in entries {
            at_both_ends(|side| {
                take_calls();
                let found = exercise(&kernel, table);
                let mut calls = take_calls();
                if kernel.family.starts_with("winograd") {
                    // Between its transforms the products are those of convolution tiles.
                    calls.retain(|call| !tiles.contains(call));
                }
                calls.dedup();
                assert_eq!(calls, [entry], "{}: other kernels or none were called", kernel.name);
                // The same problem on other tables, and in other memory, gives the same bits.
                let problem = kernel.name.trim_end_matches(original.name()).to_string();
                let first = results.entry(problem).or_insert_with(|| bits(&found));
                assert!(*first == bits(&found), "{} {side:?}: not the bits of the first table", kernel.name);
            });
        }
    }
    let names: Vec<&str> = tables.iter().map(|t| t.name()).collect();
    let kernels = tables.iter().map(|t| t.kernels().len()).sum::<usize>();
    let lists = results.len();
    harness::report(&format!(
        "{lists} kernels on {} tables ({}): {kernels} in all, {} problems",
        tables.len(),
        names.join(", "),
        PROBLEMS.get()
    ));
}

#[test]
fn tables_are_complete_and_names_unique() {
    let tables = KernelTable::all();
    for &isa in Isa::available() {
        assert!(tables.iter().any(|t| std::ptr::eq(*t, KernelTable::get(isa).unwrap())), "{isa}");
    }
    let names: Vec<String> = tables.iter().flat_map(|t| t.kernels()).map(|k| k.name).collect();
    let places: std::collections::HashSet<usize> = testing::entries(tables[0]).into_iter().map(|(entry, _)| entry).collect();
    assert_eq!(places.len(), tables[0].kernels().len());
    assert_eq!(names.iter().collect::<std::collections::HashSet<_>>().len(), names.len());
}

/// The chains of the peak measurement do the arithmetic that they are counted for.
#[test]
fn fma_chains_do_every_fma() {
    for table in KernelTable::all() {
        let found = testing::fma_chains(table, 50);
        let mut chains: Vec<f32> = (0..found.count).map(|i| i as f32).collect();
        for _ in 0..50 {
            chains.iter_mut().for_each(|c| *c = c.mul_add(0.999, 0.003));
        }
        let lane = chains[1..].iter().fold(chains[0], |sum, c| sum + c);
        let expected: f32 = [lane; 16].iter().sum();
        assert_eq!(found.sum, expected, "{}", table.name());
    }
}

#[test]
fn sums_read_every_element() {
    let data: Vec<f32> = (0..1000).map(|i| (i % 7) as f32).collect();
    for &isa in Isa::available() {
        for len in [0, 1, 15, 16, 95, 96, 97, 191, 192, 193, 1000] {
            let expected: f32 = data[..len].iter().sum();
            assert_eq!(peak::read(isa, &data[..len]).unwrap(), expected, "{isa}, {len} elements");
        }
    }
}
