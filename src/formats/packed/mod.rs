//! Packed networks, `.swp`: a network's graph, and its weights in the order in which kernels read them. Loading one maps the file:
//! no weight is copied or packed.
//!
//! All numbers are little-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | `SWPACKED` |
//! | 8..12 | version of the format |
//! | 12..16 | version of the kernels' packing orders ([`PACKING_VERSION`]) |
//! | 16..24 | length of the header |
//! | 24..32 | XXH3 checksum of the header |
//! | 32.. | the header (`Header`), in postcard's encoding |
//! | from the next multiple of 64 on | packed weights, f32 or pairs of bf16, each at a multiple of 64 |
//!
//! A packing depends on the width of the kernels' register tile and not otherwise on the processor: what AVX2 packed, NEON reads. It
//! depends on the algorithm, which the planner chooses by shape and numerics: a session that needs another packing than the file has
//! is refused, with what to do about it.
//!
//! The header is checked when the file is opened, each weight when the first session that needs it is made, on that session's threads.

mod checksum;
mod read;
mod write;

pub(crate) use read::{PackedFile, read};
pub(crate) use write::write;

use crate::graph::bounded_list;
use crate::tensor::Shape;
use serde::{Deserialize, Deserializer, Serialize};
use stridewise_kernels::conv::{Order, PACKING_VERSION};
use stridewise_kernels::{Element, Layout};

/// What a packed network begins with.
pub(crate) const MAGIC: &[u8; 8] = b"SWPACKED";

/// Goes up with every change of [`Header`] or of what it is made of. `tests/packed.rs` fails when they change without it.
const FORMAT_VERSION: u32 = 1;

/// Bytes before the header.
const PREFIX: usize = 32;

/// What each packed weight is aligned to.
const ALIGNMENT: usize = 64;

/// Whether the weights of a packed network are held against their checksums. Its header always is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksums {
    /// All: a session reads each of its weights once when it is made.
    #[default]
    All,
    /// The header's only: for files that something else keeps from damage, such as a signed image. Damaged weights give wrong results,
    /// and nothing worse.
    Header,
}

/// What a file holds beside packed weights.
#[derive(Serialize, Deserialize)]
struct Header<G> {
    /// The program that wrote it.
    writer: String,
    /// The architecture, where it has a name.
    arch: Option<String>,
    preprocessing: Preprocessing,
    graph: G,
    /// The only shapes of the inputs that the graph is for; nothing where it is for any.
    #[serde(deserialize_with = "shapes")]
    shapes: Option<Vec<Shape>>,
    #[serde(deserialize_with = "bounded_list")]
    packed: Vec<Entry>,
}

fn shapes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Shape>>, D::Error> {
    #[derive(Deserialize)]
    struct Shapes(#[serde(deserialize_with = "bounded_list")] Vec<Shape>);
    Ok(Option::<Shapes>::deserialize(deserializer)?.map(|shapes| shapes.0))
}

/// How a picture becomes the input.
#[derive(Serialize, Deserialize)]
struct Preprocessing {
    resize: usize,
    crop: [usize; 2],
    mean: [f32; 3],
    std: [f32; 3],
}

/// Where a packed weight lies.
#[derive(Serialize, Deserialize)]
struct Entry {
    packing: Packing,
    /// In the file.
    offset: u64,
    /// Elements.
    len: u64,
    checksum: u64,
}

/// Which weights were packed, and how.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Packing {
    /// The node that has the weights.
    pub node: String,
    /// Of what was folded into them.
    pub fingerprint: u64,
    /// Most blocks of output channels of the register tile that reads them.
    pub tile_blocks: usize,
    pub order: Order,
    /// Of the input.
    pub layout: Layout,
    pub kernel: [usize; 2],
    pub dilation: [usize; 2],
    pub groups: usize,
}

impl Packing {
    /// Whether a word is two bf16 and not one f32.
    fn holds_pairs(&self) -> bool {
        self.layout.element() == Element::Bf16 && !matches!(self.order, Order::Depthwise | Order::Grouped)
    }

    /// For messages.
    fn describe(&self) -> String {
        let channels = self.tile_blocks.saturating_mul(stridewise_kernels::BLOCK);
        format!("in the order {:?}, from {:?}, for tiles of {channels} channels", self.order, self.layout)
    }
}
