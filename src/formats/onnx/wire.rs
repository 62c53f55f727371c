//! How many messages a file holds, before any is decoded. An empty message is two bytes in a file and some hundred in memory, so that
//! memory is not bounded by a file's length alone.

/// Most messages and strings of a file: some hundred megabytes, decoded.
pub(super) const MOST_MESSAGES: usize = 1 << 22;

/// What a length-delimited field holds.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    /// Nothing that is counted further.
    Leaf,
}

impl Kind {
    /// What the field of a number is; the numbers are those of `proto.rs`.
    fn field(self, number: u64) -> Option<Kind> {
        Some(match (self, number) {
            (Kind::Model, 7) => Kind::Graph,
            (Kind::Graph, 1) => Kind::Node,
            (Kind::Graph, 5) | (Kind::Attribute, 5) => Kind::Tensor,
            (Kind::Graph, 11 | 12) => Kind::Value,
            (Kind::Node, 5) => Kind::Attribute,
            (Kind::Value, 2) => Kind::Type,
            (Kind::Type, 1) => Kind::TensorType,
            (Kind::TensorType, 2) => Kind::Shape,
            (Kind::Model, 8 | 14) | (Kind::Graph, 15) | (Kind::Node, 1 | 2) => Kind::Leaf,
            (Kind::Attribute, 9) | (Kind::Tensor, 13) | (Kind::Shape, 1) => Kind::Leaf,
            _ => return None,
        })
    }
}

/// The messages and strings of a file, or one more than [`MOST_MESSAGES`]. What is malformed ends the count: decoding will say so.
pub(super) fn messages(file: &[u8]) -> usize {
    let mut count = 0;
    // No field holds its own kind, so that there are never more levels than kinds.
    let mut levels = vec![(Kind::Model, file)];
    while let Some((kind, rest)) = levels.pop() {
        let Some((field, behind)) = next(kind, rest) else { continue };
        levels.push((kind, behind));
        if let Some((inner, content)) = field {
            count += 1;
            if count > MOST_MESSAGES {
                return count;
            }
            levels.push((inner, content));
        }
    }
    count
}

/// A field that counts, with its content, and what is behind a field.
type Field<'a> = (Option<(Kind, &'a [u8])>, &'a [u8]);

fn next(kind: Kind, bytes: &[u8]) -> Option<Field<'_>> {
    if matches!(kind, Kind::Leaf) {
        return None;
    }
    let (tag, rest) = varint(bytes)?;
    match tag & 7 {
        0 => varint(rest).map(|(_, rest)| (None, rest)),
        1 => Some((None, rest.get(8..)?)),
        5 => Some((None, rest.get(4..)?)),
        2 => {
            let (length, rest) = varint(rest)?;
            let (content, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((kind.field(tag >> 3).map(|inner| (inner, content)), behind))
        }
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}
