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

/// The messages and strings of a file.
///
/// # Errors
/// When there are more than [`MOST_MESSAGES`], or a field is malformed: what is behind it could not be counted.
pub(super) fn messages(file: &[u8]) -> Result<usize, String> {
    let mut count = 0;
    // No field holds its own kind, so that there are never more levels than kinds.
    let mut levels = vec![(Kind::Model, file)];
    while let Some((kind, rest)) = levels.pop() {
        if rest.is_empty() || matches!(kind, Kind::Leaf) {
            continue;
        }
        let (field, behind) = next(kind, rest)?;
        levels.push((kind, behind));
        if let Some((inner, content)) = field {
            count += 1;
            if count > MOST_MESSAGES {
                return Err(format!("it has more than {MOST_MESSAGES} messages"));
            }
            levels.push((inner, content));
        }
    }
    Ok(count)
}

/// A field that counts, with its content, and what is behind a field.
type Field<'a> = (Option<(Kind, &'a [u8])>, &'a [u8]);

fn next(kind: Kind, bytes: &[u8]) -> Result<Field<'_>, String> {
    let damaged = |what: &str| format!("not an ONNX file, or a damaged one: {what}");
    let (tag, rest) = varint(bytes).ok_or_else(|| damaged("the number of a field has no end"))?;
    let field = match tag & 7 {
        0 => varint(rest).map(|(_, behind)| (None, behind)),
        1 => rest.get(8..).map(|behind| (None, behind)),
        5 => rest.get(4..).map(|behind| (None, behind)),
        2 => varint(rest).and_then(|(length, rest)| {
            let (content, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((kind.field(tag >> 3).map(|inner| (inner, content)), behind))
        }),
        // A decoder skips groups, and goes on behind them.
        3 | 4 => return Err(damaged(&format!("field {} is a group, which ONNX does not have", tag >> 3))),
        _ => return Err(damaged(&format!("field {} is of no known type", tag >> 3))),
    };
    field.ok_or_else(|| damaged(&format!("field {} is cut off", tag >> 3)))
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
