//! What this crate's own tests need of its inside: tables whose kernels count their calls, kernels that no op calls alone, and numbers
//! that problems are made of.
//!
//! A counting table has the shape of another. Its kernels are shims: they note the call, then do what the kernel that they stand for
//! does. Which table that is, a shim knows by its number alone, and what has a number keeps it: tiles of one table may be called with
//! arguments that those of another must not be given.

use crate::conv::grouped_row;
use crate::conv::tile::TileFn;
use crate::function::blend::BlendArgs;
use crate::function::lane_sums::LaneSumsArgs;
use crate::function::reduce::{NormalizeArgs, REDUCTIONS, ReduceArgs};
use crate::function::resample::ResampleArgs;
use crate::function::rows::{BinaryArgs, UnaryArgs};
use crate::function::{FunctionKernels, every_binary, every_unary};
use crate::parallel::{Executor, Parts};
use crate::row::{PoolArgs, RowArgs};
use crate::table::{binary_entry, other_entry, reduce_entry, row_entry, unary_entry};
use crate::winograd_transform::{InputArgs, OutputArgs};
use crate::{BLOCK, Binary, Error, Geometry, Kernel, KernelTable, Layout, Unary};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;

#[cfg(feature = "bf16")]
pub mod bf16;
#[cfg(feature = "int8")]
pub mod int8;

/// Channels of the groups that have kernels of their own.
pub const GROUPS: [usize; 2] = grouped_row::GROUPS;

/// Kernel widths and strides of the depthwise convolutions that have kernels of their own.
pub const SHAPES: [(usize, usize); 4] = grouped_row::SHAPES;

/// Pixels of a row that depthwise convolutions and narrow groups compute together.
pub const TILE: usize = grouped_row::TILE;

