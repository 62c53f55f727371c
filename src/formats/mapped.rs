//! Files as memory.

use crate::error::{Error, Result};
use crate::regular_file;
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// Maps a regular file that is not empty.
///
/// The file must not change while it is mapped: a file that another program truncates meanwhile ends the process, as with
/// every memory map.
///
/// # Errors
/// When the file can't be opened or mapped, or is empty; a device or a pipe is refused before it is opened.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    Ok(open_and_map(path)?.1)
}

/// Likewise, and hands out the open file.
pub(crate) fn open_and_map(path: &Path) -> Result<(File, Mmap)> {
    let io = |source| Error::Io { path: path.into(), source };
    let file = regular_file::open(path)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Err(Error::Format { path: path.into(), reason: "the file is empty".into() });
    }
    // SAFETY: the map is only read. That nobody truncates the file meanwhile is asked of the caller; nothing in the language can
    // promise it.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok((file, map))
}
