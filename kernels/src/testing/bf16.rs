//! Tables of kernels of bfloat16 that count.

use super::{Chains, cut, shims, slot_of};
use crate::Kernel;
use crate::bf16::{Bf16Table, row_entry};
use crate::conv::tile::Tiles;
use crate::row::{PoolArgs, RowArgs};
use crate::winograd_transform::{InputArgs, OutputArgs};

shims!(Bf16Table, 6, conv_tile.kernels);

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

    unsafe fn narrow(args: &RowArgs) {
        unsafe { (Self::called(row_entry(5)).narrow)(args) }
    }

    unsafe fn widen(args: &RowArgs) {
        unsafe { (Self::called(row_entry(6)).widen)(args) }
    }

    unsafe fn winograd_f2_input(args: &InputArgs) {
        unsafe { (Self::called(row_entry(7)).winograd_f2.0)(args) }
    }

    unsafe fn winograd_f2_output(args: &OutputArgs) {
        unsafe { (Self::called(row_entry(7)).winograd_f2.1)(args) }
    }

    fn table(original: &Bf16Table) -> Bf16Table {
        Bf16Table {
            isa: original.isa,
            name: original.name,
            dot_products: original.dot_products,
            conv_tile: Tiles { kernels: cut(&Self::TILES, original.conv_tile.kernels), ..original.conv_tile },
            grouped: Self::grouped(&original.grouped),
            winograd_f2: (Self::winograd_f2_input, Self::winograd_f2_output),
            pool_max: Self::pool_max,
            pool_mean: Self::pool_mean,
            add: Self::add,
            clamp: Self::clamp,
            affine: Self::affine,
            narrow: Self::narrow,
            widen: Self::widen,
            chain: original.chain,
            chains: original.chains,
        }
    }
}

/// As [`counting`](super::counting), of bfloat16.
///
/// # Panics
/// When it was asked for more tables than a processor can run.
pub fn counting(original: &'static Bf16Table) -> &'static Bf16Table {
    let tables: [fn(&Bf16Table) -> Bf16Table; SLOTS] =
        [Shims::<0>::table, Shims::<1>::table, Shims::<2>::table, Shims::<3>::table, Shims::<4>::table, Shims::<5>::table];
    Box::leak(Box::new(tables[slot_of(&ORIGINALS, original)](original)))
}

/// Every kernel of a table, with its place among those that any table has.
pub fn entries(table: &Bf16Table) -> Vec<(usize, Kernel)> {
    table.entries()
}

/// Runs the chains of products.
pub fn chains(table: &Bf16Table, rounds: u64) -> Chains<f32> {
    // SAFETY: nobody has a table but of an instruction set that is there.
    Chains { sum: unsafe { (table.chain)(rounds) }, count: table.chains, numbered: table.conv_tile.by_runs.is_none() }
}
