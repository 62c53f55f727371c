//! Functions of two numbers. What is true or false is 1 or 0, and true is whatever is not 0.

use super::lanes::Lanes;
use super::math;

/// A function of two numbers, with ONNX's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
#[repr(usize)]
pub enum Binary {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a · b
    Mul,
    /// a / b
    Div,
    /// The lesser; NaN if either is.
    Min,
    /// The greater; NaN if either is.
    Max,
    /// a^b
    Pow,
    /// a where it is not negative, else a·b
    PRelu,
    /// The remainder with the sign of b.
    Mod,
    /// The remainder with the sign of a.
    Fmod,
    /// a = b
    Equal,
    /// a < b
    Less,
    /// a ≤ b
    LessOrEqual,
    /// a > b
    Greater,
    /// a ≥ b
    GreaterOrEqual,
    /// Both.
    And,
    /// Either.
    Or,
    /// One of them.
    Xor,
}

/// How many binary kernels a table has.
pub(crate) const BINARY_KINDS: usize = Binary::ALL.len();

impl Binary {
    /// All of them, in the order of their kernels in a table.
    pub const ALL: &'static [Binary] = &[
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Min,
        Binary::Max,
        Binary::Pow,
        Binary::PRelu,
        Binary::Mod,
        Binary::Fmod,
        Binary::Equal,
        Binary::Less,
        Binary::LessOrEqual,
        Binary::Greater,
        Binary::GreaterOrEqual,
        Binary::And,
        Binary::Or,
        Binary::Xor,
    ];

    /// As in a kernel's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Min => "min",
            Binary::Max => "max",
            Binary::Pow => "pow",
            Binary::PRelu => "prelu",
            Binary::Mod => "mod",
            Binary::Fmod => "fmod",
            Binary::Equal => "equal",
            Binary::Less => "less",
            Binary::LessOrEqual => "less_or_equal",
            Binary::Greater => "greater",
            Binary::GreaterOrEqual => "greater_or_equal",
            Binary::And => "and",
            Binary::Or => "or",
            Binary::Xor => "xor",
        }
    }

    /// The function of two numbers, with the bits that every kernel gives it.
    pub fn apply(self, a: f32, b: f32) -> f32 {
        let (a, b) = ([a; 16], [b; 16]);
        let mut y = [0.0; 16];
        let args = super::rows::BinaryArgs {
            a: super::rows::Operand::vectors(a.as_ptr()),
            b: super::rows::Operand::vectors(b.as_ptr()),
            output: y.as_mut_ptr(),
            len: 1,
        };
        // SAFETY: the portable kernels run anywhere; one element of each is read and one is written.
        unsafe { (crate::portable::baseline::TABLE.functions.binary[self as usize])(&args) };
        y[0]
    }
}

/// The function numbered K.
///
/// # Safety
/// As [`Lanes`] says.
#[inline(always)]
pub(crate) unsafe fn evaluate<V: Lanes, const K: usize>(a: V, b: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        match Binary::ALL[K] {
            Binary::Add => a.add(b),
            Binary::Sub => a.sub(b),
            Binary::Mul => a.mul(b),
            Binary::Div => a.div(b),
            Binary::Min => a.minimum(b),
            Binary::Max => a.maximum(b),
            Binary::Pow => super::lane_by_lane(a, b, math::power),
            Binary::PRelu => a.if_less(zero, a.mul(b), a),
            Binary::Mod => super::lane_by_lane(a, b, |a, b| {
                let r = a % b;
                if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
            }),
            Binary::Fmod => super::lane_by_lane(a, b, |a, b| a % b),
            Binary::Equal => a.if_equal(b, one, zero),
            Binary::Less => a.if_less(b, one, zero),
            Binary::LessOrEqual => a.if_less(b, one, a.if_equal(b, one, zero)),
            Binary::Greater => b.if_less(a, one, zero),
            Binary::GreaterOrEqual => b.if_less(a, one, a.if_equal(b, one, zero)),
            Binary::And => a.if_equal(zero, zero, b.if_equal(zero, zero, one)),
            Binary::Or => a.if_equal(zero, b.if_equal(zero, zero, one), one),
            Binary::Xor => a.if_equal(zero, b.if_equal(zero, zero, one), b.if_equal(zero, one, zero)),
        }
    }
}
