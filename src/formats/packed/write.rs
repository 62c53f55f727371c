//! Writing packed networks.

use super::{ALIGNMENT, Entry, FORMAT_VERSION, Header, MAGIC, PACKING_VERSION, PREFIX, Packing, Preprocessing, checksum};
use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::models::Arch;
use crate::tensor::Shape;
use crate::vision;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use stridewise_kernels::Inline;
use stridewise_kernels::conv::PackedWeights;

/// Writes a network with its packed weights, in the order given.
///
/// # Errors
/// When the file can't be written; what stood there before still does.
pub(crate) fn write(
    path: &Path,
    arch: Option<Arch>,
    preprocessing: &vision::Preprocessing,
    graph: &Graph,
    shapes: Option<&[Shape]>,
    packed: &[(Packing, Arc<PackedWeights>)],
) -> Result<()> {
    let refuse = |reason: String| Error::Format { path: path.into(), reason };
    if cfg!(target_endian = "big") {
        return Err(refuse("packed networks are little-endian, and this machine is not".into()));
    }
    let mut entries = Vec::with_capacity(packed.len());
    for (packing, weights) in packed {
        let checksum = checksum::of_weight(weights.data(), packing.holds_pairs(), &Inline)?.checksum;
        entries.push(Entry { packing: packing.clone(), offset: u64::MAX, len: weights.data().len() as u64, checksum });
    }
    let p = preprocessing;
    let mut header = Header {
        writer: format!("stridewise {}", env!("CARGO_PKG_VERSION")),
        arch: arch.and_then(|arch| arch.name()).map(String::from),
        preprocessing: Preprocessing { resize: p.resize(), crop: p.crop(), mean: p.mean(), std: p.std() },
        graph,
        shapes: shapes.map(<[Shape]>::to_vec),
        packed: entries,
    };
    // Offsets are written as varints: none takes more bytes than the largest one, with which the header's length is bounded.
    let encode = |header: &Header<&Graph>| postcard::to_allocvec(header).map_err(|e| refuse(format!("its header can't be written: {e}")));
    let start = (PREFIX + encode(&header)?.len()).next_multiple_of(ALIGNMENT);
    let mut end = start;
    for entry in &mut header.packed {
        entry.offset = end as u64;
        end = (end + entry.len as usize * size_of::<f32>()).next_multiple_of(ALIGNMENT);
    }
    let encoded = encode(&header)?;
    let mut prefix = Vec::with_capacity(PREFIX);
    prefix.extend(MAGIC);
    prefix.extend(FORMAT_VERSION.to_le_bytes());
    prefix.extend(PACKING_VERSION.to_le_bytes());
    prefix.extend((encoded.len() as u64).to_le_bytes());
    prefix.extend(checksum::of_bytes(&encoded).to_le_bytes());
    write_atomically(path, |file| {
        file.write_all(&prefix)?;
        file.write_all(&encoded)?;
        let mut written = (PREFIX + encoded.len()) as u64;
        for (entry, (_, weights)) in header.packed.iter().zip(packed) {
            std::io::copy(&mut std::io::repeat(0).take(entry.offset - written), file)?;
            file.write_all(bytemuck::cast_slice(weights.data()))?;
            written = entry.offset + size_of_val(weights.data()) as u64;
        }
        Ok(())
    })
}
