//! Files as memory.

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::io;
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
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(io(io::Error::other("not a regular file")));
    }
    if metadata.len() == 0 {
        return Err(Error::Format { path: path.into(), reason: "the file is empty".into() });
    }
    let file = File::open(path).map_err(io)?;
    // SAFETY: the map is only read. That nobody truncates the file meanwhile is asked of the caller; nothing in the language can
    // promise it.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok((file, map))
}
