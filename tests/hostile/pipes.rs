//! What is no regular file: refused by name and at once, and not waited for.

use crate::measured::alone;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use stridewise::compare::TapFile;
use stridewise::formats::safetensors::with_metadata;
use stridewise::session::Tuning;
use stridewise::tensor::npy::NpyTensor;
use stridewise::vision::Picture;
use stridewise::{Model, Result, Tensor};

/// Long enough for a machine that is busy; a pipe that nobody writes to is opened never.
const LIMIT: Duration = Duration::from_secs(30);

fn error<T>(result: Result<T>) -> Option<String> {
    result.err().map(|error| error.to_string())
}

/// A function that reads a file, and what it says of one.
type Reader = (&'static str, fn(&Path) -> Option<String>);

const READERS: &[Reader] = &[
    ("Picture::open", |path| error(Picture::open(path))),
    ("Tuning::load", |path| error(Tuning::load(path))),
    ("Tensor::read_npy", |path| error(Tensor::<f32>::read_npy(path))),
    ("NpyTensor::read", |path| error(NpyTensor::read(path))),
    ("TapFile::open", |path| error(TapFile::open(path))),
    ("Model::load", |path| error(Model::load(None, path))),
    ("Model::from_safetensors", |path| error(Model::from_safetensors(None, path))),
    ("Model::from_onnx", |path| error(Model::from_onnx(path))),
    #[cfg(feature = "packed")]
    ("Model::from_packed", |path| error(Model::from_packed(path, stridewise::formats::packed::Checksums::All))),
    ("with_metadata", |path| error(with_metadata(path, Path::new("never-written"), Vec::new()))),
];

#[test]
fn pipes_devices_and_folders_are_refused_and_not_waited_for() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let name = CString::new(pipe.as_os_str().as_bytes()).unwrap();
    // SAFETY: the name ends in a zero byte.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    for path in [pipe, PathBuf::from("/dev/zero"), folder.path().into()] {
        for (reader, read) in READERS {
            let (said, says) = mpsc::channel();
            let (from, read) = (path.clone(), *read);
            std::thread::spawn(move || said.send(read(&from)));
            let context = format!("{reader} of {}", path.display());
            let error = says.recv_timeout(LIMIT).unwrap_or_else(|e| panic!("{context}: {e}"));
            let error = error.unwrap_or_else(|| panic!("{context} is no error"));
            assert!(error.contains("not a regular file") && error.contains(&path.display().to_string()), "{context}: {error}");
        }
    }
}
