//! Networks of any format, from files and from memory.

use crate::error::{Error, Result};
use crate::formats::{self, Format};
use crate::model::Model;
use crate::models::Arch;
use std::path::Path;

/// How [`Model::load_with`] and [`Model::load_bytes`] read a network.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The architecture of a safetensors file; `None` for the one that the file names, or that its tensors tell. A packed network must be
    /// of this one. An ONNX file has none.
    pub arch: Option<Arch>,
    /// Shapes of inputs by name, of an ONNX file that does not fit batch 1, images of 224×224 and other dimensions of 1. Sessions may be
    /// made for other ones.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Most bytes that constants of an ONNX file may take which are computed from constants, or of which a run needs a copy in f32.
    pub max_memory: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions { arch: None, shapes: Vec::new(), max_memory: 8 << 30 }
    }
}

impl LoadOptions {
    /// Refuses shapes where the file is `what`.
    fn without_shapes(&self, path: &Path, what: &str) -> Result<()> {
        if self.shapes.is_empty() {
            return Ok(());
        }
        let reason = format!("{} is {what}, and only an ONNX file is read for shapes: a session is made for them", path.display());
        Err(Error::InvalidArgument { argument: "shapes".into(), reason })
    }

    /// Refuses an architecture, which an ONNX file has none of.
    #[cfg(feature = "onnx")]
    fn onnx(&self, path: &Path) -> Result<crate::OnnxOptions> {
        match self.arch {
            None => Ok(crate::OnnxOptions { shapes: self.shapes.clone(), max_memory: self.max_memory }),
            Some(arch) => {
                let reason = format!("{} is an ONNX file, which says itself what it is", path.display());
                Err(Error::Arch { found: arch.to_string(), reason })
            }
        }
    }
}

impl Model {
    /// Reads a file of any format that this build knows: it is told by its first bytes, and ONNX by its name. Without an architecture it
    /// is the one that the file names, or that its tensors tell.
    ///
    /// # Errors
    /// As the function of its format, when this build has no such function, and when `arch` is not the architecture of the file.
    pub fn load(arch: impl Into<Option<Arch>>, path: impl AsRef<Path>) -> Result<Model> {
        Model::load_with(path, &LoadOptions { arch: arch.into(), ..LoadOptions::default() })
    }

    /// As [`Model::load`], for a network that needs to know more.
    ///
    /// # Errors
    /// As [`Model::load`], and when the options give shapes to another file than one of ONNX, or to an input that it has not.
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Model> {
        let path = path.as_ref();
        match formats::of(path)? {
            Format::Safetensors => {
                options.without_shapes(path, "a safetensors file")?;
                Model::from_safetensors(options.arch, path)
            }
            #[cfg(feature = "packed")]
            Format::Packed => {
                options.without_shapes(path, "a packed network")?;
                let model = Model::from_packed(path, formats::packed::Checksums::All)?;
                model.must_be(options.arch, path)?;
                Ok(model)
            }
            #[cfg(feature = "onnx")]
            Format::Onnx => Model::from_onnx_with(path, &options.onnx(path)?),
            #[allow(unreachable_patterns)]
            other => Err(other.unknown(path)),
        }
    }

    /// Reads the bytes of a safetensors or an ONNX file that are in memory; which of them, the bytes tell. What the model needs of them it
    /// copies. Tensors of an ONNX network that lie in other files are not to be had, and a packed network is only ever mapped from its file.
    ///
    /// # Errors
    /// As [`Model::load_with`], and of a packed network; errors name the file as `bytes in memory`.
    pub fn load_bytes(bytes: &[u8], options: &LoadOptions) -> Result<Model> {
        let path = Path::new("bytes in memory");
        match formats::of_bytes(bytes) {
            Format::Safetensors => {
                options.without_shapes(path, "a safetensors file")?;
                Model::from_safetensors_bytes(options.arch, bytes)
            }
            Format::Packed => {
                let reason = "a packed network, which is mapped from its file and not read from memory".into();
                Err(Error::Format { path: path.into(), reason })
            }
            #[cfg(feature = "onnx")]
            Format::Onnx => Model::from_onnx_bytes(bytes, &options.onnx(path)?),
            #[cfg(not(feature = "onnx"))]
            Format::Onnx => Err(Format::Onnx.unknown(path)),
        }
    }

