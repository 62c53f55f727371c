//! A graph that was read from a file.

use super::Graph;
use crate::error::{Error, Result};
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use std::marker::PhantomData;

/// Most nodes, values and the like of a file. An element of a few bytes there is some hundred in memory, so that memory is not bounded by
/// a file's length alone.
const MOST: usize = 1 << 18;

/// A list of no more than [`MOST`] elements.
pub(crate) fn bounded_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> std::result::Result<Vec<T>, D::Error> {
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a list of at most {MOST} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> std::result::Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                if list.len() == MOST {
                    return Err(A::Error::custom(format_args!("a list of over {MOST} elements")));
                }
                list.push(element);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_seq(List(PhantomData))
}

impl Graph {
    /// Checks of a graph from a file what [`Graph::add`] and its like see to in one that is built: every value is written before it is
    /// read, and once; names are unique.
    ///
    /// # Errors
    /// When that is not so; the error names the node.
    pub(crate) fn checked(mut self) -> Result<Graph> {
        let refuse = |node: &str, reason: String| Error::Graph { node: node.into(), reason };
        // Constants and inputs are there from the start.
        let mut written: Vec<bool> = self.values.iter().map(|value| value.constant.is_some()).collect();
        let inputs = self.inputs.iter().map(|input| (&input.name, &[][..], input.value));
        let nodes = self.nodes.iter().map(|node| (&node.name, &node.inputs[..], node.output));
        for (name, reads, writes) in inputs.chain(nodes) {
            if let Some(value) = reads.iter().find(|value| written.get(value.0) != Some(&true)) {
                return Err(refuse(name, format!("it reads value {}, which nothing has written", value.0)));
            }
            match written.get_mut(writes.0) {
                Some(before) if !*before => *before = true,
                Some(_) => return Err(refuse(name, format!("it writes value {}, which is there already", writes.0))),
                None => return Err(refuse(name, format!("it writes value {}, which does not exist", writes.0))),
            }
        }
        if let Some(value) = self.outputs.iter().find(|value| written.get(value.0) != Some(&true)) {
            return Err(refuse(&self.name, format!("its output is value {}, which nothing has written", value.0)));
        }
        if self.outputs.is_empty() || self.outputs.len() != self.output_names.len() || self.inputs.is_empty() {
            return Err(refuse(&self.name, "it has no inputs, no outputs, or outputs without names".into()));
        }
        self.node_names = self.nodes.iter().map(|node| node.name.clone()).collect();
        if self.node_names.len() != self.nodes.len() {
            return Err(refuse(&self.name, "two nodes have the same name".into()));
        }
        self.input_names = self.inputs.iter().map(|input| input.name.clone()).collect();
        Ok(self)
    }
}
