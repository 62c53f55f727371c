//! Stridewise for C and every language that calls C. The header `include/stridewise.h` is made of this crate.
//!
//! - Handles are opaque; each has a function that frees it. A session keeps what it needs of its model, pool and token, so that these
//!   may be freed before it.
//! - Every function that can fail returns a [`Status`], and leaves the message of what failed to [`stridewise_last_error`].
//! - No panic and no exception crosses the border, and nothing is printed.
//! - Buffers are the caller's. A run allocates nothing.
//! - Models, pools and tokens may be used from several threads at once; a session by one at a time.

mod describe;
mod model;
mod options;
mod pool;
mod session;
mod status;
mod tensor;

pub use describe::*;
pub use model::*;
pub use options::*;
pub use pool::*;
pub use session::*;
pub use status::*;
pub use tensor::*;

use std::ffi::{CStr, c_char};

/// Goes up with every change that a program compiled with an older header would notice.
pub const STRIDEWISE_ABI_VERSION: u32 = 2;

/// The ABI version of the library that the program runs with. Compare it with `STRIDEWISE_ABI_VERSION`, that of the header that it
/// was compiled with: they must be equal.
#[unsafe(no_mangle)]
pub extern "C" fn stridewise_abi_version() -> u32 {
    STRIDEWISE_ABI_VERSION
}

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// The version of the library, such as `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn stridewise_version() -> *const c_char {
    VERSION.as_ptr()
}
