//! Files to graphs. Whatever a file says is checked before it is believed.

pub(crate) mod mapped;
mod names;
pub mod safetensors;
mod stored;
