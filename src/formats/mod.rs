//! Files to graphs. Whatever a file says is checked before it is believed.

mod names;
pub mod safetensors;
