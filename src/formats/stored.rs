//! A tensor in a file that stays open: read when a plan packs it.

use super::safetensors::{decode, first_not_finite, from_little_endian};
use crate::error::{Error, Result};
use crate::graph::StoredWeight;
use crate::tensor::Shape;
use safetensors::Dtype;
use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// A file whose tensors may be read later. It is refused once it has changed.
pub(super) struct StoredFile {
    path: PathBuf,
    file: Mutex<File>,
    /// Length and time of the last change when it was opened.
    stamp: (u64, Option<SystemTime>),
}

impl StoredFile {
    pub fn new(path: &Path, file: File) -> Result<StoredFile> {
        let metadata = file.metadata().map_err(|source| Error::Io { path: path.into(), source })?;
        Ok(StoredFile { path: path.into(), file: Mutex::new(file), stamp: stamp(&metadata) })
    }
}

fn stamp(metadata: &Metadata) -> (u64, Option<SystemTime>) {
    (metadata.len(), metadata.modified().ok())
}

/// Where a tensor lies in its file.
pub(super) struct StoredTensor {
    pub file: Arc<StoredFile>,
    pub name: String,
    pub shape: Shape,
    pub dtype: Dtype,
    pub offset: u64,
}

/// Bytes of half-precision elements that are read at a time.
const PIECE: usize = 1 << 13;

impl StoredTensor {
    fn read_exact(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let io = |source| Error::Io { path: self.file.path.clone(), source };
        let mut file = self.file.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        file.read_exact(bytes).map_err(io)?;
        if stamp(&file.metadata().map_err(io)?) == self.file.stamp {
            return Ok(());
        }
        let reason = "the file has changed since the network was loaded from it; load it again".into();
        Err(Error::Format { path: self.file.path.clone(), reason })
    }
}

impl StoredWeight for StoredTensor {
    fn read(&self, start: usize, values: &mut [f32]) -> Result<()> {
        if start.checked_add(values.len()).is_none_or(|end| end > self.shape.elements()) {
            let reason = format!("tensor `{}` has fewer elements than {} from the {start}-th on", self.name, values.len());
            return Err(Error::Format { path: self.file.path.clone(), reason });
        }
        let size = if self.dtype == Dtype::F32 { 4 } else { 2 };
        let mut offset = self.offset + (start * size) as u64;
        if self.dtype == Dtype::F32 {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
            self.read_exact(offset, bytes)?;
            from_little_endian(values);
        } else {
            let mut bytes = [0; PIECE];
            for values in values.chunks_mut(PIECE / size) {
                let bytes = &mut bytes[..values.len() * size];
                self.read_exact(offset, bytes)?;
                decode(self.dtype, bytes, values);
                offset += bytes.len() as u64;
            }
        }
        match first_not_finite(values) {
            None => Ok(()),
            Some((index, value)) => {
                let (path, tensor) = (self.file.path.clone(), self.name.clone());
                Err(Error::NonFinite { path, tensor, index: start + index, value })
            }
        }
    }
}
