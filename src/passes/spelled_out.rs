//! Functions that exporters write as several ops: sums and products with a number, hard sigmoid, SiLU, hard swish, Mish and GELU.
//! What is left of a chain of functions goes to the op of two operands before it.

use super::{Producers, retain};
use crate::graph::{Graph, Op, TensorOp, ValueId};
use crate::tensor::Shape;
use stridewise_kernels::{Binary, Unary};

pub(super) fn run(graph: &mut Graph, shapes: &[Shape]) {
    numbers(graph, shapes);
    merge_maps(graph);
    products(graph);
    super::dead_nodes::drop_unread(graph);
    merge_maps(graph);
    fuse_then(graph);
}

fn map_of(op: &Op) -> Option<Unary> {
    match op {
        Op::Tensor(TensorOp::Map(function)) => Some(*function),
        _ => None,
    }
}

/// Sums, differences, products and quotients with one number are functions of the other operand.
fn numbers(graph: &mut Graph, shapes: &[Shape]) {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::Tensor(TensorOp::Combine { function, then: Unary::Identity }), &[a, b]) = (&node.op, node.inputs.as_slice()) else {
            continue;
        };
        let number = |v: ValueId| match graph.values[v.0].constant.as_deref().map(|t| t.as_slice()) {
            Some(&[number]) => Some(number),
            _ => None,
        };
        let (x, function) = match (function, number(a), number(b)) {
            (Binary::Add, None, Some(shift)) => (a, Unary::Affine { scale: 1.0, shift }),
            (Binary::Add, Some(shift), None) => (b, Unary::Affine { scale: 1.0, shift }),
            (Binary::Sub, None, Some(shift)) => (a, Unary::Affine { scale: 1.0, shift: -shift }),
            (Binary::Sub, Some(shift), None) => (b, Unary::Affine { scale: -1.0, shift }),
            (Binary::Mul, None, Some(scale)) => (a, Unary::Affine { scale, shift: 0.0 }),
            (Binary::Mul, Some(scale), None) => (b, Unary::Affine { scale, shift: 0.0 }),
            (Binary::Div, None, Some(divisor)) if (1.0 / divisor).is_normal() => (a, Unary::Affine { scale: 1.0 / divisor, shift: 0.0 }),
            _ => continue,
        };
        // Of a number with more dimensions the result has them too; ∞·0 is no affine function's business.
        let Unary::Affine { scale, shift } = function else { continue };
        if shapes[x.0] == shapes[node.output.0] && scale.is_finite() && shift.is_finite() {
            graph.nodes[index].op = Op::Tensor(TensorOp::Map(function));
            graph.nodes[index].inputs = vec![x];
        }
    }
}

/// Two functions one behind the other that are one.
fn merge_maps(graph: &mut Graph) {
    let mut producers = Producers::of(graph);
    let mut fused = vec![false; graph.nodes.len()];
    for index in 0..graph.nodes.len() {
        let (before, rest) = graph.nodes.split_at_mut(index);
        let node = &mut rest[0];
        let (Some(outer), &[x]) = (map_of(&node.op), node.inputs.as_slice()) else { continue };
        let Some(producer) = producers.sole(x) else { continue };
        let Some(merged) = map_of(&before[producer].op).and_then(|inner| composed(inner, outer)) else { continue };
        node.op = Op::Tensor(TensorOp::Map(merged));
        node.inputs = before[producer].inputs.clone();
        producers.forget(x);
        fused[producer] = true;
    }
    retain(graph, &fused);
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 * b.abs()
}

fn composed(inner: Unary, outer: Unary) -> Option<Unary> {
    match (inner, outer) {
        (Unary::Affine { scale: a, shift: b }, Unary::Affine { scale, shift }) => {
            let (scale, shift) = (a * scale, b * scale + shift);
            (scale.is_finite() && shift.is_finite()).then_some(Unary::Affine { scale, shift })
        }
        (Unary::Affine { scale: alpha, shift: beta }, Unary::Clip { low: 0.0, high: 1.0 }) => Some(Unary::HardSigmoid { alpha, beta }),
        _ => None,
    }
}

/// The functions that a value is of another one, from that one on; at most four.
fn chain(graph: &Graph, producers: &Producers, value: ValueId) -> Vec<(ValueId, Vec<Unary>)> {
    let (mut at, mut functions, mut found) = (value, Vec::new(), vec![(value, Vec::new())]);
    for _ in 0..4 {
        let Some(node) = producers.of_value(at).map(|index| &graph.nodes[index]) else { break };
        let (Some(function), &[x]) = (map_of(&node.op), node.inputs.as_slice()) else { break };
        functions.insert(0, function);
        at = x;
        found.push((at, functions.clone()));
    }
    found
}

