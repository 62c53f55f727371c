//! Ops on tensors of any rank, as ONNX defines them. A plan runs those that it can in NCHW16c, and all others on row-major
//! tensors.

use stridewise_kernels::dense::{Extreme, PadMode, Reduction};
use stridewise_kernels::pool::{self, Sliding};
use stridewise_kernels::resize::Rule;
use stridewise_kernels::{Binary, Unary};

use super::ConvAttributes;

/// The geometry of a transposed convolution beyond its weights' shape. Order of axes: H, W.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct ConvTransposeAttributes {
    /// Output pixels from an input pixel's window to the next's.
    pub stride: [usize; 2],
    /// Rows and columns that are cut off the full result: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Output pixels from a tap to the next.
    pub dilation: [usize; 2],
    /// Rows and columns added at the bottom and right.
    pub output_padding: [usize; 2],
    /// Groups that the channels fall into.
    pub groups: usize,
}

/// One operation. What is true or false is 1 or 0; indices are whole numbers, exact below 2^24.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum TensorOp {
    /// A function of every element.
    Map(Unary),
    /// `then(function(a, b))`, broadcast as NumPy does it.
    Combine {
        /// Of two numbers.
        function: Binary,
        /// Of the result.
        then: Unary,
    },
    /// `a` where the condition is not 0, else `b`. Inputs: condition, a, b.
    Where,
    /// Windows over all axes behind the second.
    Pool {
        /// What a window becomes.
        reduction: pool::Reduction,
        /// One for each axis.
        windows: Vec<Sliding>,
    },
    /// The places of the maxima of windows, in the whole tensor.
    MaxPoolPlaces {
        /// One for each axis.
        windows: Vec<Sliding>,
        /// Counted through column by column.
        column_major: bool,
    },
    /// The same elements under another shape.
    Reshape(Vec<usize>),
    /// The product of the last two dimensions.
    MatMul,
    /// `alpha · A · B + beta · C` of matrices. Inputs: A, B, and optionally C.
    Product {
        /// Whether A and B are transposed first.
        transpose: [bool; 2],
        /// Factor of the product.
        alpha: f32,
        /// Factor of C.
        beta: f32,
    },
    /// Convolution with weights and bias that are inputs: x, weight, and optionally bias. Of images, `[N, C, H, W]`.
    Convolution(ConvAttributes),
    /// Transposed convolution. Inputs: x `[N, C, H, W]`, weight `[C, OC/groups, KH, KW]`, and optionally bias.
    ConvTranspose(ConvTransposeAttributes),
    /// Dimension i of the result is dimension `perm[i]` of the input.
    Transpose(Vec<usize>),
    /// From `starts` to before `ends` along `axes`; negative numbers count from behind, and what lies outside is clamped.
    Slice {
        /// First elements.
        starts: Vec<i64>,
        /// Ends.
        ends: Vec<i64>,
        /// The axes cut.
        axes: Vec<usize>,
        /// From an element to the next; may be negative.
        steps: Vec<i64>,
    },
    /// Broadcasts to the shape that input and this are broadcast to.
    Expand(Vec<usize>),
    /// The tensor so many times along each dimension.
    Tile(Vec<usize>),
    /// Elements added in front of each dimension, then behind each.
    Pad {
        /// Less than nothing crops.
        pads: Vec<i64>,
        /// What is added.
        mode: PadMode,
    },
    /// The inputs one behind the other.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// Slices along an axis. Inputs: data, indices.
    Gather {
        /// The axis.
        axis: usize,
    },
    /// For each index the element that has it along the axis. Inputs: data, indices.
    GatherElements {
        /// The axis.
        axis: usize,
    },
    /// Slices at tuples of indices. Inputs: data, indices.
    GatherNd {
        /// First dimensions that are common.
        batch: usize,
    },
    /// A reduction along some axes.
    Reduce {
        /// What the elements become.
        reduction: Reduction,
        /// The axes.
        axes: Vec<usize>,
        /// Whether they stay as dimensions of 1.
        keep: bool,
    },
    /// The place of an extreme along an axis.
    ArgReduce {
        /// Which.
        extreme: Extreme,
        /// The axis.
        axis: usize,
        /// Whether it stays as a dimension of 1.
        keep: bool,
        /// Of equal ones the last.
        last: bool,
    },
    /// Sums of all elements so far.
    CumSum {
        /// The axis.
        axis: usize,
        /// Without the element itself.
        exclusive: bool,
        /// From behind.
        reverse: bool,
    },
    /// The k greatest or least along an axis, in order, or their places.
    TopK {
        /// The axis.
        axis: usize,
        /// How many.
        k: usize,
        /// Which.
        extreme: Extreme,
        /// The places instead of the elements.
        places: bool,
    },
    /// Softmax along an axis.
    Softmax {
        /// The axis.
        axis: usize,
        /// Its logarithm.
        log: bool,
    },
    /// Normalisation over all dimensions from an axis on. Inputs: x, scale, shift.
    LayerNormalization {
        /// The axis.
        axis: usize,
        /// ε
        epsilon: f32,
    },
    /// Normalisation of each channel of each image. Inputs: x, scale, shift.
    InstanceNormalization {
        /// ε
        epsilon: f32,
    },
    /// Normalisation of groups of channels of each image. Inputs: x, scale, shift.
    GroupNormalization {
        /// How many groups.
        groups: usize,
        /// ε
        epsilon: f32,
    },
    /// Normalisation by statistics that are inputs: x, scale, shift, mean, variance.
    BatchNormalization {
        /// ε
        epsilon: f32,
    },
    /// Local response normalisation over channels.
    Lrn {
        /// Channels of a sum.
        size: usize,
        /// α, β and the bias.
        coefficients: [f32; 3],
    },
    /// Interpolation along some axes.
    Resize {
        /// For each axis the size of the output, and its quotient by the input's as the op gives it.
        axes: Vec<Option<(usize, f64)>>,
        /// How, for each axis.
        rules: Vec<Rule>,
        /// The value outside the input.
        extrapolation: f32,
    },
    /// Blocks of pixels out of channels.
    DepthToSpace {
        /// Rows and columns of a block.
        block: usize,
        /// Whether the block is the inner part of the channel's number.
        crd: bool,
    },
    /// Channels out of blocks of pixels.
    SpaceToDepth {
        /// Rows and columns of a block.
        block: usize,
    },
    /// The channels of so many groups in turn.
    ChannelShuffle {
        /// How many.
        groups: usize,
    },
}

