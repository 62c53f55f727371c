//! `f16` and `bf16` to `f32` and back: to nearest, ties to even; a NaN stays a NaN.

use super::{Tensor, TensorView};
use crate::error::Result;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Widens, exactly. F16C or FP16 does it where the processor has them.
pub(crate) fn f16_to_f32(source: &[f16], target: &mut [f32]) {
    source.convert_to_f32_slice(target);
}

/// Rounds to nearest even; what is over 65,504 becomes infinite. F16C or FP16 does it where the processor has them.
pub(crate) fn f32_to_f16(source: &[f32], target: &mut [f16]) {
    target.convert_from_f32_slice(source);
}

/// Widens, exactly. A signalling NaN becomes quiet, as in `bf16::to_f32`. Without a branch, so that it becomes SIMD code.
pub(crate) fn bf16_to_f32(source: &[bf16], target: &mut [f32]) {
    assert_eq!(source.len(), target.len(), "a conversion keeps the length");
    for (to, from) in target.iter_mut().zip(source) {
        let bits = u32::from(from.to_bits()) << 16;
        let quiet = if bits & 0x7fff_ffff > 0x7f80_0000 { 0x0040_0000 } else { 0 };
        *to = f32::from_bits(bits | quiet);
    }
}

/// Rounds to nearest even. Without a branch, so that it becomes SIMD code.
pub(crate) fn f32_to_bf16(source: &[f32], target: &mut [bf16]) {
    assert_eq!(source.len(), target.len(), "a conversion keeps the length");
    for (to, from) in target.iter_mut().zip(source) {
        let bits = from.to_bits();
        // Half a unit of the last place that stays, less one unless that place is odd: the carry does the rounding.
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        let result = if bits & 0x7fff_ffff > 0x7f80_0000 { bits | 0x0040_0000 } else { rounded };
        *to = bf16::from_bits((result >> 16) as u16);
    }
}

