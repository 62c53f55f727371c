//! What the inputs of a graph may be.

use super::{Graph, ValueId};
use crate::error::{Error, Result};
use crate::tensor::Shape;
use std::collections::HashMap;

/// H and W of an input of images that names none.
const DEFAULT_SIZE: [usize; 2] = [224, 224];

/// One dimension of an input.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub enum Dim {
    /// Always so many.
    Fixed(usize),
    /// What the run says. Dimensions of one name are equal; an empty name is no other's.
    Any(String),
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dim::Fixed(size) => write!(f, "{size}"),
            Dim::Any(name) if name.is_empty() => f.write_str("?"),
            Dim::Any(name) => f.write_str(name),
        }
    }
}

/// What an input of a graph may be.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Input {
    /// The value that holds it.
    pub value: ValueId,
    /// What it is called.
    pub name: String,
    /// Its dimensions, outermost first.
    pub dims: Vec<Dim>,
    /// The H and W that the network was made for; other sizes are planned when a session asks for them.
    pub size: [usize; 2],
}

/// H and W of images of these dimensions, as far as they are fixed.
pub(crate) fn size_of(dims: &[Dim]) -> [usize; 2] {
    [2, 3].map(|axis| match dims.get(axis) {
        Some(Dim::Fixed(size)) if dims.len() == 4 => *size,
        _ => DEFAULT_SIZE[axis - 2],
    })
}

/// The input of a graph that has none.
pub(super) static NONE: Input = Input { value: ValueId(usize::MAX), name: String::new(), dims: Vec::new(), size: DEFAULT_SIZE };

impl Input {
    /// C of an input of images: its second dimension. 0 where there is none, or where it is not fixed.
    pub fn channels(&self) -> usize {
        match self.dims.get(1) {
            Some(Dim::Fixed(channels)) => *channels,
            _ => 0,
        }
    }

    /// The dimensions as text, such as `[N, 3, H, W]`.
    pub fn dims_text(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(Dim::to_string).collect();
        format!("[{}]", dims.join(", "))
    }

    /// Checks a shape against the fixed dimensions, and notes what it makes of the others.
    fn bind<'a>(&'a self, shape: &Shape, known: &mut HashMap<&'a str, usize>) -> Result<()> {
        let mut fits = shape.dims().len() == self.dims.len();
        let mut expected = Vec::with_capacity(self.dims.len());
        for (axis, dim) in self.dims.iter().enumerate() {
            let found = shape.dims().get(axis).copied();
            let needed = match dim {
                Dim::Fixed(size) => Some(*size),
                Dim::Any(name) if name.is_empty() => None,
                Dim::Any(name) => found.map(|found| *known.entry(name).or_insert(found)),
            };
            let conflict = needed.is_some() && needed != found;
            fits &= !conflict;
            expected.push(match (dim, needed) {
                (Dim::Any(name), Some(size)) if conflict => format!("{name} = {size}"),
                _ => dim.to_string(),
            });
        }
        if fits {
            return Ok(());
        }
        let what = if self.name == "input" { "input".into() } else { format!("input `{}`", self.name) };
        Err(Error::Shape { what, expected: format!("[{}]", expected.join(", ")), found: shape.to_string() })
    }
}

impl Graph {
    /// Checks shapes of all inputs against what the graph says of them.
    ///
    /// # Errors
    /// When there are more or fewer, or one does not fit; the error names the input.
    pub fn check_inputs(&self, shapes: &[Shape]) -> Result<()> {
        check_inputs(&self.inputs, &self.name, shapes)
    }

    /// The shapes of all inputs: `given` ones by name, else for a dimension that is not fixed what another input's dimension of
    /// the same name is, `batch` for the first of an input, `size` for H and W of images, and 1 for all others.
    ///
    /// # Errors
    /// When no input has a given name, or a shape does not fit.
    pub fn input_shapes(&self, batch: usize, size: Option<[usize; 2]>, given: &[(String, Vec<usize>)]) -> Result<Vec<Shape>> {
        bind_inputs(&self.inputs, batch, size, given)
    }
}

/// As [`Graph::check_inputs`].
pub(crate) fn check_inputs(inputs: &[Input], name: &str, shapes: &[Shape]) -> Result<()> {
    if shapes.len() != inputs.len() {
        let (expected, found) = (format!("{} tensors", inputs.len()), format!("{} tensors", shapes.len()));
        return Err(Error::Shape { what: format!("the inputs of {name}"), expected, found });
    }
    let mut known = HashMap::new();
    inputs.iter().zip(shapes).try_for_each(|(input, shape)| input.bind(shape, &mut known))
}

/// As [`Graph::input_shapes`].
pub(crate) fn bind_inputs(inputs: &[Input], batch: usize, size: Option<[usize; 2]>, given: &[(String, Vec<usize>)]) -> Result<Vec<Shape>> {
    if let Some((name, _)) = given.iter().find(|(name, _)| inputs.iter().all(|input| input.name != *name)) {
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        let reason = format!("no input has this name; there are {}", names.join(", "));
        return Err(Error::InvalidArgument { argument: format!("input `{name}`"), reason });
    }
    let shape_given = |input: &Input| given.iter().find(|(name, _)| *name == input.name).map(|(_, dims)| dims);
    let mut known = HashMap::new();
    for input in inputs {
        if let Some(dims) = shape_given(input) {
            input.bind(&Shape::new(dims)?, &mut known)?;
        }
    }
    let mut shapes = Vec::with_capacity(inputs.len());
    for input in inputs {
        if let Some(dims) = shape_given(input) {
            shapes.push(Shape::new(dims)?);
            continue;
        }
        let images = input.dims.len() == 4;
        let mut dims = Vec::with_capacity(input.dims.len());
        for (axis, dim) in input.dims.iter().enumerate() {
            let default = match axis {
                0 => batch,
                2 | 3 if images => size.unwrap_or(input.size)[axis - 2],
                _ => 1,
            };
            dims.push(match dim {
                Dim::Fixed(size) => *size,
                Dim::Any(name) if name.is_empty() => default,
                Dim::Any(name) => *known.entry(name.as_str()).or_insert(default),
            });
        }
        // What was asked for and is not to be had is an error, and not something else.
        if let (Some([h, w]), true) = (size, images) {
            dims.splice(2..4, [h, w]);
        }
        if batch != 1
            && let Some(first) = dims.first_mut()
            && shapes.is_empty()
        {
            *first = batch;
        }
        let shape = Shape::new(&dims)?;
        input.bind(&shape, &mut known)?;
        shapes.push(shape);
    }
    Ok(shapes)
}
