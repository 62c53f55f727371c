//! Opening files to read them.

use crate::error::{Error, Result};
use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a regular file. A pipe or a device is refused before it is opened: opening a pipe waits for its other end, and a device may
/// never end.
pub(crate) fn open(path: &Path) -> Result<File> {
    let io = |source| Error::Io { path: path.into(), source };
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(io(io::Error::other("not a regular file")));
    }
    File::open(path).map_err(io)
}
