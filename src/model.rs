//! A network with its weights: immutable, shared by any number of sessions.

use crate::error::{Error, Result};
#[cfg(feature = "onnx")]
use crate::formats::onnx::Network;
#[cfg(feature = "packed")]
use crate::formats::packed::{self, Checksums, PackedFile, Packing};
use crate::formats::safetensors;
use crate::graph::{Graph, Input, PackRequest, ScaledWeight, bind_inputs, check_inputs};
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
use std::sync::{Arc, Mutex, MutexGuard};
#[cfg(feature = "packed")]
use stridewise_kernels::Element;
use stridewise_kernels::KernelTable;
use stridewise_kernels::conv::PackedWeights;

/// A network and its weights, BatchNorm folded and epilogues fused. Cloning shares everything; sessions of one model share
/// its packed weights, which it keeps when they end: see [`Model::release_unused`].
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
    /// The only shapes that the graph is for.
    #[cfg(feature = "packed")]
    fixed: Option<Vec<Shape>>,
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
    /// Most bytes that constants may take which are computed from constants, or of which a run needs a copy in f32.
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
        let size = shapes.first().and_then(|shape| match *shape.dims() {
            [_, _, h, w] => Some([h, w]),
            _ => None,
        });
        let own = size.and_then(|size| Preprocessing::for_model(size, &HashMap::new()).ok());
        let preprocessing = own.map_or_else(|| Preprocessing::for_model([224, 224], &HashMap::new()), Ok)?;
        let bound = Some(Arc::new(Bound { network, shapes, max_memory: options.max_memory }));
        Ok(Model(Arc::new(Inner {
            arch: None,
            graph: Arc::new(graph),
            preprocessing,
            packed: Arc::default(),
            quantization: None,
            bound,
            #[cfg(feature = "packed")]
            fixed: None,
        })))
    }

    /// Maps a packed network, which [`Model::save_packed`] wrote: nothing is packed, and no weight is copied. Processes that map one
    /// file share its memory.
    ///
    /// The file must not change while the model or a session of it is there: if another program truncates it, the process ends, as with
    /// every memory map. Replacing it by another file of its name does no harm.
    ///
    /// # Errors
    /// When the file can't be read, is no packed network, was written in another version of the format or of the kernels' packing, or is
    /// damaged. Weights are looked at when a session needs them, and that session is refused when the file has not packed them for it.
    #[cfg(feature = "packed")]
    pub fn from_packed(path: impl AsRef<Path>, checksums: Checksums) -> Result<Model> {
        let loaded = packed::read(path.as_ref(), checksums)?;
        Ok(Model(Arc::new(Inner {
            arch: loaded.arch,
            graph: Arc::new(loaded.graph),
            preprocessing: loaded.preprocessing,
            packed: Arc::new(PackedCache { map: Mutex::default(), file: Some(loaded.file) }),
            quantization: None,
            #[cfg(feature = "onnx")]
            bound: None,
            fixed: loaded.shapes,
        })))
    }

    /// Writes the network with the weights that its sessions have packed so far, for [`Model::from_packed`]. What a session of the file
    /// may be made for is what a session of this model was made for: the width of the instruction set's register tile, the precision, and the shapes and
    /// numerics as far as the choice of algorithms depends on them. A network from ONNX is written for the shapes that it was loaded with.
    ///
    /// # Errors
    /// When no session of the model has been made, or one in bytes, whose scales a packed network has no place for, or the file can't be
    /// written; what stood there before still does.
    #[cfg(feature = "packed")]
    pub fn save_packed(&self, path: impl AsRef<Path>) -> Result<()> {
        const HOLD: &str = "packed networks hold weights of f32 and bf16 only";
        let model = &self.0;
        if !model.graph.quantization.is_empty() {
            let reason = format!("its file quantises it; {HOLD}");
            return Err(Error::InvalidArgument { argument: format!("model {}", model.graph.name), reason });
        }
        let entries = model.packed.entries();
        if entries.is_empty() {
            let reason = "no session has packed weights of it: none was made, or no layer has weights to pack".into();
            return Err(Error::InvalidArgument { argument: format!("model {}", model.graph.name), reason });
        }
        if let Some((packing, _)) = entries.iter().find(|(packing, _)| packing.layout.element() == Element::U8) {
            let reason = format!("a session in int8 has packed `{}`; {HOLD}", packing.node);
            return Err(Error::InvalidArgument { argument: format!("model {}", model.graph.name), reason });
        }
        let shapes = model.fixed.as_deref();
        #[cfg(feature = "onnx")]
        let shapes = model.bound.as_ref().map(|bound| &bound.shapes[..]).or(shapes);
        packed::write(path.as_ref(), model.arch, &model.preprocessing, &model.graph, shapes, &entries)
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
            #[cfg(feature = "packed")]
            fixed: None,
        })))
    }

    /// The same network, to be computed in bytes as this says, unless its own file has said it already. It shares all but that: the
    /// packed weights of every quantization, with [`Model::release_unused`] for those that are done with.
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
            #[cfg(feature = "packed")]
            fixed: inner.fixed.clone(),
        }))
    }

    /// How the network is computed in bytes, if that is known.
    pub fn quantization(&self) -> Option<&Quantization> {
        let own = &self.0.graph.quantization;
        if own.is_empty() { self.0.quantization.as_deref() } else { Some(own) }
    }

    /// Whether the network's own file says how it is computed in bytes: it then is in every session.
    pub fn is_quantized(&self) -> bool {
        !self.0.graph.quantization.is_empty()
    }

    /// What a plan of a precision computes a graph of this model with, where these kernels can.
    pub(crate) fn arithmetic(&self, precision: Precision, graph: &Graph, table: &KernelTable) -> Result<Arithmetic> {
        if !graph.quantization.is_empty() {
            return match precision {
                Precision::F32 | Precision::Int8 => {
                    table.int8()?;
                    Ok(Arithmetic::Int8(Arc::new(graph.quantization.clone())))
                }
                Precision::Bf16 => Err(Error::InvalidArgument {
                    argument: "precision bf16".into(),
                    reason: format!("the file of {} quantises it to bytes", graph.name),
                }),
            };
        }
        match precision {
            Precision::F32 => Ok(Arithmetic::F32),
            Precision::Bf16 => table.bf16().map(|_| Arithmetic::Bf16).map_err(Error::from),
            Precision::Int8 => match (table.int8()?, &self.0.quantization) {
                (_, Some(quantization)) => {
                    self.require_weights("bytes")?;
                    Ok(Arithmetic::Int8(quantization.clone()))
                }
                (_, None) => Err(Error::InvalidArgument {
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

    /// Frees packed weights that no session uses any more, and returns how many bytes they took. A model, and all that share with it by
    /// [`Clone`] or [`Model::with_quantization`], keeps what any of its sessions has packed, so that the next one like it starts at once;
    /// sessions of other shapes, precisions, scales or instruction sets add to that. A session made afterwards packs again what it needs,
    /// and [`Model::save_packed`] writes what is left.
    pub fn release_unused(&self) -> usize {
        self.0.packed.release_unused()
    }

    /// The packed network that the model is mapped from, if it is one.
    #[cfg(feature = "packed")]
    pub fn packed_file(&self) -> Option<&Path> {
        self.0.packed.file.as_ref().map(PackedFile::path)
    }

    /// Fails where the weights are there only as they were packed, which is of no use for what they are needed for.
    pub(crate) fn require_weights(&self, purpose: &str) -> Result<()> {
        #[cfg(feature = "packed")]
        if let Some(path) = self.packed_file() {
            let reason = format!("a packed network has no weights to pack for {purpose}: use the file that it was packed from");
            return Err(Error::Format { path: path.into(), reason });
        }
        #[cfg(not(feature = "packed"))]
        let _ = purpose;
        Ok(())
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
        #[cfg(feature = "packed")]
        if let Some(fixed) = &self.0.fixed
            && fixed != shapes
        {
            let what = format!("the inputs of {}, which was packed for these shapes alone", self.0.graph.name);
            return Err(Error::Shape { what, expected: format!("{fixed:?}"), found: format!("{shapes:?}") });
        }
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
pub(crate) struct PackedCache {
    map: Mutex<HashMap<PackedKey, Arc<PackedWeights>>>,
    /// Where weights come from that are packed already: nothing else is there to pack.
    #[cfg(feature = "packed")]
    file: Option<PackedFile>,
}

impl PackedCache {
    fn map(&self) -> MutexGuard<'_, HashMap<PackedKey, Arc<PackedWeights>>> {
        self.map.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Weights that are there, or that `request` packs.
    pub fn get_or_pack(&self, key: PackedKey, request: &PackRequest<'_>, weight: &ScaledWeight<'_>) -> Result<Arc<PackedWeights>> {
        self.get_or_insert(key, |key| self.pack(key, request, weight))
    }

    /// Weights that are there, or that `pack` packs.
    pub fn get_or_insert(&self, key: PackedKey, pack: impl FnOnce(&PackedKey) -> Result<PackedWeights>) -> Result<Arc<PackedWeights>> {
        if let Some(found) = self.map().get(&key) {
            return Ok(found.clone());
        }
        // Unlocked: a thread of the caller's pool that waits for others while it packs may meanwhile make another session.
        let packed = Arc::new(pack(&key)?);
        Ok(self.map().entry(key).or_insert(packed).clone())
    }

    fn release_unused(&self) -> usize {
        let mut bytes = 0;
        self.map().retain(|_, weights| {
            let used = Arc::strong_count(weights) > 1;
            bytes += if used { 0 } else { size_of_val(weights.data()) };
            used
        });
        bytes
    }

    fn pack(&self, key: &PackedKey, request: &PackRequest<'_>, weight: &ScaledWeight<'_>) -> Result<PackedWeights> {
        let &PackRequest { table, problem, algorithm, layout, bias, executor } = request;
        #[cfg(feature = "packed")]
        if let Some(file) = &self.file {
            return file.weights(&key.packing(), request);
        }
        #[cfg(not(feature = "packed"))]
        let _ = key;
        PackedWeights::pack_from(table, problem, algorithm, layout, weight, bias, executor)
    }

    /// All that is packed, in an order that depends on nothing but that.
    #[cfg(feature = "packed")]
    fn entries(&self) -> Vec<(Packing, Arc<PackedWeights>)> {
        let mut entries: Vec<_> = self.map().iter().map(|(key, weights)| (key.packing(), weights.clone())).collect();
        entries.sort_by_cached_key(|(packing, _)| (packing.node.clone(), format!("{packing:?}")));
        entries.dedup_by(|a, b| a.0 == b.0);
        entries
    }
}
