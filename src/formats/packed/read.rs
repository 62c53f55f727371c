//! Opening packed networks. Whatever a file says is checked before it is believed.

use super::{ALIGNMENT, Checksums, FORMAT_VERSION, Header, MAGIC, PACKING_VERSION, PREFIX, Packing, checksum};
use crate::error::{Error, Result};
use crate::formats::mapped;
use crate::graph::{Graph, PackRequest};
use crate::models::Arch;
use crate::tensor::Shape;
use crate::vision::Preprocessing;
use memmap2::Mmap;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stridewise_kernels::conv::PackedWeights;
use stridewise_kernels::{ConvProblem, KernelTable, SharedSlice};

/// What a file holds.
pub(crate) struct Loaded {
    pub arch: Option<Arch>,
    pub preprocessing: Preprocessing,
    pub graph: Graph,
    /// The only shapes of the inputs that the graph is for.
    pub shapes: Option<Vec<Shape>>,
    pub file: PackedFile,
}

/// A mapped file with packed weights.
pub(crate) struct PackedFile {
    path: PathBuf,
    map: Arc<Mmap>,
    entries: HashMap<Packing, Place>,
    checksums: Checksums,
}

struct Place {
    bytes: Range<usize>,
    checksum: u64,
}

/// Maps a packed network. The file must not change while the model or a session of it is there: if another program truncates it, the
/// process ends, as with every memory map. Replacing it by another file of its name does no harm.
///
/// # Errors
/// When the file can't be read, is not a packed network, was written in another version, or is damaged.
pub(crate) fn read(path: &Path, checksums: Checksums) -> Result<Loaded> {
    let map = mapped::map(path)?;
    let refuse = |reason: String| Error::Format { path: path.into(), reason };
    if cfg!(target_endian = "big") {
        return Err(refuse("packed networks are little-endian, and this machine is not".into()));
    }
    let header = checked_header(&map).map_err(refuse)?;
    let header_end = PREFIX + header.len();
    let (header, rest): (Header<Graph>, _) =
        postcard::take_from_bytes(header).map_err(|e| refuse(format!("its header does not make sense: {e}")))?;
    if !rest.is_empty() {
        return Err(refuse(format!("its header has {} bytes too many", rest.len())));
    }
    let unfit = |e: Error| refuse(format!("its graph does not make sense: {e}"));
    let graph = header.graph.checked().map_err(unfit)?;
    let shapes = header.shapes.clone().map_or_else(|| graph.input_shapes(1, None, &[]), Ok).map_err(unfit)?;
    graph.check_inputs(&shapes).map_err(unfit)?;
    graph.infer_shapes_for(&shapes).map_err(unfit)?;
    let arch = header.arch.as_deref().map(str::parse::<Arch>).transpose().map_err(|e| refuse(e.to_string()))?;
    let p = header.preprocessing;
    let preprocessing = Preprocessing::new(p.resize, p.crop, p.mean, p.std).map_err(|e| refuse(e.to_string()))?;
    let mut entries = HashMap::new();
    for entry in header.packed {
        let start = usize::try_from(entry.offset).ok();
        let end = usize::try_from(entry.len)
            .ok()
            .and_then(|len| len.checked_mul(size_of::<f32>()))
            .zip(start)
            .and_then(|(n, s)| s.checked_add(n));
        let bytes = start.zip(end).filter(|&(start, end)| start >= header_end && start.is_multiple_of(ALIGNMENT) && end <= map.len());
        let Some((start, end)) = bytes else {
            let reason = format!(
                "the packed weights of `{}` are said to be {} elements at byte {}; the file has {} bytes",
                entry.packing.node,
                entry.len,
                entry.offset,
                map.len()
            );
            return Err(refuse(reason));
        };
        entries.insert(entry.packing, Place { bytes: start..end, checksum: entry.checksum });
    }
    let file = PackedFile { path: path.into(), map: Arc::new(map), entries, checksums };
    Ok(Loaded { arch, preprocessing, graph, shapes: header.shapes, file })
}

