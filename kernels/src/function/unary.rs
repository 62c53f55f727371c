//! Functions of one number.

use super::lanes::Lanes;
use super::math;

macro_rules! kinds {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// Each a kernel of its own; several [`Unary`] share one.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub(crate) enum Kind { $($name),+ }

        impl Kind {
            /// All of them, in the order of their kernels in a table.
            pub(crate) const ALL: &'static [Kind] = &[$(Kind::$name),+];

            /// As in a kernel's name.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Kind::$name => $text),+ }
            }
        }
    };
}

kinds! {
    Clip = "clip", LeakyRelu = "leaky_relu", Sigmoid = "sigmoid", HardSigmoid = "hard_sigmoid", HardSwish = "hard_swish", Silu = "silu",
    Swish = "swish", Mish = "mish", Elu = "elu", Gelu = "gelu", GeluTanh = "gelu_tanh", Erf = "erf", Tanh = "tanh",
    Softplus = "softplus", Softsign = "softsign", ThresholdedRelu = "thresholded_relu", Exp = "exp", Log = "log", Sqrt = "sqrt",
    Abs = "abs", Neg = "neg", Reciprocal = "reciprocal", Sign = "sign", Floor = "floor", Ceil = "ceil", Round = "round", Not = "not",
    IsNan = "is_nan", Square = "square", Cube = "cube", Root = "root", Power = "power", Affine = "affine", Identity = "identity", Trunc = "trunc",
    Half = "half", Bfloat = "bfloat", FakeQuantize = "fake_quantize",
}

/// How many unary kernels a table has.
pub(crate) const UNARY_KINDS: usize = Kind::ALL.len();

/// A function of one number, with ONNX's names and attributes.
///
/// NaN becomes NaN, but in comparisons, and infinities what IEEE 754 and the limits say.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Unary {
    /// x
    Identity,
    /// max(x, 0)
    Relu,
    /// x where it is not negative, else alpha·x
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// Bounded from below, then from above.
    Clip {
        /// −∞ for none.
        low: f32,
        /// ∞ for none.
        high: f32,
    },
    /// 1 / (1 + e^−x)
    Sigmoid,
    /// max(0, min(1, alpha·x + beta))
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at zero.
        beta: f32,
    },
    /// x · max(0, min(1, x/6 + 1/2))
    HardSwish,
    /// x · sigmoid(x)
    Silu,
    /// x · sigmoid(alpha·x)
    Swish {
        /// Steepness.
        alpha: f32,
    },
    /// x · tanh(ln(1 + e^x))
    Mish,
    /// x where it is not negative, else alpha·(e^x − 1)
    Elu {
        /// Minus the limit at −∞.
        alpha: f32,
    },
    /// gamma·x where x is positive, else gamma·alpha·(e^x − 1)
    Selu {
        /// Minus the limit at −∞, less gamma.
        alpha: f32,
        /// Slope above zero.
        gamma: f32,
    },
    /// max(0, x) + min(0, alpha·(e^(x/alpha) − 1))
    Celu {
        /// Minus the limit at −∞.
        alpha: f32,
    },
    /// x/2 · (1 + erf(x/√2))
    Gelu,
    /// x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))
    GeluTanh,
    /// The error function.
    Erf,
    /// Hyperbolic tangent.
    Tanh,
    /// ln(1 + e^x)
    Softplus,
    /// x / (1 + |x|)
    Softsign,
    /// x where it is above alpha, else 0
    ThresholdedRelu {
        /// The threshold.
        alpha: f32,
    },
    /// e^x
    Exp,
    /// ln x
    Log,
    /// √x
    Sqrt,
    /// |x|
    Abs,
    /// −x
    Neg,
    /// 1/x
    Reciprocal,
    /// −1, 0 or 1
    Sign,
    /// The greatest integer that is not above x.
    Floor,
    /// The least integer that is not below x.
    Ceil,
    /// The nearest integer, the even one of two.
    Round,
    /// The integer part.
    Trunc,
    /// The nearest number that has an f16, of two the one with an even last bit; the numbers of f16 are f32's too.
    RoundToHalf,
    /// The nearest number that has a bf16, likewise.
    RoundToBfloat,
    /// 1 where x is 0, else 0
    Not,
    /// 1 where x is NaN, else 0
    IsNan,
    /// x^exponent
    Power {
        /// The exponent.
        exponent: f32,
    },
    /// scale·x + shift, rounded once
    Affine {
        /// Factor.
        scale: f32,
        /// Summand.
        shift: f32,
    },
    /// `step · n` of the nearest integer n, ties to even, that is neither below `low` nor above `high`: what quantisation and its
    /// inverse leave of a number. NaN becomes 0.
    FakeQuantize {
        /// What a step is worth.
        step: f32,
        /// The least n.
        low: f32,
        /// The greatest n.
        high: f32,
    },
}

