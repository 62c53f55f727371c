//! The weights of a convolution or linear layer: in memory, or where they are read from when a plan packs them. A network's
//! weights are needed once, for packing; a model that is read from a file does not hold them twice.

use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

/// Where weights are kept outside memory.
pub trait StoredWeight: Send + Sync {
    /// Reads all elements, row-major, each finite.
    ///
    /// # Errors
    /// When they can't be read as they were when the network was loaded, or there is no memory for them.
    fn read(&self) -> Result<Tensor<f32>>;
}

/// Weights `[OC, …]`, and a factor for each output channel that they are multiplied by when they are read.
#[derive(Clone)]
pub struct Weight {
    shape: Shape,
    source: Source,
    factors: Option<Arc<[f64]>>,
}

#[derive(Clone)]
enum Source {
    Memory(Arc<Tensor<f32>>),
    Stored(Arc<dyn StoredWeight>),
}

impl Weight {
    /// Weights of a shape that are kept elsewhere.
    pub fn stored(shape: Shape, source: Arc<dyn StoredWeight>) -> Weight {
        Weight { shape, source: Source::Stored(source), factors: None }
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
    }

    /// A number that differs, but for a rare chance, where the factors or a bias do.
    pub(crate) fn fingerprint(&self, bias: Option<&[f32]>) -> u64 {
        // FNV-1a over 64-bit words; high bits come down by the shift.
        let mix = |hash: u64, bits: u64| {
            let product = (hash ^ bits).wrapping_mul(0x0000_0100_0000_01b3);
            product ^ product >> 32
        };
        let factors = self.factors.as_deref().unwrap_or(&[]).iter().map(|f| f.to_bits());
        let bias = bias.unwrap_or(&[]).iter().map(|b| u64::from(b.to_bits()));
        factors.chain([u64::MAX]).chain(bias).fold(0xcbf2_9ce4_8422_2325, mix)
    }

    /// The weights; `node` names them in errors.
    ///
    /// # Errors
    /// When they can't be read, have another shape than they were said to have, or are not finite once scaled.
    pub fn read(&self, node: &str) -> Result<Arc<Tensor<f32>>> {
        let tensor = match &self.source {
            Source::Memory(tensor) => tensor.clone(),
            Source::Stored(stored) => Arc::new(stored.read()?),
        };
        if tensor.shape() != self.shape {
            let (expected, found) = (self.shape.to_string(), tensor.shape().to_string());
            return Err(Error::Shape { what: format!("the weights of `{node}`"), expected, found });
        }
        let Some(factors) = &self.factors else { return Ok(tensor) };
        // What was just read is ours alone; what others hold too is copied.
        let mut scaled = Arc::unwrap_or_clone(tensor);
        let row = self.shape.elements() / factors.len().max(1);
        for (channel, (weights, factor)) in scaled.as_mut_slice().chunks_exact_mut(row.max(1)).zip(factors.iter()).enumerate() {
            let mut finite = true;
            for w in weights {
                *w = (f64::from(*w) * factor) as f32;
                finite &= w.is_finite();
            }
            if !finite {
                let reason = format!("with a BatchNorm folded in, its weights are not finite in channel {channel}");
                return Err(Error::Graph { node: node.into(), reason });
            }
        }
        Ok(Arc::new(scaled))
    }
}

impl From<Tensor<f32>> for Weight {
    fn from(tensor: Tensor<f32>) -> Weight {
        Arc::new(tensor).into()
    }
}

impl From<Arc<Tensor<f32>>> for Weight {
    fn from(tensor: Arc<Tensor<f32>>) -> Weight {
        Weight { shape: tensor.shape(), source: Source::Memory(tensor), factors: None }
    }
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weight{}", self.shape)
    }
}
