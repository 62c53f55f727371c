//! A network with its weights: immutable, shared by any number of sessions.

use crate::error::{Error, Result};
#[cfg(feature = "onnx")]
use crate::formats::onnx::Network;
use crate::formats::safetensors;
use crate::graph::{Graph, Input, bind_inputs, check_inputs};
use crate::models::Arch;
use crate::models::init::Initializer;
use crate::passes;
use crate::plan::{Arithmetic, PackedKey, Precision};
use crate::quantize::Quantization;
use crate::session::{Session, SessionOptions};
use crate::tensor::Shape;
use crate::vision::Preprocessing;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use stridewise_kernels::conv::PackedWeights;

/// A network and its weights, BatchNorm folded and epilogues fused. Cloning shares everything; sessions of one model share
/// its packed weights.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    arch: Option<Arch>,
    graph: Arc<Graph>,
    preprocessing: Preprocessing,
    packed: Arc<PackedCache>,
    quantization: Option<Arc<Quantization>>,
    #[cfg(feature = "onnx")]
    bound: Option<Arc<Bound>>,
}

/// What the graph was made from, and for which shapes.
#[cfg(feature = "onnx")]
struct Bound {
    network: Network,
    shapes: Vec<Shape>,
    max_memory: usize,
}

/// How an ONNX file is read.
#[cfg(feature = "onnx")]
#[derive(Clone, Debug)]
pub struct OnnxOptions {
    /// Shapes of inputs by name, for [`Model::graph`]: for a network that does not fit batch 1, images of 224×224 and other
    /// dimensions of 1.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Most bytes that constants which are computed from constants may take.
    pub max_memory: usize,
}

#[cfg(feature = "onnx")]
impl Default for OnnxOptions {
    fn default() -> Self {
        OnnxOptions { shapes: Vec::new(), max_memory: 8 << 30 }
    }
}

impl Model {
    /// Reads a safetensors file. Without an architecture it is the one that the file's metadata names, or else inferred from
    /// the tensors' names and shapes.
    ///
    /// # Errors
    /// When the file can't be read or is corrupt, holds a weight that is not finite, or does not fit the architecture: one
    /// error lists every missing, unexpected and misshaped tensor.
    pub fn from_safetensors(arch: impl Into<Option<Arch>>, path: impl AsRef<Path>) -> Result<Model> {
        Model::from_loaded(safetensors::load(arch.into(), path.as_ref())?)
    }

    /// Reads the bytes of a safetensors file that are in memory, for example embedded in the program.
    ///
    /// # Errors
    /// As [`Model::from_safetensors`]; errors name the file as `bytes in memory`.
    pub fn from_safetensors_bytes(arch: impl Into<Option<Arch>>, bytes: &[u8]) -> Result<Model> {
        Model::from_loaded(safetensors::load_bytes(arch.into(), bytes, Path::new("bytes in memory"))?)
    }

    /// Random weights, initialised as PyTorch does; the same for a seed on every machine.
    ///
    /// # Errors
    /// When the architecture's numbers are out of range, or there is no memory for its weights.
    pub fn random(arch: Arch, seed: u64) -> Result<Model> {
        let graph = arch.graph(arch.default_classes(), &mut Initializer::new(seed))?;
        Model::assemble(Some(arch), passes::optimise(graph)?, &HashMap::new())
    }

    /// The model that comes with the library: a ResNet-20 trained on CIFAR-10.
    ///
    /// # Errors
    /// When the embedded file does not load, which a test rules out.
    #[cfg(feature = "builtin-model")]
    pub fn builtin() -> Result<Model> {
        Model::from_loaded(safetensors::load_bytes(None, crate::models::builtin::BYTES, Path::new("the built-in model"))?)
    }

    /// Reads an ONNX file. Dimensions that are symbols are bound by the sessions; [`Model::graph`] shows the network with batch 1 and
    /// images of 224×224.
    ///
    /// # Errors
    /// When the file can't be read or is corrupt, or the network is malformed; one error lists every node that is not supported.
    #[cfg(feature = "onnx")]
    pub fn from_onnx(path: impl AsRef<Path>) -> Result<Model> {
        Model::from_onnx_with(path, &OnnxOptions::default())
    }