macro_rules! conversions {
    ($half:ty, $to_half:ident, $widen:ident, $narrow:ident) => {
        impl TensorView<'_, $half> {
            /// The same values as `f32`, exactly.
            ///
            /// # Errors
            /// When there is no memory for the result.
            pub fn to_f32(&self) -> Result<Tensor<f32>> {
                let mut result = Tensor::zeros(self.shape())?;
                $widen(self.as_slice(), result.as_mut_slice());
                Ok(result)
            }
        }

        impl Tensor<$half> {
            /// The same values as `f32`, exactly.
            ///
            /// # Errors
            /// When there is no memory for the result.
            pub fn to_f32(&self) -> Result<Tensor<f32>> {
                self.view().to_f32()
            }
        }

        impl TensorView<'_, f32> {
            /// Rounded to nearest, ties to even; what is too large becomes infinite, a NaN stays a NaN.
            ///
            /// # Errors
            /// When there is no memory for the result.
            pub fn $to_half(&self) -> Result<Tensor<$half>> {
                let mut result = Tensor::zeros(self.shape())?;
                $narrow(self.as_slice(), result.as_mut_slice());
                Ok(result)
            }
        }

        impl Tensor<f32> {
            /// Rounded to nearest, ties to even; what is too large becomes infinite, a NaN stays a NaN.
            ///
            /// # Errors
            /// When there is no memory for the result.
            pub fn $to_half(&self) -> Result<Tensor<$half>> {
                self.view().$to_half()
            }
        }
    };
}
conversions!(f16, to_f16, f16_to_f32, f32_to_f16);
conversions!(bf16, to_bf16, bf16_to_f32, f32_to_bf16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    /// What `f16` means, in f64 arithmetic: sign, exponent and fraction by the definition of IEEE 754.
    fn f16_by_definition(half: u16) -> f64 {
        let (exponent, fraction) = (i32::from(half >> 10 & 31), f64::from(half & 1023) / 1024.0);
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(-14),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
        };
        if half >> 15 == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn every_f16_widens_exactly_and_comes_back() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let halves = Tensor::from_slice(Shape::new(&[65_536]).unwrap(), &all).unwrap();
        let wide = halves.to_f32().unwrap();
        for (half, &value) in all.iter().zip(wide.as_slice()) {
            assert_eq!(value.to_bits(), half.to_f32().to_bits(), "{:#06x}", half.to_bits());
            let expected = f16_by_definition(half.to_bits());
            assert!(f64::from(value) == expected || value.is_nan() && expected.is_nan(), "{:#06x}: {value}", half.to_bits());
            assert_eq!(value.is_sign_negative(), half.is_sign_negative());
        }
        let back = wide.to_f16().unwrap();
        for (half, again) in all.iter().zip(back.as_slice()) {
            assert!(half.to_bits() == again.to_bits() || half.is_nan() && again.is_nan(), "{:#06x}", half.to_bits());
        }
    }

    #[test]
    fn every_bf16_widens_exactly_and_comes_back() {
        let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let halves = Tensor::from_slice(Shape::new(&[256, 256]).unwrap(), &all).unwrap();
        let wide = halves.to_f32().unwrap();
        for (half, &value) in all.iter().zip(wide.as_slice()) {
            assert_eq!(value.to_bits(), half.to_f32().to_bits(), "{:#06x}", half.to_bits());
            assert!(half.is_nan() == value.is_nan() && (value.is_nan() || value.to_bits() == u32::from(half.to_bits()) << 16));
        }
        let back = wide.to_bf16().unwrap();
        for (half, again) in all.iter().zip(back.as_slice()) {
            assert!(half.to_bits() == again.to_bits() || half.is_nan() && again.is_nan(), "{:#06x}", half.to_bits());
        }
    }

    /// Between each two neighbouring finite halves: the middle goes to the even one, what is beside the middle to the nearer.
    fn rounding<H: Copy>(
        up: impl Fn(u16) -> H,
        widen: impl Fn(H) -> f64,
        raw: impl Fn(H) -> u16,
        narrow: impl Fn(&[f32]) -> Vec<H>,
        largest: u16,
    ) {
        let mut inputs = Vec::new();
        let mut expected = Vec::new();
        for low in 0..largest {
            let middle = (widen(up(low)) + widen(up(low + 1))) / 2.0;
            let even = if low % 2 == 0 { low } else { low + 1 };
            let middle = middle as f32;
            for (value, half) in [(middle, even), (middle.next_down(), low), (middle.next_up(), low + 1)] {
                inputs.extend([value, -value]);
                expected.extend([half, half | 0x8000]);
            }
        }
        for ((input, found), expected) in inputs.iter().zip(narrow(&inputs)).zip(expected) {
            assert_eq!(raw(found), expected, "{input:e}");
        }
    }

    #[test]
    fn f32_rounds_to_the_nearest_even_half() {
        let shape = |n: usize| Shape::new(&[n]).unwrap();
        let f16s = |x: &[f32]| Tensor::from_slice(shape(x.len()), x).unwrap().to_f16().unwrap().as_slice().to_vec();
        let bf16s = |x: &[f32]| Tensor::from_slice(shape(x.len()), x).unwrap().to_bf16().unwrap().as_slice().to_vec();
        rounding(f16::from_bits, f16::to_f64, f16::to_bits, f16s, f16::MAX.to_bits());
        rounding(bf16::from_bits, bf16::to_f64, bf16::to_bits, bf16s, bf16::MAX.to_bits());
        let edges = [65_519.996, 65_520.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::from_bits(1)];
        let found: Vec<u16> = f16s(&edges).iter().map(|h| h.to_bits()).collect();
        assert_eq!(found, [0x7bff, 0x7c00, 0x7c00, 0x7c00, 0xfc00, 0, 0x8000, 0]);
        let found: Vec<u16> = bf16s(&edges[2..]).iter().map(|h| h.to_bits()).collect();
        assert_eq!(found, [0x7f80, 0x7f80, 0xff80, 0, 0x8000, 0]);
        // The payload of the last two lies in the bits that are cut off.
        let nans = [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)];
        assert!(f16s(&nans).iter().all(|h| h.is_nan()) && bf16s(&nans).iter().all(|h| h.is_nan()));
    }

    #[test]
    fn slices_of_every_length_equal_the_scalar_conversion() {
        let mut state = 1u32;
        for n in 0..70 {
            let wide: Vec<f32> = (0..n)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    f32::from_bits(state)
                })
                .collect();
            let (mut halves, mut brains) = (vec![f16::ZERO; n], vec![bf16::ZERO; n]);
            f32_to_f16(&wide, &mut halves);
            f32_to_bf16(&wide, &mut brains);
            for i in 0..n {
                assert_eq!(halves[i].to_bits(), f16::from_f32(wide[i]).to_bits(), "{:#x}", wide[i].to_bits());
                assert_eq!(brains[i].to_bits(), bf16::from_f32(wide[i]).to_bits(), "{:#x}", wide[i].to_bits());
            }
            let mut back = vec![0f32; n];
            bf16_to_f32(&brains, &mut back);
            assert_eq!(bits(&back), bits(&brains.iter().map(|b| b.to_f32()).collect::<Vec<_>>()));
            f16_to_f32(&halves, &mut back);
            assert_eq!(bits(&back), bits(&halves.iter().map(|h| h.to_f32()).collect::<Vec<_>>()));
        }
    }
}
