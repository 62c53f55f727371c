//! A network with its weights: immutable, shared by any number of sessions.

use crate::error::Result;
use crate::formats::safetensors;
use crate::graph::Graph;
use crate::models::Arch;
use crate::models::init::Initializer;
use crate::passes;
use crate::plan::PackedKey;
use crate::session::{Session, SessionOptions};
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
    graph: Graph,
    preprocessing: Preprocessing,
    packed: PackedCache,
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
        graph.infer_shapes(1, graph.input().size)?;
        Model::assemble(None, graph, &HashMap::new())
    }

    fn from_loaded(loaded: safetensors::Loaded) -> Result<Model> {
        Model::assemble(Some(loaded.arch), passes::optimise(loaded.graph)?, &loaded.metadata)
    }

    fn assemble(arch: Option<Arch>, graph: Graph, metadata: &HashMap<String, String>) -> Result<Model> {
        let preprocessing = Preprocessing::for_model(graph.input().size, metadata)?;
        Ok(Model(Arc::new(Inner { arch, graph, preprocessing, packed: PackedCache::default() })))
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
        let shapes = graph.infer_shapes(1, graph.input().size).ok()?;
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