    /// As [`Model::from_onnx`], for a network that needs to know more of its inputs.
    ///
    /// # Errors
    /// As [`Model::from_onnx`], and when no input has a name that the options give a shape.
    #[cfg(feature = "onnx")]
    pub fn from_onnx_with(path: impl AsRef<Path>, options: &OnnxOptions) -> Result<Model> {
        Model::from_network(Network::load(path.as_ref())?, options)
    }

    /// Reads the bytes of an ONNX file that are in memory; tensors in other files are not to be had.
    ///
    /// # Errors
    /// As [`Model::from_onnx_with`]; errors name the file as `bytes in memory`.
    #[cfg(feature = "onnx")]
    pub fn from_onnx_bytes(bytes: &[u8], options: &OnnxOptions) -> Result<Model> {
        Model::from_network(Network::load_bytes(bytes, Path::new("bytes in memory"))?, options)
    }

    #[cfg(feature = "onnx")]
    fn from_network(network: Network, options: &OnnxOptions) -> Result<Model> {
        let shapes = bind_inputs(network.inputs(), 1, None, &options.shapes)?;
        let graph = passes::optimise(network.bind(&shapes, options.max_memory)?)?;
        // What is no picture has no preparation of its own.
        let size = network.inputs().first().map(|input| input.size);
        let own = size.and_then(|size| Preprocessing::for_model(size, &HashMap::new()).ok());
        let preprocessing = own.map_or_else(|| Preprocessing::for_model([224, 224], &HashMap::new()), Ok)?;
        let bound = Some(Arc::new(Bound { network, shapes, max_memory: options.max_memory }));
        let (packed, graph) = (Arc::default(), Arc::new(graph));
        Ok(Model(Arc::new(Inner { arch: None, graph, preprocessing, packed, quantization: None, bound })))
    }

    /// A graph of one's own, BatchNorm folded and epilogues fused.
    ///
    /// # Errors
    /// When the graph is malformed; the error names the node.
    pub fn from_graph(graph: Graph) -> Result<Model> {
        Model::assemble(None, passes::optimise(graph)?, &HashMap::new())
    }

    /// A graph that runs as it is, every node a step of its own: for comparing with the optimised one.
    ///
    /// # Errors
    /// When the graph is malformed; the error names the node.
    pub fn from_graph_as_is(graph: Graph) -> Result<Model> {
        passes::check(&graph)?;
        Model::assemble(None, graph, &HashMap::new())
    }

    fn from_loaded(loaded: safetensors::Loaded) -> Result<Model> {
        Model::assemble(Some(loaded.arch), passes::optimise(loaded.graph)?, &loaded.metadata)
    }

    fn assemble(arch: Option<Arch>, graph: Graph, metadata: &HashMap<String, String>) -> Result<Model> {
        let preprocessing = Preprocessing::for_model(graph.input().size, metadata)?;
        let quantization = Quantization::from_metadata(|key| metadata.get(key).map(String::as_str))?.map(Arc::new);
        Ok(Model(Arc::new(Inner {
            arch,
            graph: Arc::new(graph),
            preprocessing,
            packed: Arc::default(),
            quantization,
            #[cfg(feature = "onnx")]
            bound: None,
        })))
    }

    /// The same network, to be computed in bytes as this says. It shares all but that.
    pub fn with_quantization(&self, quantization: Quantization) -> Model {
        let inner = &self.0;
        Model(Arc::new(Inner {
            arch: inner.arch,
            graph: inner.graph.clone(),
            preprocessing: inner.preprocessing.clone(),
            packed: inner.packed.clone(),
            quantization: Some(Arc::new(quantization)),
            #[cfg(feature = "onnx")]
            bound: inner.bound.clone(),
        }))
    }

    /// How the network is computed in bytes, if that is known.
    pub fn quantization(&self) -> Option<&Quantization> {
        self.0.quantization.as_deref()
    }

