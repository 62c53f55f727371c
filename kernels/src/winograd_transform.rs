//! The transforms of Winograd convolution over NCHW16c and NCHW32c, one lane a channel: nothing is shuffled, every step is a sum, a
//! difference or a multiply-add of whole vectors. Of bf16, what is transformed is rounded again where it is stored to be multiplied;
//! products come back as f32.
//!
//! F(4×4, 3×3) interpolates at 0, ±√2/2, ±√2, ∞: with points whose products are powers of √2 the transforms stay short, and
//! the rounding error is half that of 0, ±1, ±2, ∞ (Alam, Anderson, Barabasz and Gregg, Winograd convolution for deep neural
//! networks: efficient point selection, 2022). F(2×2, 3×3) interpolates at 0, ±1, ∞.

use crate::BLOCK;
use crate::geometry::block_offset;
use crate::row::Stored;
use crate::simd::F32x16;
use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::ops::Range;

/// Reads a tile of M + 2 by M + 2 pixels of every plane. Strides are in words.
pub(crate) struct InputArgs {
    /// The tile's first pixel in the first plane.
    pub input: *const f32,
    /// From a row to the next.
    pub row: usize,
    /// From a plane to the next.
    pub plane: usize,
    /// Planes.
    pub planes: usize,
    /// Where the first position of the first plane goes; the planes follow, 16 words each.
    pub output: *mut f32,
    /// From a position to the next.
    pub position: usize,
}

/// Writes a tile of up to M by M pixels of some blocks of 16 channels. Strides are in words.
pub(crate) struct OutputArgs {
    /// The first position of block 0; the blocks follow, 16 elements each.
    pub input: *const f32,
    /// From a position to the next.
    pub position: usize,
    /// The blocks that are written.
    pub blocks: Range<usize>,
    /// 16 values a block, from block 0 on.
    pub bias: *const f32,
    /// The tile's first pixel in the first plane of the residual, or null.
    pub residual: *const f32,
    /// From a row to the next in the residual.
    pub residual_row: usize,
    /// From a plane to the next in the residual.
    pub residual_plane: usize,
    /// Bounds of the activation: −∞ and +∞ for none.
    pub clamp: (f32, f32),
    /// Whether residual and output are f32, whatever the input was.
    pub wide: bool,
    /// The tile's first pixel in the first plane.
    pub output: *mut f32,
    /// From a row to the next in the output.
    pub row: usize,
    /// From a plane to the next in the output.
    pub plane: usize,
    /// Rows of the tile that are inside the image, at most M.
    pub rows: usize,
    /// Columns of the tile that are inside the image, at most M.
    pub columns: usize,
}

/// An input transform.
///
/// # Safety
/// The processor has the instruction set; the tile of every plane lies inside the buffer that `input` points into, and
/// `output` is valid for `16 · planes` words at every position, which no other thread touches.
pub(crate) type InputFn = unsafe fn(&InputArgs);

/// An output transform with the epilogue.
///
/// # Safety
/// The processor has the instruction set; `input` is valid for 16 elements of each block at every position, `bias` for as many;
/// `rows` by `columns` pixels of every block lie inside the buffers that `residual` (unless null) and `output` point into,
/// and no other thread touches those of `output`.
pub(crate) type OutputFn = unsafe fn(&OutputArgs);

/// The one-dimensional transforms of a variant.
pub(crate) trait Points {
    /// Points of the input tile along an axis.
    const INPUTS: usize;
    /// Points of the output tile along an axis.
    const OUTPUTS: usize;

    /// Bᵀ d.
    ///
    /// # Safety
    /// The processor has the instruction set of V.
    unsafe fn input<V: F32x16>(d: &[V; 6]) -> [V; 6];

    /// Aᵀ m.
    ///
    /// # Safety
    /// The processor has the instruction set of V.
    unsafe fn output<V: F32x16>(m: &[V; 6]) -> [V; 4];
}

/// F(4×4, 3×3).
pub(crate) struct F4;

/// F(2×2, 3×3).
pub(crate) struct F2;

impl Points for F4 {
    const INPUTS: usize = 6;
    const OUTPUTS: usize = 4;