impl Unary {
    /// The kernel that computes it, and the kernel's parameters.
    pub(crate) fn kernel(self) -> (Kind, [f32; 3]) {
        let clip = |low, high| (Kind::Clip, [low, high, 0.0]);
        let plain = |kind| (kind, [0.0; 3]);
        match self {
            Unary::Identity => plain(Kind::Identity),
            Unary::Relu => clip(0.0, f32::INFINITY),
            Unary::LeakyRelu { alpha } => (Kind::LeakyRelu, [alpha, 0.0, 0.0]),
            Unary::Clip { low, high } => clip(low, high),
            Unary::Sigmoid => plain(Kind::Sigmoid),
            Unary::HardSigmoid { alpha, beta } => (Kind::HardSigmoid, [alpha, beta, 0.0]),
            Unary::HardSwish => plain(Kind::HardSwish),
            Unary::Silu => plain(Kind::Silu),
            Unary::Swish { alpha: 1.0 } => plain(Kind::Silu),
            Unary::Swish { alpha } => (Kind::Swish, [alpha, 0.0, 0.0]),
            Unary::Mish => plain(Kind::Mish),
            Unary::Elu { alpha } => (Kind::Elu, [alpha, 1.0, 1.0]),
            Unary::Selu { alpha, gamma } => (Kind::Elu, [alpha * gamma, 1.0, gamma]),
            Unary::Celu { alpha } => (Kind::Elu, [alpha, 1.0 / alpha, 1.0]),
            Unary::Gelu => plain(Kind::Gelu),
            Unary::GeluTanh => plain(Kind::GeluTanh),
            Unary::Erf => plain(Kind::Erf),
            Unary::Tanh => plain(Kind::Tanh),
            Unary::Softplus => plain(Kind::Softplus),
            Unary::Softsign => plain(Kind::Softsign),
            Unary::ThresholdedRelu { alpha } => (Kind::ThresholdedRelu, [alpha, 0.0, 0.0]),
            Unary::Exp => plain(Kind::Exp),
            Unary::Log => plain(Kind::Log),
            Unary::Sqrt => plain(Kind::Sqrt),
            Unary::Abs => plain(Kind::Abs),
            Unary::Neg => plain(Kind::Neg),
            Unary::Reciprocal => plain(Kind::Reciprocal),
            Unary::Sign => plain(Kind::Sign),
            Unary::Floor => plain(Kind::Floor),
            Unary::Ceil => plain(Kind::Ceil),
            Unary::Round => plain(Kind::Round),
            Unary::Trunc => plain(Kind::Trunc),
            Unary::RoundToHalf => plain(Kind::Half),
            Unary::RoundToBfloat => plain(Kind::Bfloat),
            Unary::Not => plain(Kind::Not),
            Unary::IsNan => plain(Kind::IsNan),
            Unary::Power { exponent: 1.0 } => plain(Kind::Identity),
            Unary::Power { exponent: 2.0 } => plain(Kind::Square),
            Unary::Power { exponent: 3.0 } => plain(Kind::Cube),
            Unary::Power { exponent: 0.5 } => plain(Kind::Root),
            Unary::Power { exponent: -1.0 } => plain(Kind::Reciprocal),
            Unary::Power { exponent } => (Kind::Power, [exponent, 0.0, 0.0]),
            Unary::Affine { scale, shift } => (Kind::Affine, [scale, shift, 0.0]),
            Unary::FakeQuantize { step, low, high } => (Kind::FakeQuantize, [step, low, high]),
        }
    }

    /// The function of one number, with the bits that every kernel gives it.
    pub fn apply(self, x: f32) -> f32 {
        let (kind, params) = self.kernel();
        let mut y = [x; 16];
        let pointer = y.as_mut_ptr();
        let args = super::rows::UnaryArgs { input: pointer.cast_const(), output: pointer, len: 1, params };
        // SAFETY: the portable kernels run anywhere; one element is read and written, in place.
        unsafe { (crate::portable::baseline::TABLE.functions.unary[kind as usize])(&args) };
        y[0]
    }

