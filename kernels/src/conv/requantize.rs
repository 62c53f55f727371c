//! What becomes of the sums of products of bytes.

use super::ConvProblem;
use super::tile::{Epilogue, Store};
use crate::{Element, Geometry};

/// What is computed of each sum before it is stored, as f32: `fma(sum, scale, −z·s)`, then `fma(residual byte, s, ·)` if there is a
/// residual of scale s and zero point z; else `sum · scale`. It is bounded by the activation. An output of f32 is that. An output of
/// bytes is that rounded to the nearest integer, ties to even, plus the output's zero point, and no less than 0 or more than 255.
///
/// Each operation rounds once, as IEEE 754 says: results are the same bits on every instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a> {
    /// For each output channel what a sum is multiplied by: scale of the input times that of the weights, over that of an output of
    /// bytes.
    pub scales: &'a [f32],
    /// Scale of a residual over that of the output. A residual of an f32 output is f32, and added as it is.
    pub residual_scale: f32,
    /// Bounds of the activation, in units of the scale of an output of bytes and before its zero point is added: 0, ∞ for ReLU.
    pub clamp: (f32, f32),
    /// Stores the sums themselves, 32-bit integers in place of f32, and nothing else of the above.
    pub sums: bool,
}

/// Factors are finite and no larger: no product of one and a sum overflows.
const LARGEST: f32 = 1e18;

impl<'a> Requantize<'a> {
    /// What a kernel is given, or why it can't be.
    pub(super) fn epilogue(
        &self,
        problem: &ConvProblem,
        output: &Geometry,
        residual: Option<&Geometry>,
    ) -> Result<(Epilogue, &'a [f32]), String> {
        let element = output.layout.element();
        if self.sums {
            if element != Element::F32 || residual.is_some() {
                return Err("sums go to a buffer of 32-bit words, without a residual".into());
            }
            return Ok((Epilogue { store: Store::Sums, ..Epilogue::f32((f32::NEG_INFINITY, f32::INFINITY)) }, &[]));
        }
        if self.scales.len() != problem.oc {
            return Err(format!("{} scales for {} output channels", self.scales.len(), problem.oc));
        }
        if let Some((o, scale)) = self.scales.iter().enumerate().find(|(_, s)| s.abs() > LARGEST || s.is_nan()) {
            return Err(format!("the scale of output channel {o} is {scale}"));
        }
        if self.residual_scale.abs() > LARGEST || self.residual_scale.is_nan() {
            return Err(format!("the residual's scale is {}", self.residual_scale));
        }
        if self.clamp.0.is_nan() || self.clamp.1.is_nan() {
            return Err("a bound of the activation is NaN".into());
        }
        let zero = f32::from(output.zero_point());
        let residual_zero = residual.map_or(0.0, |g| f32::from(g.zero_point()));
        let clamp = match element {
            Element::U8 => (self.clamp.0.clamp(-zero, 255.0 - zero), self.clamp.1.clamp(-zero, 255.0 - zero)),
            _ => self.clamp,
        };
        // Half of 2³¹, and what a residual adds.
        let small = self.scales.iter().all(|scale| scale.abs() <= 0.25) && self.residual_scale.abs() <= 1e6;
        Ok((
            Epilogue {
                clamp,
                saturates: small && clamp == (-zero, 255.0 - zero),
                store: if element == Element::U8 { Store::U8 } else { Store::F32 },
                zero: i32::from(output.zero_point()),
                residual_scale: self.residual_scale,
                residual_shift: -(residual_zero * self.residual_scale),
            },
            self.scales,
        ))
    }
}
