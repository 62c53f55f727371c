//! The weights of a convolution or linear layer: in memory, or where they are read from when a plan packs them. A network's
//! weights are needed once, for packing; a model that is read from a file does not hold them twice.

use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use std::ops::Range;
use std::sync::Arc;
use stridewise_kernels::conv::{Algorithm, WeightSource};
use stridewise_kernels::{ConvProblem, Executor, KernelTable, Layout};

/// Where weights are kept outside memory.
pub trait StoredWeight: Send + Sync {
    /// Reads elements from the `start`-th on, row-major, each finite. Several threads may read at a time.
    ///
    /// # Errors
    /// When they can't be read as they were when the network was loaded.
    fn read(&self, start: usize, values: &mut [f32]) -> Result<()>;
}

/// Weights `[OC, …]`, and a factor for each output channel that they are multiplied by when they are read.
#[derive(Clone)]
pub struct Weight {
    shape: Shape,
    source: Source,
    factors: Option<Arc<[f64]>>,
    /// Of the elements, where those of one node are not the same in every graph of a model.
    content: u64,
    /// What a step is worth in each output channel, where the weights are whole numbers of steps that signed bytes hold.
    steps: Option<Arc<[f32]>>,
}

#[derive(Clone)]
enum Source {
    Memory(Arc<Tensor<f32>>),
    Stored(Arc<dyn StoredWeight>),
    /// Nowhere: what was packed of them is all that there is.
    #[cfg(feature = "packed")]
    Packed,
}

impl Weight {
    /// Weights of a shape that are kept elsewhere.
    pub fn stored(shape: Shape, source: Arc<dyn StoredWeight>) -> Weight {
        Weight { shape, source: Source::Stored(source), factors: None, content: 0, steps: None }
    }

    /// The shape, OC first.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The dimensions, OC first.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// Multiplies the weights of each output channel by a factor, in f64; they are rounded once, when they are read.
    pub(crate) fn scale(&mut self, factors: &[f64]) {
        let before = self.factors.take();
        let before = before.as_deref().unwrap_or(&[]).iter().copied().chain(std::iter::repeat(1.0));
        self.factors = Some(factors.iter().zip(before).map(|(new, old)| new * old).collect());
        if let Some(steps) = &mut self.steps {
            *steps = steps.iter().zip(factors).map(|(step, factor)| (f64::from(*step) * factor.abs()) as f32).collect();
        }
    }

    /// The same weights, which are known to be whole numbers of these steps, one for each output channel.
    #[cfg(feature = "onnx")]
    pub(crate) fn with_steps(mut self, steps: Option<Arc<[f32]>>) -> Weight {
        self.steps = steps.filter(|steps| Some(&steps.len()) == self.dims().first());
        self
    }

    /// What a step is worth in each output channel, where the weights are whole numbers of steps that signed bytes hold.
    pub(crate) fn steps(&self) -> Option<&[f32]> {
        self.steps.as_deref()
    }

    /// Weights whose fingerprint tells them from others of the same node.
    #[cfg(feature = "onnx")]
    pub(crate) fn told_apart(mut self) -> Weight {
        if let Source::Memory(tensor) = &self.source {
            self.content = tensor.as_slice().iter().fold(FINGERPRINT, |hash, value| mixed(hash, u64::from(value.to_bits())));
        }
        self
    }

    /// A number that differs, but for a rare chance, where the factors or a bias do.
    pub(crate) fn fingerprint(&self, bias: Option<&[f32]>) -> u64 {
        let factors = self.factors.as_deref().unwrap_or(&[]).iter().map(|f| f.to_bits());
        let bias = bias.unwrap_or(&[]).iter().map(|b| u64::from(b.to_bits()));
        factors.chain([u64::MAX, self.content]).chain(bias).fold(FINGERPRINT, mixed)
    }

    /// The weights, row-major, a piece at a time; `node` names them in errors.
    pub(crate) fn source<'a>(&'a self, node: &'a str) -> ScaledWeight<'a> {
        ScaledWeight { weight: self, node }
    }

    /// All weights; `node` names them in errors.
    ///
    /// # Errors
    /// When they can't be read, are not finite once scaled, or there is no memory for them.
    pub fn read(&self, node: &str) -> Result<Tensor<f32>> {
        let mut values = Vec::new();
        let mut tensor = Tensor::zeros(self.shape)?;
        tensor.as_mut_slice().copy_from_slice(self.source(node).read(0..self.shape.elements(), &mut values)?);
        Ok(tensor)
    }
}

/// Where a fingerprint begins.
const FINGERPRINT: u64 = 0xcbf2_9ce4_8422_2325;

