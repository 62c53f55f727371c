//! Tables of kernels of bytes that count.

use super::{Chains, cut, shims, slot_of};
use crate::Kernel;
use crate::conv::tile::Tiles;
use crate::int8::rows::{ElementArgs, MeanArgs, PlanesArgs};
use crate::int8::{Int8Table, row_entry};
use crate::row::PoolArgs;

shims!(Int8Table, 6, conv_tile.kernels);

// SAFETY (all blocks of these functions): as of the shims of convolutions.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<const SLOT: usize> Shims<SLOT> {
    unsafe fn pool_max(args: &PoolArgs) {
        unsafe { (Self::called(row_entry(0)).pool_max)(args) }
    }

    unsafe fn pool_mean(args: &MeanArgs) {
        unsafe { (Self::called(row_entry(1)).pool_mean)(args) }
    }

    unsafe fn add(args: &ElementArgs) {
        unsafe { (Self::called(row_entry(2)).add)(args) }
    }

    unsafe fn quantize(args: &ElementArgs) {
        unsafe { (Self::called(row_entry(3)).quantize)(args) }
    }

    unsafe fn dequantize(args: &ElementArgs) {
        unsafe { (Self::called(row_entry(4)).dequantize)(args) }
    }

    unsafe fn quantize_planes(args: &PlanesArgs) {
        unsafe { (Self::called(row_entry(5)).quantize_planes)(args) }
    }

    fn table(original: &Int8Table) -> Int8Table {
        Int8Table {
            isa: original.isa,
            name: original.name,
            offset: original.offset,
            conv_tile: Tiles { kernels: cut(&Self::TILES, original.conv_tile.kernels), ..original.conv_tile },
            grouped: Self::grouped(&original.grouped),
            pool_max: Self::pool_max,
            pool_mean: Self::pool_mean,
            add: Self::add,
            quantize: Self::quantize,
            dequantize: Self::dequantize,
            quantize_planes: Self::quantize_planes,
            chain: original.chain,
            chains: original.chains,
        }
    }
}

/// As [`counting`](super::counting), of bytes.
///
/// # Panics
/// When it was asked for more tables than a processor can run.
pub fn counting(original: &'static Int8Table) -> &'static Int8Table {
    let tables: [fn(&Int8Table) -> Int8Table; SLOTS] =
        [Shims::<0>::table, Shims::<1>::table, Shims::<2>::table, Shims::<3>::table, Shims::<4>::table, Shims::<5>::table];
    Box::leak(Box::new(tables[slot_of(&ORIGINALS, original)](original)))
}

/// Every kernel of a table, with its place among those that any table has.
pub fn entries(table: &Int8Table) -> Vec<(usize, Kernel)> {
    table.entries()
}

/// Runs the chains of products.
pub fn chains(table: &Int8Table, rounds: u64) -> Chains<i32> {
    // SAFETY: nobody has a table but of an instruction set that is there.
    Chains { sum: unsafe { (table.chain)(rounds) }, count: table.chains, numbered: table.conv_tile.by_runs.is_none() }
}

/// What the register tiles take the unsigned bytes less of.
pub fn offset(table: &Int8Table) -> i32 {
    table.offset
}
