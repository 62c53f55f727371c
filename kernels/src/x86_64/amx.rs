//! AMX: eight tile registers of 16 rows of 64 bytes. One instruction multiplies a tile of 16 pixels × 16 words by one of 16 words × 16
//! output channels, and adds the products to a tile of 16 × 16 sums.
//!
//! What is in memory is a tile as it is: a pixel of a blocked plane is 16 words, one row; pixels that lie one step apart are as many
//! rows; a segment of packed weights is 16 rows of 16 words for each block of output channels.
//!
//! Bound: a multiplication takes 16 cycles, a load of a tile from the first level of cache 8. Two tiles of pixels times two of weights
//! are four multiplications, 64 cycles, for four loads, 32. Sums go through memory to the epilogue, a row of 16 a vector.

#[cfg(feature = "bf16")]
pub(crate) mod bf16;
#[cfg(feature = "int8")]
pub(crate) mod int8;

use crate::BLOCK;
use crate::conv::tile::{RUN, TileArgs};
use std::arch::asm;
use std::sync::OnceLock;

/// Most rows of a tile.
const ROWS: usize = 16;

const _: () = assert!(RUN == ROWS);

/// Whether this processor has tiles, multiplies bytes and bfloat16 in them, and the system lets this process use them: asked for once, and
/// then granted to all of its threads.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_tiles() && is_permitted())
}

#[allow(unused_unsafe)]
fn has_tiles() -> bool {
    use std::arch::x86_64::__cpuid_count;
    // SAFETY: every x86-64 processor has the instruction; what it does not know, it answers with other numbers.
    let cpuid = |leaf, subleaf| unsafe { __cpuid_count(leaf, subleaf) };
    const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    // AVX-512 is there only where the system uses XSAVE, and with it XGETBV.
    if !crate::Isa::Avx512.is_available() || cpuid(0, 0).eax < 0x1d || cpuid(7, 0).edx & BF16_TILE_INT8 != BF16_TILE_INT8 {
        return false;
    }
    let palette = cpuid(0x1d, 1);
    let (row_bytes, registers, rows) = (palette.ebx & 0xffff, palette.ebx >> 16, palette.ecx & 0xffff);
    (row_bytes, registers) == (64, 8) && rows as usize == ROWS && saved_by_the_system() & 0b11 << 17 == 0b11 << 17
}

/// The parts of a processor's state that the system saves for each thread.
fn saved_by_the_system() -> u32 {
    let low;
    // SAFETY: reads a register, by an instruction that the caller knows is there.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack, preserves_flags)) };
    low
}