    /// Whether zero becomes a zero: then padding stays padding.
    pub(crate) fn keeps_zero(self) -> bool {
        self.apply(0.0).to_bits() == 0
    }
}

/// The function of the kind numbered K.
///
/// # Safety
/// As [`Lanes`] says.
#[inline(always)]
pub(crate) unsafe fn evaluate<V: Lanes, const K: usize>(x: V, p: &[V; 3]) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        match Kind::ALL[K] {
            Kind::Identity => x,
            Kind::Clip => x.at_least(p[0]).at_most(p[1]),
            Kind::LeakyRelu => x.if_less(zero, x.mul(p[0]), x),
            Kind::Sigmoid => math::sigmoid(x),
            Kind::HardSigmoid => x.fma(p[0], p[1]).at_most(one).at_least(zero),
            Kind::HardSwish => x.mul(x.fma(V::splat(1.0 / 6.0), V::splat(0.5)).at_most(one).at_least(zero)),
            // Its limit at −∞ is 0, and not what −∞ times 0 is.
            Kind::Silu => x.at_least(V::splat(f32::MIN)).mul(math::sigmoid(x)),
            Kind::Swish => x.mul(math::sigmoid(x.mul(p[0]))),
            Kind::Mish => math::mish(x.at_least(V::splat(f32::MIN))),
            Kind::Elu => x.if_less(zero, math::expm1_of_negative(x.mul(p[1])).mul(p[0]), x.mul(p[2])),
            Kind::Gelu => {
                let bounded = x.at_least(V::splat(f32::MIN));
                bounded.mul(V::splat(0.5)).mul(math::erf(x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2))).add(one))
            }
            Kind::GeluTanh => {
                let bounded = x.at_least(V::splat(f32::MIN));
                let cube = x.mul(x).mul(x);
                let inner = cube.fma(V::splat(0.044_715), x).mul(V::splat(0.797_884_6));
                bounded.mul(V::splat(0.5)).mul(math::tanh(inner).add(one))
            }
            Kind::Erf => math::erf(x),
            Kind::Tanh => math::tanh(x),
            Kind::Softplus => math::softplus(x),
            Kind::Softsign => x.div(x.abs().add(one)),
            Kind::ThresholdedRelu => p[0].if_less(x, x, x.if_nan(x, zero)),
            Kind::Exp => math::exp(x),
            Kind::Log => math::log(x),
            Kind::Sqrt => x.sqrt(),
            Kind::Abs => x.abs(),
            Kind::Neg => x.neg(),
            Kind::Reciprocal => one.div(x),
            Kind::Sign => zero.if_less(x, one, x.if_less(zero, V::splat(-1.0), x.if_nan(x, zero))),
            Kind::Floor => {
                let r = x.round_even();
                // Zeros keep their sign.
                x.if_less(r, r.sub(one), r)
            }
            Kind::Ceil => {
                let r = x.round_even();
                r.if_less(x, r.add(one), r).or(x.sign_bit())
            }
            Kind::Round => x.round_even(),
            Kind::Trunc => {
                let (a, r) = (x.abs(), x.abs().round_even());
                a.if_less(r, r.sub(one), r).or(x.sign_bit())
            }
            Kind::Half => super::lane_by_lane(x, x, |x, _| math::through_half(x)),
            Kind::Bfloat => super::lane_by_lane(x, x, |x, _| math::through_bfloat(x)),
            Kind::Not => x.if_equal(zero, one, zero),
            Kind::IsNan => x.if_nan(one, zero),
            Kind::Square => x.mul(x),
            Kind::Cube => x.mul(x).mul(x),
            // As the power ½ is defined: +0 of −0, and ∞ of −∞.
            Kind::Root => x.if_equal(V::splat(f32::NEG_INFINITY), V::splat(f32::INFINITY), x.add(zero).sqrt()),
            Kind::Power => super::lane_by_lane(x, p[0], math::power),
            Kind::Affine => x.fma(p[0], p[1]),
            Kind::FakeQuantize => x.if_nan(zero, x).div(p[0]).round_even().at_least(p[1]).at_most(p[2]).mul(p[0]),
        }
    }
}