    /// What a plan of a precision computes with.
    pub(crate) fn arithmetic(&self, precision: Precision) -> Result<Arithmetic> {
        match precision {
            Precision::F32 => Ok(Arithmetic::F32),
            Precision::Bf16 => Ok(Arithmetic::Bf16),
            Precision::Int8 => match &self.0.quantization {
                Some(quantization) => Ok(Arithmetic::Int8(quantization.clone())),
                None => Err(Error::InvalidArgument {
                    argument: "precision int8".into(),
                    reason: format!("the scales of {} are not known: `stridewise quantize` finds them", self.0.graph.name),
                }),
            },
        }
    }

    /// The architecture, if it is one that this crate knows.
    pub fn arch(&self) -> Option<Arch> {
        self.0.arch
    }

    /// The network as it runs: folded and fused.
    pub fn graph(&self) -> &Graph {
        &self.0.graph
    }

    /// How a picture becomes this network's input.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.0.preprocessing
    }

    /// The names of the classes, where the number of outputs tells them: 1,000 of ImageNet or 10 of CIFAR-10.
    pub fn labels(&self) -> Option<&'static [&'static str]> {
        let graph = &self.0.graph;
        let shapes = graph.infer_shapes_for(&graph.input_shapes(1, None, &[]).ok()?).ok()?;
        let output = graph.outputs().first()?;
        crate::vision::labels::labels(*shapes.get(output.0)?.dims().last()?)
    }

    /// Plans, packs and allocates: everything that a run needs.
    ///
    /// # Errors
    /// When an option means nothing here, the input size does not fit the network, or memory is over the limit.
    pub fn session(&self, options: &SessionOptions) -> Result<Session> {
        Session::new(self.clone(), options)
    }

    /// What the inputs may be, with the names of dimensions that the sessions bind.
    pub fn inputs(&self) -> &[Input] {
        #[cfg(feature = "onnx")]
        if let Some(bound) = &self.0.bound {
            return bound.network.inputs();
        }
        self.0.graph.inputs()
    }

    /// What the outputs are called.
    pub fn output_names(&self) -> &[String] {
        self.0.graph.output_names()
    }

    /// The file that the model was read from, if it is one of ONNX.
    #[cfg(feature = "onnx")]
    pub fn onnx(&self) -> Option<&Network> {
        self.0.bound.as_ref().map(|bound| &bound.network)
    }

    /// The shapes of all inputs: see [`Graph::input_shapes`].
    pub(crate) fn input_shapes(&self, batch: usize, size: Option<[usize; 2]>, given: &[(String, Vec<usize>)]) -> Result<Vec<Shape>> {
        bind_inputs(self.inputs(), batch, size, given)
    }

    /// The graph to run for these shapes of the inputs.
    pub(crate) fn graph_for(&self, shapes: &[Shape]) -> Result<Arc<Graph>> {
        check_inputs(self.inputs(), &self.0.graph.name, shapes)?;
        #[cfg(feature = "onnx")]
        if let Some(bound) = &self.0.bound
            && bound.shapes != shapes
        {
            let graph = bound.network.bind(shapes, bound.max_memory)?;
            return Ok(Arc::new(passes::optimise(graph)?));
        }
        Ok(self.0.graph.clone())
    }

    pub(crate) fn packed(&self) -> &PackedCache {
        &self.0.packed
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({}, {} nodes)", self.0.graph.name, self.0.graph.nodes().len())
    }
}

/// Packed weights by what they were packed from and for.
#[derive(Default)]
pub(crate) struct PackedCache(Mutex<HashMap<PackedKey, Arc<PackedWeights>>>);

impl PackedCache {
    pub fn get_or_insert(&self, key: PackedKey, pack: impl FnOnce() -> Result<PackedWeights>) -> Result<Arc<PackedWeights>> {
        let map = || self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(found) = map().get(&key) {
            return Ok(found.clone());
        }
        // Unlocked: a thread of the caller's pool that waits for others while it packs may meanwhile make another session.
        let packed = Arc::new(pack()?);
        Ok(map().entry(key).or_insert(packed).clone())
    }
}
