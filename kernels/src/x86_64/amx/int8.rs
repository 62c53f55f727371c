//! Bytes in tiles; what has no tiles is done as with AVX-512 VNNI.

use super::{ROWS, chain_bytes, configure, multiply_bytes, release, sum};
use crate::conv::tile::{ByRuns, TileArgs, Tiles};
use crate::int8::{Int8Table, Waiting, finish_waiting};
use crate::table::by_pixels;
use crate::x86_64::avx512::int8::{Vnni, vnni};

/// # Safety
/// [`TileFn`](crate::conv::tile::TileFn)'s contract.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn tile<const B: usize>(args: &TileArgs) {
    // SAFETY: the caller's promises.
    unsafe {
        sum::<B>(args, multiply_bytes);
        if args.ends {
            finish_waiting::<Vnni, B, false>(args, Waiting { first: 0, count: args.runs[0] + args.runs[1], sums: args.sums });
        }
    }
}

/// # Safety
/// As [`tile`].
unsafe fn conv_tile<const P: usize, const B: usize>(args: &TileArgs) {
    debug_assert_eq!(args.runs[0] + args.runs[1], P);
    // SAFETY: the caller's promises.
    unsafe { tile::<B>(args) }
}

/// # Safety
/// [`is_available`](super::is_available) said so.
unsafe fn chain(rounds: u64) -> i32 {
    let mut sums = [0; 4 * ROWS * ROWS];
    // SAFETY: the caller's promise.
    unsafe { chain_bytes(0x0102_0304, rounds, &mut sums) };
    sums.iter().fold(0, |sum, s| sum.wrapping_add(*s as i32))
}

/// The kernels of bytes with tiles.
pub(crate) static TABLE: Int8Table = Int8Table {
    name: "avx512-amx",
    conv_tile: Tiles {
        kernels: &[by_pixels!(32, conv_tile, 1), by_pixels!(32, conv_tile, 2), by_pixels!(32, conv_tile, 3), by_pixels!(32, conv_tile, 4)],
        by_runs: Some(ByRuns { configure, release, others: vnni::TABLE.conv_tile.kernels }),
    },
    chain,
    // Of 64 products: those of four tiles.
    chains: 4 * ROWS * ROWS,
    ..vnni::TABLE
};
