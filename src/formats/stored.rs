//! A tensor in a file that stays open: read when a plan packs it.

use super::safetensors::{decode, first_not_finite};
use crate::error::{Error, Result};
use crate::graph::StoredWeight;
use crate::tensor::{Shape, Tensor};
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

/// Bytes that are read at a time; a multiple of every element's size.
const PIECE: usize = 1 << 16;

impl StoredWeight for StoredTensor {
    fn read(&self) -> Result<Tensor<f32>> {
        let path = &self.file.path;
        let io = |source| Error::Io { path: path.clone(), source };
        let mut tensor = Tensor::zeros(self.shape)?;
        let mut bytes = [0; PIECE];
        let mut file = self.file.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        file.seek(SeekFrom::Start(self.offset)).map_err(io)?;
        let element = if self.dtype == Dtype::F32 { 4 } else { 2 };
        for values in tensor.as_mut_slice().chunks_mut(PIECE / element) {
            let bytes = &mut bytes[..values.len() * element];
            file.read_exact(bytes).map_err(io)?;
            decode(self.dtype, bytes, values);
        }
        if stamp(&file.metadata().map_err(io)?) != self.file.stamp {
            let reason = "the file has changed since the network was loaded from it; load it again".into();
            return Err(Error::Format { path: path.clone(), reason });
        }
        match first_not_finite(tensor.as_slice()) {
            None => Ok(tensor),
            Some((index, value)) => Err(Error::NonFinite { path: path.clone(), tensor: self.name.clone(), index, value }),
        }
    }
}