/// Products of a value and of a function of it.
fn products(graph: &mut Graph) {
    let mut producers = Producers::of(graph);
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::Tensor(TensorOp::Combine { function: Binary::Mul, then: Unary::Identity }), &[a, b]) = (&node.op, node.inputs.as_slice())
        else {
            continue;
        };
        let (of_a, of_b) = (chain(graph, &producers, a), chain(graph, &producers, b));
        // The nearest value that both operands are functions of.
        let common = of_a.iter().flat_map(|(x, f)| of_b.iter().filter(move |(y, _)| x == y).map(move |(_, g)| (*x, f, g)));
        let Some((x, f, g)) = common.min_by_key(|(_, f, g)| f.len() + g.len()) else { continue };
        let (scaled, gate) = if f.len() <= g.len() { (f, g) } else { (g, f) };
        let outside = match scaled[..] {
            [] => 1.0,
            [Unary::Affine { scale, shift: 0.0 }] => scale,
            _ => continue,
        };
        let Some((function, factor)) = gated(gate) else { continue };
        let scale = outside * factor;
        if near(scale, 1.0) {
            rewrite(graph, &mut producers, index, x, function);
            continue;
        }
        // The factor may come behind.
        let readers = producers.uses[graph.nodes[index].output.0];
        let output = graph.nodes[index].output;
        let behind = (index + 1..graph.nodes.len().min(index + 8)).find(|&i| graph.nodes[i].inputs == [output]);
        if let (1, Some(behind)) = (readers, behind)
            && let Some(Unary::Affine { scale: last, shift: 0.0 }) = map_of(&graph.nodes[behind].op)
            && near(scale * last, 1.0)
        {
            rewrite(graph, &mut producers, behind, x, function);
        }
    }
}

fn rewrite(graph: &mut Graph, producers: &mut Producers, index: usize, x: ValueId, function: Unary) {
    for value in std::mem::replace(&mut graph.nodes[index].inputs, vec![x]) {
        producers.unread(value);
    }
    producers.read(x);
    graph.nodes[index].op = Op::Tensor(TensorOp::Map(function));
}

/// What x times these functions of x is, and by which factor it is more than that.
fn gated(functions: &[Unary]) -> Option<(Unary, f32)> {
    let sixth = |x: f32| near(x, 1.0 / 6.0);
    let root_half = |x: f32| near(x, std::f32::consts::FRAC_1_SQRT_2);
    Some(match *functions {
        [Unary::Sigmoid] => (Unary::Silu, 1.0),
        [Unary::Affine { scale, shift: 0.0 }, Unary::Sigmoid] => (Unary::Swish { alpha: scale }, 1.0),
        [Unary::HardSigmoid { alpha, beta: 0.5 }] if sixth(alpha) => (Unary::HardSwish, 1.0),
        [Unary::Affine { scale: 1.0, shift: 3.0 }, Unary::Clip { low: 0.0, high: 6.0 }] => (Unary::HardSwish, 6.0),
        [Unary::Affine { scale: 1.0, shift: 3.0 }, Unary::Clip { low: 0.0, high: 6.0 }, Unary::Affine { scale, shift: 0.0 }]
            if sixth(scale) =>
        {
            (Unary::HardSwish, 1.0)
        }
        [Unary::Softplus, Unary::Tanh] => (Unary::Mish, 1.0),
        [Unary::Affine { scale, shift: 0.0 }, Unary::Erf, Unary::Affine { scale: a, shift: b }] if root_half(scale) && a == b => {
            (Unary::Gelu, 2.0 * a)
        }
        _ => return None,
    })
}

/// A function of a sum, product or the like is computed with it.
fn fuse_then(graph: &mut Graph) {
    let mut producers = Producers::of(graph);
    let mut fused = vec![false; graph.nodes.len()];
    for (index, fused) in fused.iter_mut().enumerate() {
        let (before, rest) = graph.nodes.split_at_mut(index);
        let node = &rest[0];
        let (Some(function), &[x]) = (map_of(&node.op), node.inputs.as_slice()) else { continue };
        let Some(producer) = producers.sole(x) else { continue };
        let Op::Tensor(TensorOp::Combine { then, .. }) = &mut before[producer].op else { continue };
        // What a file rounds to bytes is seen to by itself.
        if *then != Unary::Identity || matches!(function, Unary::FakeQuantize { .. }) {
            continue;
        }
        *then = function;
        before[producer].output = node.output;
        producers.moved(node.output, producer);
        *fused = true;
    }
    retain(graph, &fused);
}