/// The header's bytes, once everything before them and their checksum is as it should be.
fn checked_header(bytes: &[u8]) -> std::result::Result<&[u8], String> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let long = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    if !bytes.starts_with(MAGIC) {
        return Err("not a packed network: it does not begin with `SWPACKED`".into());
    }
    let (Some(format), Some(packing), Some(len), Some(checksum)) = (word(8), word(12), long(16), long(24)) else {
        return Err(format!("truncated: {} bytes", bytes.len()));
    };
    for (what, found, expected) in [("the format", format, FORMAT_VERSION), ("packed weights", packing, PACKING_VERSION)] {
        if found != expected {
            return Err(format!("version {found} of {what}, where this program reads {expected}: pack the network again"));
        }
    }
    let header = usize::try_from(len).ok().and_then(|len| bytes.get(PREFIX..)?.get(..len));
    let header = header.ok_or_else(|| format!("truncated: its header has {len} bytes, and the file {}", bytes.len()))?;
    match checksum::of_bytes(header) {
        found if found == checksum => Ok(header),
        found => Err(format!("damaged: its header's checksum is {found:016x}, and should be {checksum:016x}")),
    }
}

impl PackedFile {
    /// What was mapped.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The weights of a node, packed as asked for.
    ///
    /// # Errors
    /// When the file does not have them so, or they are damaged.
    pub fn weights(&self, packing: &Packing, request: &PackRequest<'_>) -> Result<PackedWeights> {
        let &PackRequest { table, problem, algorithm, layout, bias, executor } = request;
        let refuse = |reason: String| Error::Format { path: self.path.clone(), reason };
        let Some(place) = self.entries.get(packing) else { return Err(refuse(self.missing(packing, problem, table))) };
        let bytes = self.map.get(place.bytes.clone()).unwrap_or_default();
        let values: &[f32] = bytemuck::try_cast_slice(bytes).map_err(|e| refuse(format!("the weights of `{}`: {e}", packing.node)))?;
        self.touch(&place.bytes);
        if self.checksums == Checksums::All {
            let found = checksum::of_weight(values, packing.holds_pairs(), executor)?;
            if found.checksum != place.checksum {
                let (found, expected) = (found.checksum, place.checksum);
                let reason =
                    format!("damaged: the checksum of the weights of `{}` is {found:016x}, and should be {expected:016x}", packing.node);
                return Err(refuse(reason));
            }
            if !found.finite {
                return Err(refuse(format!("the weights of `{}` are not all finite", packing.node)));
            }
        }
        // SAFETY: the values lie in the map, which stays where it is until its last owner is dropped, and is only read; that nobody
        // writes to the file meanwhile is asked of the caller of `read`.
        #[allow(unsafe_code)]
        let data = unsafe { SharedSlice::new(values, self.map.clone()) };
        PackedWeights::from_packed(table, problem, algorithm, layout, data, bias)
            .map_err(|e| refuse(format!("the weights of `{}`: {e}", packing.node)))
    }

    /// Has the system bring the pages in, all at once and not one by one when they are read.
    fn touch(&self, bytes: &Range<usize>) {
        // A system that does not know the advice brings them in when they are read.
        #[cfg(target_os = "linux")]
        let _ = self.map.advise_range(memmap2::Advice::PopulateRead, bytes.start, bytes.len());
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
    }

    fn missing(&self, packing: &Packing, problem: &ConvProblem, table: &KernelTable) -> String {
        let mut there: Vec<String> = self.entries.keys().filter(|p| p.node == packing.node).map(Packing::describe).collect();
        there.sort();
        there.dedup();
        format!(
            "the weights of `{}` are needed {} ({}, {problem}) and are there {}: pack the network again with the instruction set, batch, \
             image size, numerics and precision that this session has",
            packing.node,
            packing.describe(),
            table.isa(),
            if there.is_empty() { "not at all".into() } else { there.join(" and ") },
        )
    }
}