    #[inline(always)]
    unsafe fn input<V: F32x16>(d: &[V; 6]) -> [V; 6] {
        // SAFETY: the caller says that the instruction set is there.
        unsafe {
            let even_a = d[2].fma(V::splat(-2.0), d[4]);
            let odd_a = d[3].fma(V::splat(FRAC_1_SQRT_2), d[1].mul(V::splat(-SQRT_2)));
            let even_b = d[2].fma(V::splat(-0.5), d[4]);
            let odd_b = d[3].fma(V::splat(SQRT_2), d[1].mul(V::splat(-FRAC_1_SQRT_2)));
            [
                d[2].fma(V::splat(-2.5), d[0].add(d[4])),
                even_a.add(odd_a),
                even_a.sub(odd_a),
                even_b.add(odd_b),
                even_b.sub(odd_b),
                d[3].fma(V::splat(-2.5), d[1].add(d[5])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn output<V: F32x16>(m: &[V; 6]) -> [V; 4] {
        // SAFETY: the caller says that the instruction set is there.
        unsafe {
            let (sum_a, difference_a) = (m[1].add(m[2]), m[1].sub(m[2]));
            let (sum_b, difference_b) = (m[3].add(m[4]), m[3].sub(m[4]));
            [
                m[0].add(sum_a).add(sum_b),
                difference_b.fma(V::splat(SQRT_2), difference_a.mul(V::splat(FRAC_1_SQRT_2))),
                sum_b.fma(V::splat(2.0), sum_a.mul(V::splat(0.5))),
                difference_b.fma(V::splat(2.0 * SQRT_2), difference_a.fma(V::splat(0.5 * FRAC_1_SQRT_2), m[5])),
            ]
        }
    }
}

impl Points for F2 {
    const INPUTS: usize = 4;
    const OUTPUTS: usize = 2;

    #[inline(always)]
    unsafe fn input<V: F32x16>(d: &[V; 6]) -> [V; 6] {
        // SAFETY: the caller says that the instruction set is there.
        unsafe { [d[0].sub(d[2]), d[1].add(d[2]), d[2].sub(d[1]), d[3].sub(d[1]), d[0], d[0]] }
    }

    #[inline(always)]
    unsafe fn output<V: F32x16>(m: &[V; 6]) -> [V; 4] {
        // SAFETY: the caller says that the instruction set is there.
        unsafe { [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).add(m[3]), m[0], m[0]] }
    }
}

/// G of a variant: the kernel's transform along an axis, in f64.
pub(crate) fn kernel_transform(inputs: usize, g: [f64; 3]) -> [f64; 6] {
    let [g0, g1, g2] = g;
    if inputs == 4 {
        return [g0, (g0 + g1 + g2) / 2.0, (g0 - g1 + g2) / 2.0, g2, 0.0, 0.0];
    }
    let (a, b) = (std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::SQRT_2);
    let at = |x: f64, norm: f64| (g0 + x * g1 + x * x * g2) / norm;
    [g0, at(a, -1.5), at(-a, -1.5), at(b, 6.0), at(-b, 6.0), g2]
}

/// Bᵀ d B for the tile of every plane.
///
/// # Safety
/// As [`InputFn`] says.
#[inline(always)]
pub(crate) unsafe fn input<S: Stored, P: Points>(args: &InputArgs) {
    // SAFETY: the caller keeps InputFn's contract, which is that of every load and store below.
    unsafe {
        for block in 0..args.planes * (BLOCK / S::WORDS) {
            let source = args.input.add(block_offset(block, S::WORDS, args.plane));
            let target = args.output.add(block * S::WORDS);
            let mut rows = [[S::Vector::splat(0.0); 6]; 6];
            for x in 0..P::INPUTS {
                let mut column = [S::Vector::splat(0.0); 6];
                for y in 0..P::INPUTS {
                    column[y] = S::read(source.add(y * args.row + x * BLOCK));
                }
                let column = P::input(&column);
                for y in 0..P::INPUTS {
                    rows[y][x] = column[y];
                }
            }
            for y in 0..P::INPUTS {
                let row = P::input(&rows[y]);
                for x in 0..P::INPUTS {
                    S::write(row[x], target.add((y * P::INPUTS + x) * args.position));
                }
            }
        }
    }
}

/// Aᵀ m A for the tile of every block, then bias, residual and activation.
///
/// # Safety
/// As [`OutputFn`] says.
#[inline(always)]
pub(crate) unsafe fn output<S: Stored, P: Points>(args: &OutputArgs) {
    // SAFETY: the caller keeps OutputFn's contract, which is that of every load and store below.
    unsafe {
        let (low, high) = (S::Vector::splat(args.clamp.0), S::Vector::splat(args.clamp.1));
        let wide = args.wide || S::WORDS == BLOCK;
        let words = if wide { BLOCK } else { S::WORDS };
        for block in args.blocks.clone() {
            let source = args.input.add(block * BLOCK);
            let bias = S::Vector::load(args.bias.add(block * BLOCK));
            let mut rows = [[S::Vector::splat(0.0); 6]; 4];
            for x in 0..P::INPUTS {
                let mut column = [S::Vector::splat(0.0); 6];
                for y in 0..P::INPUTS {
                    column[y] = S::Vector::load(source.add((y * P::INPUTS + x) * args.position));
                }
                let column = P::output(&column);
                for y in 0..P::OUTPUTS {
                    rows[y][x] = column[y];
                }
            }
            // Unrolled with tests that a whole tile passes, so that the row stays in registers.
            for y in 0..P::OUTPUTS {
                if y >= args.rows {
                    break;
                }
                let row = P::output(&rows[y]);
                let target = args.output.add(block_offset(block, words, args.plane) + y * args.row);
                let residual = args.residual.wrapping_add(block_offset(block, words, args.residual_plane) + y * args.residual_row);
                for x in 0..P::OUTPUTS {
                    if x >= args.columns {
                        break;
                    }
                    let mut value = row[x].add(bias);
                    if !args.residual.is_null() {
                        let residual = residual.add(x * BLOCK);
                        value = value.add(if wide { S::Vector::load(residual) } else { S::read(residual) });
                    }
                    let value = value.at_least(low).at_most(high);
                    if wide { value.store(target.add(x * BLOCK)) } else { S::write(value, target.add(x * BLOCK)) }
                }
            }
        }
    }
}
