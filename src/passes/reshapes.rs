//! Reshapes of reshapes are one; channels that are dealt out in turn by two reshapes and a transposition are one op.

use super::Producers;
use crate::graph::{Graph, Op, TensorOp};
use crate::tensor::Shape;

pub(super) fn run(graph: &mut Graph, shapes: &[Shape]) {
    let mut producers = Producers::of(graph);
    for index in 0..graph.nodes.len() {
        let (before, rest) = graph.nodes.split_at_mut(index);
        let node = &mut rest[0];
        let (Op::Tensor(TensorOp::Reshape(_)), &[x]) = (&node.op, node.inputs.as_slice()) else { continue };
        let Some(first) = producers.of_value(x) else { continue };
        match (&before[first].op, before[first].inputs.as_slice()) {
            (Op::Tensor(TensorOp::Reshape(_)), &[source]) => {
                node.inputs[0] = source;
                producers.unread(x);
                producers.read(source);
            }
            (Op::Tensor(TensorOp::Transpose(perm)), &[grouped]) if perm == &[0, 2, 1, 3, 4] => {
                let Some(outer) = producers.of_value(grouped).map(|outer| &before[outer]) else { continue };
                let (Op::Tensor(TensorOp::Reshape(_)), &[source]) = (&outer.op, outer.inputs.as_slice()) else { continue };
                let (from, to) = (shapes[source.0].dims(), shapes[node.output.0].dims());
                let &[_, groups, _, _, _] = shapes[grouped.0].dims() else { continue };
                // The middle dimensions are the channels only where the others are the image's.
                let whole =
                    from.len() == 4 && from == to && from[2..] == shapes[grouped.0].dims()[3..] && from[0] == shapes[grouped.0].dims()[0];
                if whole {
                    node.op = Op::Tensor(TensorOp::ChannelShuffle { groups });
                    node.inputs[0] = source;
                    producers.unread(x);
                    producers.read(source);
                }
            }
            _ => {}
        }
    }
    super::dead_nodes::drop_unread(graph);
}
