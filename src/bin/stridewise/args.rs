//! Arguments that commands share.

use crate::arrays::NamedShape;
use crate::output::Failure;
use clap::Args;
use clap::builder::RangedI64ValueParser;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stridewise::session::Tuning;
use stridewise::{Arch, Isa, LoadOptions, Model, Numerics, Precision, Session, SessionOptions, Threads};

/// Which network.
#[derive(Args)]
pub struct ModelArgs {
    /// An ONNX file, a packed network (.swp), or weights: a safetensors file with the tensor names of torchvision, timm or Hugging Face
    /// [default: the built-in CIFAR-10 ResNet-20]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Architecture, for example resnet50 [default: inferred from the file]
    #[arg(long, value_name = "NAME")]
    pub arch: Option<Arch>,
    /// Random weights from this seed instead of a file
    #[arg(long, value_name = "SEED", requires = "arch", conflicts_with = "model")]
    pub random: Option<u64>,
    /// The shape of an input, for example image=1x3x320x320; once for each. An ONNX file that does not fit batch 1, images of 224x224 and
    /// other dimensions of 1 is read for it
    #[arg(long, value_name = "NAME=SHAPE")]
    pub shape: Vec<NamedShape>,
}

impl ModelArgs {
    /// Loads the network, for inputs that say themselves what their shapes are: only to read an ONNX file others are needed.
    pub fn load(&self) -> Result<Model, Failure> {
        match self.shape.first() {
            Some(NamedShape((name, _))) if !self.is_onnx() => {
                Err(Failure::Usage(format!("--shape {name}=…: it is for ONNX files here; the shape is that of what is read")))
            }
            _ => self.load_for_shapes(),
        }
    }

    /// Loads the network, for sessions of the shapes that are given.
    pub fn load_for_shapes(&self) -> Result<Model, Failure> {
        match (&self.model, self.arch, self.random) {
            (Some(path), Some(arch), _) if self.is_onnx() => {
                Err(Failure::Usage(format!("--arch {arch}: {} is an ONNX file, which says itself what it is", path.display())))
            }
            (Some(path), arch, _) => {
                let shapes = if self.is_onnx() { self.shapes() } else { Vec::new() };
                Ok(Model::load_with(path, &LoadOptions { arch, shapes, ..LoadOptions::default() })?)
            }
            (None, Some(arch), Some(seed)) => Ok(Model::random(arch, seed)?),
            (None, Some(arch), None) => {
                Err(Failure::Usage(format!("--arch {arch} needs weights: --model FILE, or --random SEED for random ones")))
            }
            (None, None, _) => Ok(Model::builtin()?),
        }
    }

    /// Whether the model is an ONNX file, by its name.
    pub fn is_onnx(&self) -> bool {
        self.model.as_deref().and_then(Path::extension).is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
    }

    /// The shapes that are given, by the inputs' names.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.shape.iter().map(|shape| shape.0.clone()).collect()
    }

    /// As [`ModelArgs::load_for_shapes`], where weights do not matter: an architecture alone gets random ones.
    pub fn load_any_weights(&self) -> Result<Model, Failure> {
        match (&self.model, self.arch, self.random) {
            (None, Some(arch), None) => Ok(Model::random(arch, 0)?),
            _ => self.load_for_shapes(),
        }
    }

    /// What was loaded, for headlines.
    pub fn describe(&self, model: &Model) -> String {
        let arch = model.arch().map_or_else(|| model.graph().name.clone(), |arch| arch.to_string());
        match (&self.model, self.random) {
            (Some(path), _) => format!("{arch} from {}", path.display()),
            (None, Some(seed)) => format!("{arch} with random weights (seed {seed})"),
            (None, None) if self.arch.is_some() => format!("{arch} with random weights (seed 0)"),
            (None, None) => format!("built-in {arch}"),
        }
    }
}

/// How to run it.
#[derive(Args)]
pub struct RunArgs {
    /// Threads in all; results do not depend on it [default: as many as the process may use]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Instruction set: portable, avx2, avx512 or neon [default: the best there is]
    #[arg(long, value_name = "NAME")]
    pub isa: Option<Isa>,
    /// `fast` lets convolutions use Winograd, `exact` sums directly
    #[arg(long, value_name = "MODE", default_value_t = Numerics::Fast)]
    pub numerics: Numerics,
    /// f32, bf16 or int8 (of a model that `stridewise quantize` made)
    #[arg(long, value_name = "NAME", default_value_t = Precision::F32)]
    pub precision: Precision,
}

impl RunArgs {
    /// Options for a session.
    pub fn options(&self, batch: usize, size: Option<[usize; 2]>) -> SessionOptions {
        let threads = Threads::Count(self.threads.unwrap_or_else(default_threads));
        SessionOptions {
            threads,
            isa: self.isa,
            numerics: self.numerics,
            precision: self.precision,
            batch,
            size,
            ..SessionOptions::default()
        }
    }
}

/// How to run it, and by which measured times.
#[derive(Args)]
pub struct TunedRunArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    tuning: TuningArgs,
}

impl TunedRunArgs {
    /// What it is run in.
    pub fn precision(&self) -> Precision {
        self.run.precision
    }

    /// Options for a session.
    pub fn options(&self, batch: usize, size: Option<[usize; 2]>) -> Result<SessionOptions, Failure> {
        Ok(SessionOptions { tuning: self.tuning.load()?, ..self.run.options(batch, size) })
    }
}

/// Which measured times choose the algorithms.
#[derive(Args)]
pub struct TuningArgs {
    /// Choose algorithms by the times that `stridewise tune` measured on this processor and wrote to a file
    #[arg(long, value_name = "FILE")]
    pub tuning: Option<PathBuf>,
}

impl TuningArgs {
    /// Reads the file, if one is named.
    pub fn load(&self) -> Result<Option<Arc<Tuning>>, Failure> {
        Ok(self.tuning.as_ref().map(Tuning::load).transpose()?.map(Arc::new))
    }
}

/// Reads a number that is not zero: images at once, runs, classes.
pub fn from_one() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

/// How many images a session takes at once: the first dimension of its first input.
pub fn images_of(session: &Session) -> usize {
    session.input_shape().dims().first().copied().unwrap_or(1)
}

/// As many threads as the process may use.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get()).min(stridewise::session::MAX_THREADS)
}

/// H×W of an image.
#[derive(Clone, Copy)]
pub struct Size(pub [usize; 2]);

impl std::str::FromStr for Size {
    type Err = String;

    /// `224` for a square, or `HxW`.
    fn from_str(text: &str) -> Result<Size, String> {
        let side = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n > 0);
        let sides = match text.split_once(['x', '×']) {
            Some((h, w)) => side(h).zip(side(w)),
            None => side(text).map(|n| (n, n)),
        };
        sides.map(|(h, w)| Size([h, w])).ok_or_else(|| "expected a size such as 224 or 256x192 (height x width)".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_square_or_two_numbers() {
        let size = |text: &str| text.parse::<Size>().ok().map(|s| s.0);
        assert_eq!(size("224"), Some([224, 224]));
        assert_eq!(size("256x192"), Some([256, 192]));
        for bad in ["", "0", "0x3", "3x", "-1", "axb", "99999999999999999999"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
