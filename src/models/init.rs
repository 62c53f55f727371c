//! Random weights as PyTorch initialises them, the same on every machine: ChaCha8 for the bits, `libm` for the logarithms.

use super::forward::WeightSource;
use super::module::{Init, Parameter};
use crate::error::Result;
use crate::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// Elements that share one stream of random numbers.
const CHUNK: usize = 4096;

/// Gives each parameter its initial values. They depend on the seed and the parameter's name and shape alone, not on the
/// order in which parameters are asked for.
pub struct Initializer {
    seed: u64,
    zero_init_residual: bool,
}

impl Initializer {
    /// A source of initial weights for a seed.
    pub fn new(seed: u64) -> Initializer {
        Initializer { seed, zero_init_residual: false }
    }

    /// Whether the last BatchNorm of each residual branch starts at zero, so that each block starts as the identity (Goyal et
    /// al., Accurate, large minibatch SGD, 2017, section 5.1). Off by default, as in torchvision.
    pub fn zero_init_residual(self, zero_init_residual: bool) -> Initializer {
        Initializer { zero_init_residual, ..self }
    }
}

impl WeightSource for Initializer {
    fn tensor(&mut self, parameter: &Parameter) -> Result<Tensor<f32>> {
        let mut tensor = Tensor::zeros(parameter.shape)?;
        match parameter.init {
            Init::Constant(value) => tensor.as_mut_slice().fill(value),
            Init::BranchScale => tensor.as_mut_slice().fill(if self.zero_init_residual { 0.0 } else { 1.0 }),
            Init::Normal { std } => self.fill(&mut tensor, &parameter.name, |chunk, rng| normal(chunk, rng, std)),
            Init::Uniform { bound } => self.fill(&mut tensor, &parameter.name, |chunk, rng| {
                for value in chunk {
                    *value = ((2.0 * unit(rng) - 1.0) * bound) as f32;
                }
            }),
        }
        Ok(tensor)
    }
}

impl Initializer {
    fn fill(&self, tensor: &mut Tensor<f32>, name: &str, fill: impl Fn(&mut [f32], &mut ChaCha8Rng) + Sync) {
        let stream = fnv1a(name);
        tensor.as_mut_slice().par_chunks_mut(CHUNK).enumerate().for_each(|(index, chunk)| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(stream.wrapping_add(index as u64));
            fill(chunk, &mut rng);
        });
    }
}

/// Normal values in pairs: Box and Muller, A note on the generation of random normal deviates (1958).
fn normal(chunk: &mut [f32], rng: &mut ChaCha8Rng, std: f64) {
    for pair in chunk.chunks_mut(2) {
        // 1 − u is in (0, 1]: its logarithm is finite.
        let radius = std * libm::sqrt(-2.0 * libm::log(1.0 - unit(rng)));
        let (sin, cos) = libm::sincos(2.0 * std::f64::consts::PI * unit(rng));
        for (value, factor) in pair.iter_mut().zip([cos, sin]) {
            *value = (radius * factor) as f32;
        }
    }
}

/// Uniform in [0, 1), 53 bits.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// FNV-1a, 64 bits.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    fn parameter(init: Init) -> Parameter {
        Parameter { name: "layer1.0.conv1.weight".into(), shape: Shape::new(&[100, 101, 3, 3]).unwrap(), init, trained: true }
    }

    fn moments(init: Init) -> (f64, f64) {
        let tensor = Initializer::new(3).tensor(&parameter(init)).unwrap();
        let (n, values) = (tensor.as_slice().len() as f64, tensor.as_slice());
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn distributions_have_the_moments_that_they_should() {
        let (mean, std) = moments(Init::Normal { std: 0.5 });
        assert!(mean.abs() < 0.01 && (std - 0.5).abs() < 0.005, "{mean} {std}");
        let (mean, std) = moments(Init::Uniform { bound: 0.3 });
        assert!(mean.abs() < 0.01 && (std - 0.3 / 3f64.sqrt()).abs() < 0.005, "{mean} {std}");
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_on_every_machine() {
        let p = parameter(Init::Normal { std: 1.0 });
        let (a, b) = (Initializer::new(0).tensor(&p).unwrap(), Initializer::new(0).tensor(&p).unwrap());
        assert_eq!(a, b);
        assert_ne!(a, Initializer::new(1).tensor(&p).unwrap());
        let hash = a.as_slice().iter().fold(0u64, |h, v| h.rotate_left(5) ^ u64::from(v.to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert_eq!(hash, 8_590_154_804_466_896_633, "the golden hash");
    }
}
