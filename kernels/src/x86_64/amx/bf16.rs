//! Bfloat16 in tiles; what has no tiles is done as with AVX512-BF16.

use super::{ROWS, chain_halves, configure, multiply_halves, release, sum};
use crate::bf16::{Bf16Table, finish_waiting};
use crate::conv::tile::{ByRuns, TileArgs, Tiles};
use crate::table::by_pixels;
use crate::x86_64::avx512::bf16::{Dot, dot};

/// # Safety
/// [`TileFn`](crate::conv::tile::TileFn)'s contract.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn tile<const B: usize>(args: &TileArgs) {
    // SAFETY: the caller's promises.
    unsafe {
        sum::<B>(args, multiply_halves);
        if args.ends {
            finish_waiting::<Dot, B>(args, args.runs[0] + args.runs[1]);
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
unsafe fn chain(rounds: u64) -> f32 {
    let mut sums = [0; 4 * ROWS * ROWS];
    // SAFETY: the caller's promise. Pairs of 2 and ½.
    unsafe { chain_halves(0x3f00_4000, rounds, &mut sums) };
    sums.iter().map(|bits| f32::from_bits(*bits)).sum()
}

/// The kernels of bfloat16 with tiles.
pub(crate) static TABLE: Bf16Table = Bf16Table {
    name: "avx512-amx",
    conv_tile: Tiles {
        kernels: &[by_pixels!(32, conv_tile, 1), by_pixels!(32, conv_tile, 2), by_pixels!(32, conv_tile, 3), by_pixels!(32, conv_tile, 4)],
        by_runs: Some(ByRuns { configure, release, others: dot::TABLE.conv_tile.kernels }),
    },
    chain,
    // Of 32 products: those of four tiles.
    chains: 4 * ROWS * ROWS,
    ..dot::TABLE
};
