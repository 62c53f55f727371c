//! Functions of one and of two numbers, written once over `Lanes` and instantiated for every instruction set.
//!
//! They are operations that round once, in a fixed order, and never the platform's mathematical library: the bits are the same
//! everywhere.

mod binary;
pub(crate) mod blend;
pub(crate) mod lane_sums;
pub(crate) mod lanes;
mod math;
pub(crate) mod reduce;
pub(crate) mod resample;
pub(crate) mod rows;
mod unary;

pub(crate) use binary::BINARY_KINDS;
pub use binary::Binary;
pub(crate) use math::{exp_f64 as exp, log_f64 as log};
pub use unary::Unary;
pub(crate) use unary::{Kind, UNARY_KINDS};

use blend::BlendFn;
use lane_sums::LaneSumsFn;
use lanes::Lanes;
use reduce::{NormalizeFn, ReduceFn};
use resample::ResampleFn;
use rows::{BinaryFn, UnaryFn};

/// The kernels of functions, of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct FunctionKernels {
    /// In the order of [`Kind::ALL`].
    pub(crate) unary: [UnaryFn; UNARY_KINDS],
    /// In the order of [`Binary::ALL`].
    pub(crate) binary: [BinaryFn; BINARY_KINDS],
    /// In the order of [`reduce::REDUCTIONS`].
    pub(crate) reduce: [ReduceFn; 4],
    pub(crate) normalize: NormalizeFn,
    pub(crate) blend: BlendFn,
    pub(crate) resample: ResampleFn,
    /// Of numbers, and of squares.
    pub(crate) lane_sums: [LaneSumsFn; 2],
}

/// A function of plain numbers, lane by lane.
#[inline(always)]
unsafe fn lane_by_lane<V: Lanes>(a: V, b: V, function: impl Fn(f32, f32) -> f32) -> V {
    let (mut x, mut y) = ([0.0f32; 16], [0.0f32; 16]);
    // SAFETY: the caller keeps Lanes' contract; the buffers hold sixteen elements.
    unsafe {
        a.store(x.as_mut_ptr());
        b.store(y.as_mut_ptr());
        for i in 0..16 {
            x[i] = function(x[i], y[i]);
        }
        V::load(x.as_ptr())
    }
}

/// An array of a function's instances for const parameters 0, 1, 2…
macro_rules! numbered {
    ($module:ident::$f:ident, [$($i:literal)+]) => { [$($module::$f::<$i>),+] };
}
pub(crate) use numbered;

/// As many as there are unary kernels.
macro_rules! every_unary {
    ($module:ident::$f:ident) => {
        $crate::function::numbered!($module::$f, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37])
    };
}
pub(crate) use every_unary;

/// As many as there are binary kernels.
macro_rules! every_binary {
    ($module:ident::$f:ident) => { $crate::function::numbered!($module::$f, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17]) };
}
pub(crate) use every_binary;
