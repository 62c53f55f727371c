//! Concatenations that nothing copies: what is concatenated is written where it goes.
//!
//! A plane of NCHW16c holds sixteen channels, and the planes of one image follow each other, so that neighbouring planes of a buffer
//! are a buffer themselves. A value that is concatenated becomes such a part of the result's buffer, which must begin with a whole
//! plane and end with one, or at the result's end. Of several concatenations that begin alike, as those of a dense block do, the
//! shorter ones are parts of the longest. A batch of images is copied: parts of a buffer of several images lie apart.

use super::layout::{Form, Forms, dims4};
use crate::graph::{Graph, Op, TensorOp, ValueId};
use crate::tensor::Shape;
use stridewise_kernels::BLOCK;

/// The part of another value's buffer of NCHW16c that a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The value whose buffer it is.
    pub whole: ValueId,
    /// Its first channel there: the first one of a plane.
    pub channel: usize,
}

/// The place of each value that is a part of another.
pub(super) fn places(graph: &Graph, shapes: &[Shape], forms: &Forms) -> Vec<Option<Place>> {
    let mut places: Vec<Option<Place>> = vec![None; graph.value_count()];
    let mut movable = vec![true; graph.value_count()];
    graph.inputs().iter().for_each(|input| movable[forms.root(input.value, Form::Blocked).0] = false);
    let channels = |value: ValueId| dims4(shapes[value.0].dims()).map_or(0, |[_, c, _, _]| c);
    // From the last one on, so that a concatenation has its own place before what it concatenates is given one.
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        let single = dims4(shapes[node.output.0].dims()).is_some_and(|[n, ..]| n == 1);
        let concatenates = matches!(node.op, Op::Tensor(TensorOp::Concat { .. }));
        if !concatenates || !single || forms.node[index] != Form::Blocked || forms.home[node.output.0] != Form::Blocked {
            continue;
        }
        let roots = || node.inputs.iter().map(|value| forms.root(*value, Form::Blocked));
        let output = node.output;
        if places[output.0].is_none() {
            places[output.0] = lies_together(&places, roots().zip(node.inputs.iter().map(|v| channels(*v))));
        }
        let whole = places[output.0].unwrap_or(Place { whole: output, channel: 0 });
        let end = channels(whole.whole);
        let mut channel = whole.channel;
        for (root, value) in roots().zip(&node.inputs) {
            let count = channels(*value);
            let planes = channel.is_multiple_of(BLOCK) && (count.is_multiple_of(BLOCK) || channel + count == end);
            let computed = graph.values[root.0].constant.is_none() && shapes[root.0].dims() == shapes[value.0].dims();
            if planes && computed && movable[root.0] && places[root.0].is_none() && root != whole.whole {
                places[root.0] = Some(Place { whole: whole.whole, channel });
            }
            channel += count;
        }
    }
    places
}

/// The place of values that lie one behind the other in one buffer.
fn lies_together(places: &[Option<Place>], parts: impl Iterator<Item = (ValueId, usize)>) -> Option<Place> {
    let mut parts = parts.peekable();
    let first = places[parts.peek()?.0.0]?;
    let mut channel = first.channel;
    for (root, count) in parts {
        if places[root.0] != Some(Place { whole: first.whole, channel }) {
            return None;
        }
        channel += count;
    }
    Some(first)
}
