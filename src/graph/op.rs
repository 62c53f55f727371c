//! The operations a graph is made of, named after ONNX and with its attribute semantics.

use super::{TensorOp, Weight};
use crate::tensor::Tensor;
use std::sync::Arc;

/// What is applied to each element just before it is stored.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// max(x, 0)
    Relu,
    /// min(max(x, lo), hi); ReLU6 is `Clamp(0.0, 6.0)`.
    Clamp(f32, f32),
}

/// The geometry of a convolution beyond its weights' shape. Order of axes: H, W.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct ConvAttributes {
    /// Step between output pixels.
    pub stride: [usize; 2],
    /// Zeros around the input: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Step between kernel taps.
    pub dilation: [usize; 2],
    /// Groups that the channels fall into; divides both C and OC.
    pub groups: usize,
}

impl Default for ConvAttributes {
    fn default() -> Self {
        ConvAttributes { stride: [1, 1], pads: [0; 4], dilation: [1, 1], groups: 1 }
    }
}

/// The window of a pooling op. Order of axes: H, W.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct PoolAttributes {
    /// Window size.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Padding: top, left, bottom, right. A maximum ignores it.
    pub pads: [usize; 4],
    /// Rounds the output size up instead of down (a window that starts in the padding at the end is still dropped).
    pub ceil_mode: bool,
}

/// One operation. Weights are f32 and shared, not copied, between graphs.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Op {
    /// 2-D cross-correlation. Weight `[OC, C/groups, KH, KW]`, bias `[OC]`. Inputs: x, and optionally a residual of the output's
    /// shape that is added before the activation.
    Conv {
        /// `[OC, C/groups, KH, KW]`
        weight: Weight,
        /// `[OC]`
        bias: Option<Arc<Tensor<f32>>>,
        /// Stride, pads, dilation, groups.
        attributes: ConvAttributes,
        /// Applied last.
        activation: Activation,
    },
    /// Inference-mode batch normalisation of `[N, C, H, W]` or `[N, C]`; all four are `[C]`.
    BatchNormalization {
        /// γ
        scale: Arc<Tensor<f32>>,
        /// β
        bias: Arc<Tensor<f32>>,
        /// Running mean.
        mean: Arc<Tensor<f32>>,
        /// Running variance.
        variance: Arc<Tensor<f32>>,
        /// ε
        epsilon: f64,
    },
    /// `scale · x + shift` for each channel of `[N, C, H, W]` or `[N, C]`, then the activation: what BatchNorm is in inference.
    ScaleShift {
        /// `[C]`
        scale: Arc<Tensor<f32>>,
        /// `[C]`
        shift: Arc<Tensor<f32>>,
        /// Applied last.
        activation: Activation,
    },
    /// An activation on its own.
    Activation(Activation),
    /// Window maximum.
    MaxPool(PoolAttributes),
    /// Window mean.
    AveragePool {
        /// The window.
        pool: PoolAttributes,
        /// Whether padding counts in the divisor.
        count_include_pad: bool,
    },
    /// Mean over H and W: `[N, C, H, W]` → `[N, C, 1, 1]`.
    GlobalAveragePool,
    /// PyTorch's adaptive average pooling to a fixed H×W (VGG's 7×7): window i covers `[⌊i·H/OH⌋, ⌈(i+1)·H/OH⌉)`.
    AdaptiveAveragePool([usize; 2]),
    /// y = x·Wᵀ + b on `[N, F]`; weight `[OF, F]`, bias `[OF]`.
    Gemm {
        /// `[OF, F]`
        weight: Weight,
        /// `[OF]`
        bias: Option<Arc<Tensor<f32>>>,
        /// Applied last.
        activation: Activation,
    },
    /// Element-wise sum of two values of one shape, then the activation.
    Add(Activation),
    /// `[N, C, H, W]` → `[N, C·H·W]`, row-major.
    Flatten,
    /// Softmax over the last axis of `[N, F]`.
    Softmax,
    /// Every `step`-th row and column: `x[:, :, ::step, ::step]`.
    Slice {
        /// Steps along H and W.
        step: [usize; 2],
    },
    /// Zero channels before and after those of x.
    Pad {
        /// Zero channels in front.
        before: usize,
        /// Zero channels behind.
        after: usize,
    },
    /// The value itself.
    Identity,
    /// The value itself: dropout does nothing in inference.
    Dropout,
    /// An op on tensors of any rank.
    Tensor(TensorOp),
}

impl Op {
    /// The op's ONNX name.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv { .. } => "Conv",
            Op::BatchNormalization { .. } => "BatchNormalization",
            Op::ScaleShift { .. } => "ScaleShift",
            Op::Activation(Activation::Relu) => "Relu",
            Op::Activation(Activation::Clamp(..)) => "Clip",
            Op::Activation(Activation::None) | Op::Identity => "Identity",
            Op::MaxPool(_) => "MaxPool",
            Op::AveragePool { .. } => "AveragePool",
            Op::GlobalAveragePool => "GlobalAveragePool",
            Op::AdaptiveAveragePool(_) => "AdaptiveAveragePool",
            Op::Gemm { .. } => "Gemm",
            Op::Add(_) => "Add",
            Op::Flatten => "Flatten",
            Op::Softmax => "Softmax",
            Op::Slice { .. } => "Slice",
            Op::Pad { .. } => "Pad",
            Op::Dropout => "Dropout",
            Op::Tensor(op) => op.name(),
        }
    }
}