thread_local! {
    /// Entries of tables, in the order of their calls.
    static CALLS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

fn note(entry: usize) {
    CALLS.with_borrow_mut(|calls| calls.push(entry));
}

/// The kernels of counting tables that this thread has called since it was asked last, by their places in `entries` of the table.
pub fn take_calls() -> Vec<usize> {
    CALLS.take()
}

/// Every kernel of a table, with its place among those that any table has.
pub fn entries(table: &KernelTable) -> Vec<(usize, Kernel)> {
    table.entries()
}

/// The tables that shims stand for, by the shims' number.
type Originals<T, const SLOTS: usize> = [OnceLock<&'static T>; SLOTS];

/// The number that a table has, or has from now on.
fn slot_of<T>(originals: &'static [OnceLock<&'static T>], table: &'static T) -> usize {
    let is_its_own = |slot: &OnceLock<&'static T>| std::ptr::eq(*slot.get_or_init(|| table), table);
    originals.iter().position(is_its_own).expect("there are shims for as many tables as a processor can run")
}

/// As many shims as a table has tiles.
fn cut(tiles: &[&'static [TileFn]], original: &[&[TileFn]]) -> &'static [&'static [TileFn]] {
    let rows = original.iter().zip(tiles).map(|(row, all)| &all[..row.len()]);
    // A table must live for ever; tests end soon.
    Box::leak(rows.collect::<Vec<_>>().into_boxed_slice())
}

/// The shims of convolutions, for tables of a type whose tiles are in a field: the same for every format.
macro_rules! shims {
    ($table:ident, $slots:literal, $($tiles:ident).+) => {
        const SLOTS: usize = $slots;

        static ORIGINALS: $crate::testing::Originals<$table, SLOTS> = [const { std::sync::OnceLock::new() }; SLOTS];

        struct Shims<const SLOT: usize>;

        // SAFETY (all blocks of these functions): the caller keeps the contract of the kernel that the shim stands for, which is one of
        // the table that the shim's own was made for.
        #[allow(clippy::undocumented_unsafe_blocks)]
        impl<const SLOT: usize> Shims<SLOT> {
            const TILES: [&'static [$crate::conv::tile::TileFn]; $crate::conv::tile::MAX_BLOCKS] = [
                $crate::table::by_pixels!(32, Self::conv, 1),
                $crate::table::by_pixels!(32, Self::conv, 2),
                $crate::table::by_pixels!(32, Self::conv, 3),
                $crate::table::by_pixels!(32, Self::conv, 4),
            ];

            const DEPTHWISE: &'static [$crate::conv::grouped_row::GroupedFn; $crate::testing::SHAPES.len()] = &[
                Self::depthwise_shaped::<0>,
                Self::depthwise_shaped::<1>,
                Self::depthwise_shaped::<2>,
                Self::depthwise_shaped::<3>,
            ];

            // There are thousands of shims.
            #[inline(never)]
            fn called(entry: usize) -> &'static $table {
                $crate::testing::note(entry);
                ORIGINALS[SLOT].get().expect("nobody has a shim but of a table that was made")
            }

            unsafe fn conv<const P: usize, const B: usize>(args: &$crate::conv::tile::TileArgs) {
                unsafe { (Self::called($crate::table::conv_entry(P, B)).$($tiles).+[B - 1][P - 1])(args) }
            }

            unsafe fn depthwise_any(args: &$crate::conv::grouped_row::GroupedArgs) {
                unsafe { (Self::called($crate::table::depthwise_entry(0)).grouped.depthwise_any)(args) }
            }

            unsafe fn depthwise_shaped<const I: usize>(args: &$crate::conv::grouped_row::GroupedArgs) {
                unsafe { (Self::called($crate::table::depthwise_entry(1 + I)).grouped.depthwise_shaped[I])(args) }
            }

            unsafe fn groups<const I: usize>(args: &$crate::conv::grouped_row::GroupedArgs) {
                unsafe { (Self::called($crate::table::groups_entry(I)).grouped.groups[I])(args) }
            }

            /// As many kernels as a table has.
            fn grouped(original: &$crate::conv::grouped_row::GroupedKernels) -> $crate::conv::grouped_row::GroupedKernels {
                $crate::conv::grouped_row::GroupedKernels {
                    depthwise_any: Self::depthwise_any,
                    depthwise_shaped: &Self::DEPTHWISE[..original.depthwise_shaped.len()],
                    groups: [Self::groups::<0>, Self::groups::<1>],
                }
            }
        }
    };
}
#[cfg(any(feature = "bf16", feature = "int8"))]
use shims;

shims!(KernelTable, 4, conv_tile);

// SAFETY (all blocks of these functions): as of the shims of convolutions.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<const SLOT: usize> Shims<SLOT> {
    unsafe fn pool_max(args: &PoolArgs) {
        unsafe { (Self::called(row_entry(0)).pool_max)(args) }
    }

    unsafe fn pool_mean(args: &PoolArgs) {
        unsafe { (Self::called(row_entry(1)).pool_mean)(args) }
    }

    unsafe fn add(args: &RowArgs) {
        unsafe { (Self::called(row_entry(2)).add)(args) }
    }

    unsafe fn clamp(args: &RowArgs) {
        unsafe { (Self::called(row_entry(3)).clamp)(args) }
    }

    unsafe fn affine(args: &RowArgs) {
        unsafe { (Self::called(row_entry(4)).affine)(args) }
    }

    unsafe fn winograd_f2_input(args: &InputArgs) {
        unsafe { (Self::called(row_entry(5)).winograd_f2.0)(args) }
    }

    unsafe fn winograd_f2_output(args: &OutputArgs) {
        unsafe { (Self::called(row_entry(5)).winograd_f2.1)(args) }
    }

    unsafe fn winograd_f4_input(args: &InputArgs) {
        unsafe { (Self::called(row_entry(6)).winograd_f4.0)(args) }
    }

    unsafe fn winograd_f4_output(args: &OutputArgs) {
        unsafe { (Self::called(row_entry(6)).winograd_f4.1)(args) }
    }

    unsafe fn unary<const K: usize>(args: &UnaryArgs) {
        unsafe { (Self::called(unary_entry(K)).functions.unary[K])(args) }
    }

    unsafe fn binary<const K: usize>(args: &BinaryArgs) {
        unsafe { (Self::called(binary_entry(K)).functions.binary[K])(args) }
    }

    unsafe fn reduce<const K: usize>(args: &ReduceArgs) -> f32 {
        unsafe { (Self::called(reduce_entry(K)).functions.reduce[K])(args) }
    }

    unsafe fn normalize(args: &NormalizeArgs) {
        unsafe { (Self::called(other_entry(0)).functions.normalize)(args) }
    }

    unsafe fn blend(args: &BlendArgs) {
        unsafe { (Self::called(other_entry(1)).functions.blend)(args) }
    }

    unsafe fn resample(args: &ResampleArgs) {
        unsafe { (Self::called(other_entry(2)).functions.resample)(args) }
    }

    unsafe fn lane_sums<const K: usize>(args: &LaneSumsArgs) {
        unsafe { (Self::called(other_entry(3 + K)).functions.lane_sums[K])(args) }
    }

    fn table(original: &KernelTable) -> KernelTable {
        KernelTable {
            isa: original.isa,
            name: original.name,
            conv_tile: cut(&Self::TILES, original.conv_tile),
            grouped: Self::grouped(&original.grouped),
            winograd_f2: (Self::winograd_f2_input, Self::winograd_f2_output),
            winograd_f4: (Self::winograd_f4_input, Self::winograd_f4_output),
            pool_max: Self::pool_max,
            pool_mean: Self::pool_mean,
            add: Self::add,
            clamp: Self::clamp,
            affine: Self::affine,
            functions: FunctionKernels {
                unary: every_unary!(Self::unary),
                binary: every_binary!(Self::binary),
                reduce: [Self::reduce::<0>, Self::reduce::<1>, Self::reduce::<2>, Self::reduce::<3>],
                normalize: Self::normalize,
                blend: Self::blend,
                resample: Self::resample,
                lane_sums: [Self::lane_sums::<0>, Self::lane_sums::<1>],
            },
            fma_chain: original.fma_chain,
            fma_chains: original.fma_chains,
            read_sum: original.read_sum,
        }
    }
}

