//! Zeros around an image become the padding of the convolution that reads it.

use super::Producers;
use crate::graph::{Graph, Op, TensorOp};
use stridewise_kernels::dense::PadMode;

pub(super) fn run(graph: &mut Graph) {
    let mut producers = Producers::of(graph);
    for index in 0..graph.nodes.len() {
        let (before, rest) = graph.nodes.split_at_mut(index);
        let node = &mut rest[0];
        let (Op::Conv { attributes, .. }, Some(&x)) = (&mut node.op, node.inputs.first()) else { continue };
        let Some(pad) = producers.sole(x).map(|producer| &before[producer]) else { continue };
        let Op::Tensor(TensorOp::Pad { pads, mode: PadMode::Constant(0.0) }) = &pad.op else { continue };
        let (&[0, 0, top, left, 0, 0, bottom, right], &[source]) = (pads.as_slice(), pad.inputs.as_slice()) else { continue };
        let added = [top, left, bottom, right].map(|pad| usize::try_from(pad).ok());
        let mut sum = [0; 4];
        let mut fits = true;
        for side in 0..4 {
            match added[side].and_then(|pad| attributes.pads[side].checked_add(pad)) {
                Some(pad) => sum[side] = pad,
                None => fits = false,
            }
        }
        if fits {
            attributes.pads = sum;
            node.inputs[0] = source;
            producers.unread(x);
        }
    }
    super::dead_nodes::drop_unread(graph);
}
