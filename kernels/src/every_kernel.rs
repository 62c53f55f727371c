//! Every kernel of every table that this processor can run is called here and its results are checked.
//!
//! The tests take the list from [`KernelTable::kernels`] and make, for each entry, a problem that only this kernel can do. What
//! is called is not concluded but counted: the ops are given a table of the same shape whose kernels count, then call the
//! kernel they stand for. A kernel that no problem reaches, or of a family that nobody wrote a problem for, fails the test.

use crate::conv::Winograd;
use crate::conv::grouped_row::{GroupedArgs, GroupedFn, GroupedKernels, SHAPES};
use crate::conv::tile::{MAX_BLOCKS, MAX_PIXELS, TileArgs, TileFn};
use crate::elementwise::Elementwise;
use crate::function::blend::BlendArgs;
use crate::function::lane_sums::LaneSumsArgs;
use crate::function::reduce::{NormalizeArgs, ReduceArgs};
use crate::function::resample::ResampleArgs;
use crate::function::rows::{BinaryArgs, UnaryArgs};
use crate::pool::{Pool, Reduction, Windows};
use crate::row::{PoolArgs, RowArgs};
use crate::table::{binary_entry, by_pixels, conv_entry, depthwise_entry, groups_entry, other_entry, reduce_entry, row_entry, unary_entry};
use crate::winograd_transform::{InputArgs, OutputArgs};
use crate::{Geometry, Halo, Inline, Isa, Kernel, KernelTable, Layout};
use std::cell::{Cell, RefCell};

mod convolutions;
mod functions;
#[path = "../tests/harness/mod.rs"]
mod harness;
#[cfg(all(feature = "bf16", feature = "int8"))]
mod low_precision;
use harness::{Guarded, at_both_ends, bits, buffer_of, dense_of, noise};

thread_local! {
    /// The table that the counting one stands for.
    static ORIGINAL: Cell<&'static KernelTable> = const { Cell::new(&crate::portable::baseline::TABLE) };
    /// Entries of the table, in the order of their calls.
    static CALLS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    /// How many problems were done.
    static PROBLEMS: Cell<usize> = const { Cell::new(0) };
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

    pub unsafe fn depthwise_any(args: &GroupedArgs) {
        unsafe { (called(depthwise_entry(0)).grouped.depthwise_any)(args) }
    }

    pub unsafe fn depthwise_shaped<const I: usize>(args: &GroupedArgs) {
        unsafe { (called(depthwise_entry(1 + I)).grouped.depthwise_shaped[I])(args) }
    }

    pub unsafe fn groups<const I: usize>(args: &GroupedArgs) {
        unsafe { (called(groups_entry(I)).grouped.groups[I])(args) }
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
        unsafe { (called(other_entry(0)).functions.normalize)(args) }
    }

    pub unsafe fn blend(args: &BlendArgs) {
        unsafe { (called(other_entry(1)).functions.blend)(args) }
    }

    pub unsafe fn resample(args: &ResampleArgs) {
        unsafe { (called(other_entry(2)).functions.resample)(args) }
    }

    pub unsafe fn lane_sums<const K: usize>(args: &LaneSumsArgs) {
        unsafe { (called(other_entry(3 + K)).functions.lane_sums[K])(args) }
    }

    pub unsafe fn affine(args: &RowArgs) {
        unsafe { (called(row_entry(4)).affine)(args) }
    }
}

static CONV_TILES: [&[TileFn; MAX_PIXELS]; MAX_BLOCKS] = [
    by_pixels!(32, counting::conv, 1),
    by_pixels!(32, counting::conv, 2),
    by_pixels!(32, counting::conv, 3),
    by_pixels!(32, counting::conv, 4),
];

static DEPTHWISE: [GroupedFn; SHAPES.len()] =
    [counting::depthwise_shaped::<0>, counting::depthwise_shaped::<1>, counting::depthwise_shaped::<2>, counting::depthwise_shaped::<3>];

/// Kernels that count for this thread, then do what those of `original` do.
fn counting(original: &'static KernelTable) -> &'static KernelTable {
    ORIGINAL.set(original);
    // Tests end soon; a table must live for ever.
    let rows = original.conv_tile.iter().zip(CONV_TILES).map(|(row, all)| &all[..row.len()]);
    let conv_tile = Box::leak(rows.collect::<Vec<_>>().into_boxed_slice());
    Box::leak(Box::new(KernelTable {
        isa: original.isa,
        name: original.name,
        conv_tile,
        grouped: GroupedKernels {
            depthwise_any: counting::depthwise_any,
            depthwise_shaped: &DEPTHWISE[..original.grouped.depthwise_shaped.len()],
            groups: [counting::groups::<0>, counting::groups::<1>],
        },
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
            blend: counting::blend,
            resample: counting::resample,
            lane_sums: [counting::lane_sums::<0>, counting::lane_sums::<1>],
        },
        fma_chain: original.fma_chain,
        fma_chains: original.fma_chains,
        read_sum: original.read_sum,
    }))
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
    count_problem();
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
        for (entry, kernel) in original.entries() {
            at_both_ends(|side| {
                CALLS.take();
                let found = exercise(&kernel, table);
                let mut calls = CALLS.take();
                if kernel.family.starts_with("winograd") {
                    // Between its transforms the products are those of convolution tiles.
                    calls.retain(|call| *call >= depthwise_entry(0));
                }
                calls.dedup();
                assert_eq!(calls, [entry], "{}: other kernels or none were called", kernel.name);
                // The same problem on other tables, and in other memory, gives the same bits.
                let problem = kernel.name.trim_end_matches(original.name).to_string();
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

#[test]
fn sums_read_every_element() {
    let data: Vec<f32> = (0..1000).map(|i| (i % 7) as f32).collect();
    for &isa in Isa::available() {
        for len in [0, 1, 15, 16, 95, 96, 97, 191, 192, 193, 1000] {
            let expected: f32 = data[..len].iter().sum();
            assert_eq!(crate::peak::read(isa, &data[..len]).unwrap(), expected, "{isa}, {len} elements");
        }
    }
}