/// A table whose kernels note their calls for [`take_calls`] of the calling thread, then do what those of `original` do.
///
/// # Panics
/// When it was asked for more tables than a processor can run.
pub fn counting(original: &'static KernelTable) -> &'static KernelTable {
    let tables: [fn(&KernelTable) -> KernelTable; SLOTS] = [Shims::<0>::table, Shims::<1>::table, Shims::<2>::table, Shims::<3>::table];
    Box::leak(Box::new(tables[slot_of(&ORIGINALS, original)](original)))
}

/// What the chains of a table's peak measurement add up to.
#[derive(Clone, Copy, Debug)]
pub struct Chains<T> {
    /// The sum of all lanes of all chains.
    pub sum: T,
    /// How many chains.
    pub count: usize,
    /// Whether the lanes of a chain begin with its number, and not with zero.
    pub numbered: bool,
}

/// Runs the chains of multiply-adds.
pub fn fma_chains(table: &KernelTable, rounds: u64) -> Chains<f32> {
    // SAFETY: nobody has a table but of an instruction set that is there.
    Chains { sum: unsafe { (table.fma_chain)(rounds) }, count: table.fma_chains, numbered: true }
}

/// A function's name in that of its kernel.
pub fn unary_name(function: Unary) -> &'static str {
    function.kernel().0.name()
}

/// Likewise.
pub fn binary_name(function: Binary) -> &'static str {
    function.name()
}

/// What the reduction of that name makes of a row. Only `exp_sum` writes to `output`.
///
/// # Panics
/// When there is no such reduction, or the output has another length than the row.
pub fn reduce(table: &KernelTable, name: &str, input: &[f32], shift: f32, output: &mut [f32]) -> f32 {
    let index = REDUCTIONS.iter().position(|reduction| *reduction == name).expect("a reduction of this name");
    assert_eq!(output.len(), input.len());
    // SAFETY: nobody has a table but of an instruction set that is there; both slices have `len` elements.
    unsafe { (table.functions.reduce[index])(&ReduceArgs { input: input.as_ptr(), len: input.len(), shift, output: output.as_mut_ptr() }) }
}

/// `(x − mean) · factor · scale + shift` of a row.
///
/// # Panics
/// When the slices have not one length.
pub fn normalize(table: &KernelTable, input: &[f32], [mean, factor]: [f32; 2], scale: &[f32], shift: &[f32], output: &mut [f32]) {
    let len = input.len();
    assert_eq!([scale.len(), shift.len(), output.len()], [len; 3]);
    let (scale, shift) = (scale.as_ptr(), shift.as_ptr());
    let args = NormalizeArgs { input: input.as_ptr(), output: output.as_mut_ptr(), len, mean, factor, scale, shift, step: 16 };
    // SAFETY: nobody has a table but of an instruction set that is there; all slices have `len` elements.
    unsafe { (table.functions.normalize)(&args) }
}

/// For each channel of a buffer's first block the sum of its numbers, or of the squares of what they are more than `shift`.
///
/// # Panics
/// When the buffer is not of a geometry of blocks of 16 channels, or the others have not 16 elements.
pub fn lane_sums(table: &KernelTable, squares: bool, (g, buffer): (&Geometry, &[f32]), shift: &[f32], output: &mut [f32]) {
    assert!(g.layout() == Layout::Nchw16c && !g.is_empty() && buffer.len() == g.len());
    assert_eq!([shift.len(), output.len()], [BLOCK; 2]);
    let args = LaneSumsArgs {
        input: buffer[g.offset(0, 0, 0, 0)..].as_ptr(),
        row_stride: g.row_stride(),
        rows: g.h,
        count: g.w,
        shift: shift.as_ptr(),
        output: output.as_mut_ptr(),
    };
    // SAFETY: nobody has a table but of an instruction set that is there; the rows are those of the buffer's first plane, whose length
    // is checked above, as are the sixteen elements of the others.
    unsafe { (table.functions.lane_sums[usize::from(squares)])(&args) }
}

/// Calls `piece` with each number below `total`, as ops share out their work.
///
/// # Errors
/// When the executor leaves a part out, or a part panics.
pub fn share_out(executor: &dyn Executor, total: usize, piece: &(dyn Fn(usize) + Sync)) -> Result<(), Error> {
    Parts::of(executor).share_out(total, &|_, index| piece(index))
}

/// Calls `rows` with ranges that make up `0..total`, likewise.
///
/// # Errors
/// As [`share_out`].
pub fn share_out_rows(executor: &dyn Executor, total: usize, rows: &(dyn Fn(Range<usize>) + Sync)) -> Result<(), Error> {
    Parts::of(executor).share_out_rows(total, rows)
}