impl TensorOp {
    /// The op's ONNX name, as far as it has one.
    pub fn name(&self) -> &'static str {
        match self {
            TensorOp::Map(function) => unary_name(function),
            TensorOp::Combine { function, .. } => binary_name(*function),
            TensorOp::Where => "Where",
            TensorOp::Pool { reduction: pool::Reduction::Maximum, .. } | TensorOp::MaxPoolPlaces { .. } => "MaxPool",
            TensorOp::Pool { .. } => "AveragePool",
            TensorOp::Reshape(_) => "Reshape",
            TensorOp::MatMul => "MatMul",
            TensorOp::Product { .. } => "Gemm",
            TensorOp::Convolution(_) => "Conv",
            TensorOp::ConvTranspose(_) => "ConvTranspose",
            TensorOp::Transpose(_) => "Transpose",
            TensorOp::Slice { .. } => "Slice",
            TensorOp::Expand(_) => "Expand",
            TensorOp::Tile(_) => "Tile",
            TensorOp::Pad { .. } => "Pad",
            TensorOp::Concat { .. } => "Concat",
            TensorOp::Gather { .. } => "Gather",
            TensorOp::GatherElements { .. } => "GatherElements",
            TensorOp::GatherNd { .. } => "GatherND",
            TensorOp::Reduce { reduction, .. } => match reduction {
                Reduction::Sum => "ReduceSum",
                Reduction::Mean => "ReduceMean",
                Reduction::Max => "ReduceMax",
                Reduction::Min => "ReduceMin",
                Reduction::Prod => "ReduceProd",
                Reduction::L1 => "ReduceL1",
                Reduction::L2 => "ReduceL2",
                Reduction::LogSum => "ReduceLogSum",
                Reduction::LogSumExp => "ReduceLogSumExp",
                Reduction::SumSquare => "ReduceSumSquare",
                #[allow(unreachable_patterns)]
                _ => "Reduce",
            },
            TensorOp::ArgReduce { extreme: Extreme::Max, .. } => "ArgMax",
            TensorOp::ArgReduce { .. } => "ArgMin",
            TensorOp::CumSum { .. } => "CumSum",
            TensorOp::TopK { .. } => "TopK",
            TensorOp::Softmax { log: false, .. } => "Softmax",
            TensorOp::Softmax { .. } => "LogSoftmax",
            TensorOp::LayerNormalization { .. } => "LayerNormalization",
            TensorOp::InstanceNormalization { .. } => "InstanceNormalization",
            TensorOp::GroupNormalization { .. } => "GroupNormalization",
            TensorOp::BatchNormalization { .. } => "BatchNormalization",
            TensorOp::Lrn { .. } => "LRN",
            TensorOp::Resize { .. } => "Resize",
            TensorOp::DepthToSpace { .. } => "DepthToSpace",
            TensorOp::SpaceToDepth { .. } => "SpaceToDepth",
            TensorOp::ChannelShuffle { .. } => "ChannelShuffle",
        }
    }
}