    /// Refuses another architecture than this model's, if one is named.
    #[cfg(feature = "packed")]
    fn must_be(&self, arch: Option<Arch>, path: &Path) -> Result<()> {
        let Some(arch) = arch else { return Ok(()) };
        // A packed network names its architecture where that has a name, and else its graph is called by its numbers.
        let name = &self.graph().name;
        let same = self.arch().map_or_else(|| arch.name().is_none() && *name == arch.to_string(), |own| own == arch);
        if same {
            return Ok(());
        }
        let own = self.arch().map_or_else(|| name.clone(), |own| own.to_string());
        Err(Error::Arch { found: arch.to_string(), reason: format!("{} is a packed network of {own}", path.display()) })
    }
}

#[cfg(all(test, feature = "onnx"))]
mod tests {
    use super::*;
    use crate::SessionOptions;
    use std::path::PathBuf;

    fn file(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    fn for_shape(name: &str, dims: &[usize]) -> LoadOptions {
        LoadOptions { shapes: vec![(name.into(), dims.to_vec())], ..LoadOptions::default() }
    }

    #[test]
    fn a_network_that_fits_one_size_is_loaded_for_it() {
        let path = file("tests/golden/onnx/flattened.onnx");
        let bytes = std::fs::read(&path).unwrap();
        let fits = for_shape("image", &[1, 3, 4, 4]);
        for model in [Model::load_with(&path, &fits).unwrap(), Model::load_bytes(&bytes, &fits).unwrap()] {
            let options = SessionOptions { batch: 2, size: Some([4, 4]), ..SessionOptions::default() };
            assert_eq!(model.session(&options).unwrap().output_shape().dims(), [2, 2]);
        }
        for result in [Model::load(None, &path), Model::load_bytes(&bytes, &LoadOptions::default())] {
            assert!(matches!(result, Err(Error::Graph { node, .. }) if node == "fc"));
        }
        let unknown = Model::load_with(&path, &for_shape("picture", &[1, 3, 4, 4])).unwrap_err().to_string();
        assert!(unknown.contains("`picture`") && unknown.contains("image"), "{unknown}");
    }

    #[test]
    fn what_is_asked_for_and_not_to_be_had_is_an_error() {
        let (onnx, weights) = (file("tests/golden/onnx/flattened.onnx"), file("assets/resnet20_cifar10.safetensors"));
        let arch = Model::load(Arch::ResNet18, &onnx).unwrap_err();
        assert!(matches!(arch, Error::Arch { .. }) && arch.to_string().contains("resnet18"), "{arch}");
        assert!(arch.to_string().contains("flattened.onnx is an ONNX file"), "{arch}");
        let bytes = std::fs::read(&weights).unwrap();
        let options = for_shape("input", &[1, 3, 32, 32]);
        for error in [Model::load_with(&weights, &options).unwrap_err(), Model::load_bytes(&bytes, &options).unwrap_err()] {
            assert!(matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains("is a safetensors file"), "{error}");
        }
        assert!(Model::load_bytes(&bytes, &LoadOptions { arch: Some(Arch::ResNet20Cifar), ..LoadOptions::default() }).is_ok());
        let packed = Model::load_bytes(b"SWPACKED and more", &LoadOptions::default()).unwrap_err().to_string();
        assert!(packed.contains("bytes in memory: a packed network"), "{packed}");
    }

    #[test]
    fn bytes_that_end_anywhere_are_refused() {
        for name in ["assets/resnet20_cifar10.safetensors", "tests/golden/onnx/two_inputs.onnx"] {
            let bytes = std::fs::read(file(name)).unwrap();
            for end in (0..bytes.len().min(64)).chain([bytes.len() - 1]) {
                let error = Model::load_bytes(&bytes[..end], &LoadOptions::default()).unwrap_err().to_string();
                assert!(error.contains("bytes in memory"), "{name} {end}: {error}");
            }
        }
    }
}