/// A fingerprint with 64 bits more: FNV-1a over words; high bits come down by the shift.
pub(crate) fn mixed(hash: u64, bits: u64) -> u64 {
    let product = (hash ^ bits).wrapping_mul(0x0000_0100_0000_01b3);
    product ^ product >> 32
}

/// What weights are packed for.
pub(crate) struct PackRequest<'a> {
    pub table: &'static KernelTable,
    pub problem: &'a ConvProblem,
    pub algorithm: Algorithm,
    pub layout: Layout,
    pub bias: Option<&'a [f32]>,
    pub executor: &'a dyn Executor,
}

/// Weights as a convolution is packed from them.
pub(crate) struct ScaledWeight<'a> {
    weight: &'a Weight,
    node: &'a str,
}

impl WeightSource for ScaledWeight<'_> {
    type Error = Error;

    fn read<'a>(&'a self, elements: Range<usize>, buffer: &'a mut Vec<f32>) -> Result<&'a [f32]> {
        let shape = self.weight.shape;
        let (start, count) = (elements.start, elements.len());
        match &self.weight.source {
            Source::Memory(tensor) => {
                let missing = || Error::Shape {
                    what: format!("the weights of `{}`", self.node),
                    expected: format!("elements {elements:?}"),
                    found: shape.to_string(),
                };
                let values = tensor.as_slice().get(elements.clone()).ok_or_else(missing)?;
                if self.weight.factors.is_none() {
                    return Ok(values);
                }
                room(buffer, count)?.copy_from_slice(values);
            }
            Source::Stored(stored) => stored.read(start, room(buffer, count)?)?,
            #[cfg(feature = "packed")]
            Source::Packed => {
                let reason = "its weights are there only as they were packed: use the file that the network was packed from";
                return Err(Error::Graph { node: self.node.into(), reason: reason.into() });
            }
        }
        let values = &mut buffer[..count];
        if let Some(factors) = &self.weight.factors {
            scale(values, start, shape.elements() / factors.len().max(1), factors).map_err(|channel| Error::Graph {
                node: self.node.into(),
                reason: format!("with a BatchNorm folded in, its weights are not finite in channel {channel}"),
            })?;
        }
        Ok(values)
    }
}

/// The first `count` elements of a buffer, whatever they are, which is made longer if need be.
fn room(buffer: &mut Vec<f32>, count: usize) -> Result<&mut [f32]> {
    if buffer.len() < count {
        let out_of_memory = |_| stridewise_kernels::Error::OutOfMemory { bytes: count.saturating_mul(size_of::<f32>()) };
        buffer.try_reserve_exact(count - buffer.len()).map_err(out_of_memory)?;
        buffer.resize(count, 0.0);
    }
    Ok(&mut buffer[..count])
}

/// Multiplies elements, from the `start`-th on of rows of `row`, by the factors of their rows. Refuses the first row that is then not
/// finite.
fn scale(values: &mut [f32], start: usize, row: usize, factors: &[f64]) -> Result<(), usize> {
    let mut rest = values;
    let mut at = start;
    while let Some(channel) = at.checked_div(row).filter(|channel| !rest.is_empty() && *channel < factors.len()) {
        let (weights, behind) = rest.split_at_mut(rest.len().min((channel + 1) * row - at));
        let mut finite = true;
        for w in weights.iter_mut() {
            *w = (f64::from(*w) * factors[channel]) as f32;
            finite &= w.is_finite();
        }
        if !finite {
            return Err(channel);
        }
        at += weights.len();
        rest = behind;
    }
    Ok(())
}

impl From<Tensor<f32>> for Weight {
    fn from(tensor: Tensor<f32>) -> Weight {
        Arc::new(tensor).into()
    }
}

impl From<Arc<Tensor<f32>>> for Weight {
    fn from(tensor: Arc<Tensor<f32>>) -> Weight {
        Weight { shape: tensor.shape(), source: Source::Memory(tensor), factors: None, content: 0, steps: None }
    }
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weight{}", self.shape)
    }
}

/// What a packed network says of weights: their shape, and what was folded into them.
#[cfg(feature = "packed")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Described {
    shape: Shape,
    factors: Option<Vec<f64>>,
    content: u64,
}

#[cfg(feature = "packed")]
impl serde::Serialize for Weight {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Described { shape: self.shape, factors: self.factors.as_deref().map(<[f64]>::to_vec), content: self.content }.serialize(serializer)
    }
}

#[cfg(feature = "packed")]
impl<'de> serde::Deserialize<'de> for Weight {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Weight, D::Error> {
        let Described { shape, factors, content } = Described::deserialize(deserializer)?;
        Ok(Weight { shape, source: Source::Packed, factors: factors.map(Arc::from), content, steps: None })
    }
}
