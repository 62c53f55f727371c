//! Files that are there whole or not at all.

use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Writes a file through a temporary one beside it, which takes the file's name when everything is on the disk. When `write`
/// or the system fails, or `write` panics, what stood at `path` before still stands there and nothing else is left behind.
///
/// A file that is replaced keeps its permissions; through a symbolic link, the file it points at is replaced. What is not a
/// regular file (`/dev/stdout`, a pipe) is written to directly, for there is nothing to replace.
///
/// # Errors
/// [`Error::Io`] with `path`, whatever failed.
pub fn write_atomically(path: impl AsRef<Path>, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let path = path.as_ref();
    replace(path, write).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let existing = match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    if existing.as_ref().is_some_and(|m| !m.is_file()) {
        // Opening a directory fails, with the system's own words.
        let mut stream = BufWriter::new(OpenOptions::new().write(true).open(path)?);
        write(&mut stream)?;
        return stream.flush();
    }
    let target = if existing.is_some() { fs::canonicalize(path)? } else { path.to_path_buf() };
    let (file, temporary) = Temporary::beside(&target)?;
    let mut stream = BufWriter::new(file);
    write(&mut stream)?;
    let file = stream.into_inner().map_err(io::IntoInnerError::into_error)?;
    if let Some(existing) = existing {
        file.set_permissions(existing.permissions())?;
    }
    file.sync_all()?;
    drop(file); // Windows does not rename an open file.
    temporary.rename_to(&target)
}

/// A file that is removed unless it was renamed.
struct Temporary(Option<PathBuf>);

impl Temporary {
    fn beside(target: &Path) -> io::Result<(File, Temporary)> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        if target.file_name().is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name"));
        }
        loop {
            // Only a file that an earlier process of the same id left behind can have this name. It is a short one: the target's may be the
            // longest that the system allows.
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let temporary = target.with_file_name(format!(".stridewise-{}-{serial}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok((file, Temporary(Some(temporary)))),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e),
            }
        }
    }

    fn rename_to(mut self, target: &Path) -> io::Result<()> {
        if let Some(temporary) = &self.0 {
            fs::rename(temporary, target)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(temporary) = &self.0 {
            // What failed before is the error to report.
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_the_whole_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.bin");
        fs::write(&path, "a much longer old content").unwrap();
        write_atomically(&path, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["a.bin"]);
    }

    #[test]
    fn a_failing_writer_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.bin");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |w| {
            w.write_all(&[0; 100_000])?;
            Err(io::Error::other("the disk burns"))
        })
        .unwrap_err();
        assert!(error.to_string().contains("a.bin") && error.to_string().contains("the disk burns"), "{error}");
        let panic = std::panic::catch_unwind(|| write_atomically(&path, |_| panic!("the writer gives up")));
        assert!(panic.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["a.bin"]);
    }

    #[test]
    fn unusable_paths_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("no/such/folder/a.bin");
        for path in [missing.as_path(), directory.path(), Path::new("/"), Path::new("")] {
            let error = write_atomically(path, |w| w.write_all(b"x")).unwrap_err();
            assert!(matches!(&error, Error::Io { path: p, .. } if p == path), "{error}");
        }
        assert!(names(directory.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn permissions_links_and_devices_stay() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a.bin"), directory.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a.bin", &link).unwrap();
        write_atomically(&link, |w| w.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        write_atomically("/dev/null", |w| w.write_all(b"gone")).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }
}
