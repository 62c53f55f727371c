//! stub
use crate::error::{Error, Result};
use std::io::Write;
/// stub
pub fn write_atomically(path: &std::path::Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut f = std::fs::File::create(path).map_err(|source| Error::Io { path: path.into(), source })?;
    write(&mut f).map_err(|source| Error::Io { path: path.into(), source })
}