/// Asks Linux for the right to use tiles: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    let (arch_prctl, request, tile_data) = (158isize, 0x1023isize, 18isize);
    let status: isize;
    // SAFETY: a system call that takes numbers, and clobbers what is named.
    unsafe {
        asm!("syscall", inlateout("rax") arch_prctl => status, in("rdi") request, in("rsi") tile_data,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    status == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// Makes the tile registers of this thread those of [`sum`]: tiles of two runs of pixels and of so many steps of K.
///
/// # Safety
/// [`is_available`] said so; no run is longer than 16 pixels, and there are 1 to 16 steps.
unsafe fn configure([first, second]: [usize; 2], steps: usize) {
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }
    // A register of no rows is one that nobody may name.
    let (first, second) = (first as u8, second.max(1) as u8);
    let (steps, words) = (steps as u8, 4 * steps as u16);
    let mut configuration = Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    configuration.rows[..8].copy_from_slice(&[first, first, second, second, first, second, steps, steps]);
    configuration.row_bytes[..8].copy_from_slice(&[64, 64, 64, 64, words, words, 64, 64]);
    // SAFETY: 64 bytes that describe the registers of palette 1, which is there.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, preserves_flags, readonly)) };
}

/// Gives the tile registers back: as long as they are in use, they are saved whenever the thread is interrupted.
///
/// # Safety
/// [`is_available`] said so.
unsafe fn release() {
    // SAFETY: the caller says that the instruction is there.
    unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
}

/// What [`multiply`] reads and writes. Strides and steps are in bytes.
#[repr(C)]
struct Run {
    /// Offset of each segment from a pixel, in words; and how many there are.
    segments: *const usize,
    count: usize,
    /// First pixel of each run, and how far it is to the next.
    pixels: [*const f32; 2],
    step: usize,
    /// First row of weights of the first block.
    weights: *const f32,
    /// From a row of weights to the next; from a segment's to the next's.
    weight_stride: usize,
    weight_segment: usize,
    /// Cache lines to ask for in each segment.
    ahead: *const f32,
    ahead_lines: usize,
    /// Where the sums go: 16 for each pixel of the first run,
    sums: *mut f32,
    /// this far from here to those of the second block,
    sums_block: usize,
    /// and this far to those of the second run.
    sums_run: usize,
    /// Whether they begin with zero, and not with what is there.
    begins: usize,
    /// From a line of a segment to the next, and from a segment's first to the next's.
    ahead_stride: usize,
    ahead_step: usize,
}

/// The sums of one or two runs of pixels and one or two blocks of output channels. `""` in brackets stands for a second block, a second run,
/// and both; without it the lines that begin with it are left out.
///
/// In a shared virtual machine loads and multiplications were seen not to overlap for long times, and a load to cost nearly as much as a
/// multiplication: sums that begin with zero are not loaded. A step with its loads first took 4 % less time than one with a load before
/// each multiplication.
macro_rules! multiply {
    ($run:expr, $multiply:literal, [$($b:literal)?], [$($r:literal)?], [$($br:literal)?]) => {
        asm!(
            "mov {stride}, 64",
            "cmp qword ptr [{run} + 104], 0",
            "jz 5f",
            "tilezero tmm0",
            $(concat!($b, "tilezero tmm1"),)?
            $(concat!($r, "tilezero tmm2"),)?
            $(concat!($br, "tilezero tmm3"),)?
            "jmp 6f",
            "5:",
            "mov {a}, [{run} + 80]",
            "mov {b}, [{run} + 88]",
            "add {b}, {a}",
            "tileloadd tmm0, [{a} + {stride}]",
            $(concat!($b, "tileloadd tmm1, [{b} + {stride}]"),)?
            $(concat!($r, "add {a}, [{run} + 96]"),)?
            $(concat!($r, "tileloadd tmm2, [{a} + {stride}]"),)?
            $(concat!($br, "add {b}, [{run} + 96]"),)?
            $(concat!($br, "tileloadd tmm3, [{b} + {stride}]"),)?
            "6:",
            "mov {segment}, [{run}]",
            "mov {count}, [{run} + 8]",
            "mov {stride}, [{run} + 32]",
            "mov {weights}, [{run} + 40]",
            "mov {row}, [{run} + 48]",
            "mov {ahead}, [{run} + 64]",
            "2:",
            "mov {b}, [{segment}]",
            "shl {b}, 2",
            "mov {a}, [{run} + 16]",
            "add {a}, {b}",
            "tileloadd tmm4, [{a} + {stride}]",
            "tileloadd tmm6, [{weights} + {row}]",
            $(concat!($b, "tileloadd tmm7, [{weights} + {row} + 64]"),)?
            $(concat!($r, "add {b}, [{run} + 24]"),)?
            $(concat!($r, "tileloadd tmm5, [{b} + {stride}]"),)?
            concat!($multiply, " tmm0, tmm4, tmm6"),
            $(concat!($b, $multiply, " tmm1, tmm4, tmm7"),)?
            $(concat!($r, $multiply, " tmm2, tmm5, tmm6"),)?
            $(concat!($br, $multiply, " tmm3, tmm5, tmm7"),)?
            "mov {b}, [{run} + 72]",
            "test {b}, {b}",
            "jz 4f",
            "mov {a}, {ahead}",
            "3:",
            "prefetcht1 [{a}]",
            "add {a}, [{run} + 112]",
            "dec {b}",
            "jnz 3b",
            "add {ahead}, [{run} + 120]",
            "4:",
            "add {weights}, [{run} + 56]",
            "add {segment}, 8",
            "dec {count}",
            "jnz 2b",
            "mov {stride}, 64",
            "mov {a}, [{run} + 80]",
            "mov {b}, [{run} + 88]",
            "add {b}, {a}",
            "tilestored [{a} + {stride}], tmm0",
            $(concat!($b, "tilestored [{b} + {stride}], tmm1"),)?
            $(concat!($r, "add {a}, [{run} + 96]"),)?
            $(concat!($r, "tilestored [{a} + {stride}], tmm2"),)?
            $(concat!($br, "add {b}, [{run} + 96]"),)?
            $(concat!($br, "tilestored [{b} + {stride}], tmm3"),)?
            run = in(reg) $run,
            a = out(reg) _,
            b = out(reg) _,
            stride = out(reg) _,
            row = out(reg) _,
            segment = out(reg) _,
            count = out(reg) _,
            weights = out(reg) _,
            ahead = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// Multiplies as an instruction of the name does.
macro_rules! two_blocks {
    ($(#[$doc:meta])* $name:ident, $multiply:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The registers are configured for the runs' pixels; every pointer is valid for what is said of it.
        unsafe fn $name(run: &Run, runs: usize, blocks: usize) {
            // SAFETY: the caller's promises; what the instructions change is named.
            unsafe {
                match (runs, blocks) {
                    (1, 1) => multiply!(run, $multiply, [], [], []),
                    (1, _) => multiply!(run, $multiply, [""], [], []),
                    (_, 1) => multiply!(run, $multiply, [], [""], []),
                    (_, _) => multiply!(run, $multiply, [""], [""], [""]),
                }
            }
        }
    };
}

two_blocks!(
    /// Bytes, unsigned times signed.
    #[cfg(feature = "int8")]
    multiply_bytes,
    "tdpbusd"
);
two_blocks!(
    /// Pairs of bfloat16.
    #[cfg(feature = "bf16")]
    multiply_halves,
    "tdpbf16ps"
);

/// Sums of a register tile of all pixels of the arguments and B blocks, into `args.sums`: what [`conv_tile`](crate::conv::tile::conv_tile)
/// does but for bias and epilogue, with K in one chunk.
///
/// # Safety
/// [`TileFn`](crate::conv::tile::TileFn)'s contract; the registers are configured for the arguments' runs and segments.
#[inline(always)]
unsafe fn sum<const B: usize>(args: &TileArgs, multiply: unsafe fn(&Run, usize, usize)) {
    const WORD: usize = size_of::<f32>();
    let pixels = args.runs[0] + args.runs[1];
    let runs = if args.runs[1] == 0 { 1 } else { 2 };
    let mut asked = 0;
    for first in (0..B).step_by(2) {
        let asks = args.ahead_lines * (first + 2).min(B) / B - asked;
        // SAFETY: TileFn's contract; blocks that are there.
        unsafe {
            let run = Run {
                segments: args.segments,
                count: args.segment_count,
                pixels: [args.input.add(*args.pixels), args.input.add(*args.pixels.add(args.runs[0] % pixels))],
                step: args.step * WORD,
                weights: args.weights.add(first * BLOCK),
                weight_stride: B * BLOCK * WORD,
                weight_segment: args.run * B * BLOCK * WORD,
                ahead: args.ahead.wrapping_add(asked * args.ahead_stride),
                ahead_lines: asks,
                sums: args.sums.add(first * pixels * BLOCK),
                sums_block: pixels * BLOCK * WORD,
                sums_run: args.runs[0] * BLOCK * WORD,
                begins: usize::from(args.begins),
                ahead_stride: args.ahead_stride * WORD,
                ahead_step: args.ahead_step * WORD,
            };
            multiply(&run, runs, (B - first).min(2));
        }
        asked += asks;
    }
}

const _: () = assert!(std::mem::offset_of!(Run, ahead_step) == 120, "the instructions name the fields by their places");

/// Multiplies a tile of the same word everywhere by itself, `rounds` times, into four tiles of sums that do not wait for each other.
macro_rules! chain {
    ($(#[$doc:meta])* $name:ident, $multiply:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// [`is_available`] said so.
        unsafe fn $name(word: u32, rounds: u64, sums: &mut [u32; 4 * ROWS * ROWS]) {
            let words = [word; ROWS * ROWS];
            // SAFETY: the registers are configured as tiles of 16 rows, of which the arrays hold one and four.
            unsafe {
                configure([ROWS, ROWS], ROWS);
                asm!(
                    "tileloadd tmm4, [{words} + {row}]",
                    "tileloadd tmm6, [{words} + {row}]",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "test {rounds}, {rounds}",
                    "jz 3f",
                    "2:",
                    concat!($multiply, " tmm0, tmm4, tmm6"),
                    concat!($multiply, " tmm1, tmm4, tmm6"),
                    concat!($multiply, " tmm2, tmm4, tmm6"),
                    concat!($multiply, " tmm3, tmm4, tmm6"),
                    "dec {rounds}",
                    "jnz 2b",
                    "3:",
                    "tilestored [{sums} + {row}], tmm0",
                    "tilestored [{sums} + {row} + 1024], tmm1",
                    "tilestored [{sums} + {row} + 2048], tmm2",
                    "tilestored [{sums} + {row} + 3072], tmm3",
                    words = in(reg) words.as_ptr(),
                    sums = in(reg) sums.as_mut_ptr(),
                    row = in(reg) 4 * ROWS,
                    rounds = inout(reg) rounds => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm6") _,
                    options(nostack),
                );
                release();
            }
        }
    };
}

chain!(
    /// Of bytes.
    #[cfg(feature = "int8")]
    chain_bytes,
    "tdpbusd"
);
chain!(
    /// Of pairs of bfloat16.
    #[cfg(feature = "bf16")]
    chain_halves,
    "tdpbf16ps"
);