fn unary_name(function: &Unary) -> &'static str {
    match function {
        Unary::Identity => "Identity",
        Unary::Relu => "Relu",
        Unary::LeakyRelu { .. } => "LeakyRelu",
        Unary::Clip { .. } => "Clip",
        Unary::Sigmoid => "Sigmoid",
        Unary::HardSigmoid { .. } => "HardSigmoid",
        Unary::HardSwish => "HardSwish",
        Unary::Silu | Unary::Swish { .. } => "Swish",
        Unary::Mish => "Mish",
        Unary::Elu { .. } => "Elu",
        Unary::Selu { .. } => "Selu",
        Unary::Celu { .. } => "Celu",
        Unary::Gelu | Unary::GeluTanh => "Gelu",
        Unary::Erf => "Erf",
        Unary::Tanh => "Tanh",
        Unary::Softplus => "Softplus",
        Unary::Softsign => "Softsign",
        Unary::ThresholdedRelu { .. } => "ThresholdedRelu",
        Unary::Exp => "Exp",
        Unary::Log => "Log",
        Unary::Sqrt => "Sqrt",
        Unary::Abs => "Abs",
        Unary::Neg => "Neg",
        Unary::Reciprocal => "Reciprocal",
        Unary::Sign => "Sign",
        Unary::Floor => "Floor",
        Unary::Ceil => "Ceil",
        Unary::Round => "Round",
        Unary::Not => "Not",
        Unary::IsNan => "IsNaN",
        Unary::Power { .. } => "Pow",
        Unary::Affine { .. } => "Affine",
        Unary::FakeQuantize { .. } => "FakeQuantize",
        _ => "Cast",
    }
}

fn binary_name(function: Binary) -> &'static str {
    match function {
        Binary::Add => "Add",
        Binary::Sub => "Sub",
        Binary::Mul => "Mul",
        Binary::Div => "Div",
        Binary::Min => "Min",
        Binary::Max => "Max",
        Binary::Pow => "Pow",
        Binary::PRelu => "PRelu",
        Binary::Mod | Binary::Fmod => "Mod",
        Binary::Equal => "Equal",
        Binary::Less => "Less",
        Binary::LessOrEqual => "LessOrEqual",
        Binary::Greater => "Greater",
        Binary::GreaterOrEqual => "GreaterOrEqual",
        Binary::And => "And",
        Binary::Or => "Or",
        Binary::Xor => "Xor",
        _ => "Combine",
    }
}
