//! `inspect`: what a network is made of.

use crate::args::{ModelArgs, Size, TunedRunArgs, from_one};
use crate::inspect_onnx;
use crate::output::{Done, Failure, Output, grouped, lines, table};
use crate::skeleton;
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;
use stridewise::graph::{Graph, Node, Op};
use stridewise::{Arch, SessionOptions, Shape};

/// Show a network's modules, and its layers with shapes, parameters and multiply-accumulates
#[derive(Args)]
#[command(after_help = "\
Examples:
  stridewise inspect --arch resnet50              the module tree as PyTorch prints it, and a table of layers
  stridewise inspect --arch vgg16 --size 320x256  shapes and multiply-accumulates at another input size
  stridewise inspect --arch resnet50 --plan       what runs: fused steps, algorithms, tiles, and why")]
// Without a plan nothing is run.
#[command(mut_args(|arg| if RUN_ARGS.contains(&arg.get_id().as_str()) { arg.requires("plan") } else { arg }))]
pub struct Inspect {
    #[command(flatten)]
    model: ModelArgs,
    /// Input size: 224, or HxW [default: what the network was made for]
    #[arg(long, value_name = "HxW", conflicts_with = "shape")]
    size: Option<Size>,
    /// Images at once, for the shapes [default: 1]
    #[arg(long, value_name = "N", value_parser = from_one(), conflicts_with = "shape")]
    batch: Option<u32>,
    /// Only the module tree
    #[arg(long, conflicts_with_all = ["table", "plan"])]
    tree: bool,
    /// Only the table of layers
    #[arg(long, conflicts_with = "plan")]
    table: bool,
    /// The plan that a session runs instead: fused steps, algorithms, tiles, and why
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    run: TunedRunArgs,
}

/// Ids of the arguments of [`TunedRunArgs`].
const RUN_ARGS: [&str; 5] = ["threads", "isa", "numerics", "precision", "tuning"];

#[derive(Serialize)]
struct Report {
    arch: String,
    input_shape: Vec<usize>,
    output_shape: Vec<usize>,
    parameters: u64,
    convolutions: usize,
    macs: u64,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    op: &'static str,
    /// The op with its numbers, for people.
    #[serde(skip)]
    description: String,
    output_shape: Vec<usize>,
    parameters: u64,
    macs: u64,
}

#[derive(Serialize)]
struct PlanReport {
    model: String,
    isa: String,
    threads: usize,
    input_shape: Vec<usize>,
    /// Arena and scratch.
    memory_bytes: usize,
    arena_bytes: usize,
    scratch_bytes: usize,
    weight_bytes: usize,
    convolutions: usize,
    macs: u64,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    name: String,
    value: String,
    op: &'static str,
    problem: String,
    output_shape: Vec<usize>,
    macs: u64,
    algorithm: &'static str,
    tile: String,
    epilogue: String,
    partition: [usize; 2],
    reason: &'static str,
}

impl Inspect {
    pub fn execute(self, output: &Output) -> Done {
        if self.plan {
            return self.show_plan(output);
        }
        if let (Some(path), true) = (&self.model.model, self.model.is_onnx()) {
            let given =
                [(self.size.is_some(), "--size"), (self.batch.is_some(), "--batch"), (self.tree, "--tree"), (self.table, "--table")];
            if let Some((_, option)) = given.iter().find(|(given, _)| *given) {
                return Err(Failure::Usage(format!("{option}: of an ONNX file, without --plan, only --shape is read")));
            }
            return inspect_onnx::show(path, self.model.shapes(), output);
        }
        if let Some(shape) = self.model.shape.first() {
            let name = &shape.0.0;
            return Err(Failure::Usage(format!(
                "--shape {name}=…: without --plan it is for ONNX files; --size and --batch are for others"
            )));
        }
        let (arch, classes) = self.arch_and_classes()?;
        let module = arch.module(classes)?;
        let graph = skeleton::skeleton(arch, classes)?;
        let size = self.size.map_or(graph.input().size, |size| size.0);
        let shapes = graph.infer_shapes(self.images(), size)?;
        let parameters = module.parameters()?.iter().filter(|p| p.trained).map(|p| p.shape.elements() as u64).sum();
        let report = Report::new(arch, &graph, &shapes, parameters);
        output.print(&report, || match (self.tree, self.table) {
            (true, _) => format!("{module}\n"),
            (_, true) => report.text(),
            _ => format!("{module}\n\n{}", report.text()),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn images(&self) -> usize {
        self.batch.unwrap_or(1) as usize
    }

    /// From the file when there is one; an architecture by name needs no weights.
    fn arch_and_classes(&self) -> Result<(Arch, usize), Failure> {
        match (&self.model.model, self.model.arch) {
            (None, Some(arch)) => Ok((arch, arch.default_classes())),
            _ => {
                let model = self.model.load()?;
                let classes = skeleton::classes(&model)?;
                let unknown = || Failure::Usage("the model has no architecture that this program knows".into());
                Ok((model.arch().ok_or_else(unknown)?, classes))
            }
        }
    }

    fn show_plan(&self, output: &Output) -> Done {
        let model = self.model.load_any_weights()?;
        let options = self.run.options(self.images(), self.size.map(|s| s.0))?;
        let session = model.session(&SessionOptions { shapes: self.model.shapes(), ..options })?;
        let steps = session.steps();
        let report = PlanReport {
            model: self.model.describe(&model),
            isa: session.isa().to_string(),
            threads: session.threads(),
            input_shape: session.input_shape().dims().to_vec(),
            memory_bytes: session.memory_required(),
            arena_bytes: session.arena_bytes(),
            scratch_bytes: session.memory_required() - session.arena_bytes(),
            weight_bytes: session.weight_bytes(),
            convolutions: steps.iter().filter(|s| s.op == "Conv").count(),
            macs: steps.iter().map(|s| s.macs).sum(),
            steps: steps
                .into_iter()
                .map(|s| Step {
                    name: s.name,
                    value: s.value,
                    op: s.op,
                    problem: s.problem,
                    output_shape: s.output.dims().to_vec(),
                    macs: s.macs,
                    algorithm: s.algorithm,
                    tile: s.tile,
                    epilogue: s.epilogue,
                    partition: s.partition,
                    reason: s.reason,
                })
                .collect(),
        };
        output.print(&report, || format!("{}\n\n{}", report.model, session.explain()))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Report {
    fn new(arch: Arch, graph: &Graph, shapes: &[Shape], parameters: u64) -> Report {
        let shape = |value: stridewise::graph::ValueId| shapes.get(value.index()).map(|s| s.dims().to_vec()).unwrap_or_default();
        let layers: Vec<Layer> = graph
            .nodes()
            .iter()
            .map(|node| {
                let output_shape = shape(node.output);
                Layer {
                    name: node.name.clone(),
                    op: node.op.name(),
                    description: describe(node),
                    parameters: parameters_of(&node.op),
                    macs: macs(&node.op, &output_shape),
                    output_shape,
                }
            })
            .collect();
        Report {
            arch: arch.to_string(),
            input_shape: shape(graph.input().value),
            output_shape: graph.outputs().first().map(|v| shape(*v)).unwrap_or_default(),
            parameters,
            convolutions: layers.iter().filter(|l| l.op == "Conv").count(),
            macs: layers.iter().fold(0, |sum, l| u64::saturating_add(sum, l.macs)),
            layers,
        }
    }

    fn text(&self) -> String {
        let mut table = table(&["layer", "op", "output shape", ">parameters", ">MMAC"]);
        for layer in &self.layers {
            let nonzero = |number: u64, text: String| if number > 0 { text } else { String::new() };
            table.add_row([
                layer.name.clone(),
                layer.description.clone(),
                format!("{:?}", layer.output_shape),
                nonzero(layer.parameters, grouped(layer.parameters)),
                nonzero(layer.macs, format!("{:.2}", layer.macs as f64 / 1e6)),
            ]);
        }
        format!(
            "{}\n{}: {} parameters ({:.1} MB as float32), {} convolutions, {} for {:?} -> {:?}\n",
            lines(&table),
            self.arch,
            grouped(self.parameters),
            self.parameters as f64 * 4.0 / 1e6,
            self.convolutions,
            multiply_accumulates(self.macs),
            self.input_shape,
            self.output_shape
        )
    }
}

fn multiply_accumulates(macs: u64) -> String {
    match macs {
        m if m >= 1_000_000_000 => format!("{:.2} GMAC", m as f64 / 1e9),
        m => format!("{:.2} MMAC", m as f64 / 1e6),
    }
}

/// The op with its window and stride: `Conv 3x3/2`.
fn describe(node: &Node) -> String {
    let window = |[h, w]: [usize; 2], [sh, sw]: [usize; 2]| {
        let stride = match (sh, sw) {
            (1, 1) => String::new(),
            (h, w) if h == w => format!("/{h}"),
            (h, w) => format!("/{h}x{w}"),
        };
        format!("{h}x{w}{stride}")
    };
    let detail = match &node.op {
        Op::Conv { weight, attributes, .. } => match *weight.dims() {
            [_, _, kh, kw] if attributes.groups > 1 => format!("{} g{}", window([kh, kw], attributes.stride), attributes.groups),
            [_, _, kh, kw] => window([kh, kw], attributes.stride),
            _ => String::new(),
        },
        Op::MaxPool(pool) | Op::AveragePool { pool, .. } => window(pool.kernel, pool.stride),
        _ => String::new(),
    };
    if detail.is_empty() { node.op.name().into() } else { format!("{} {detail}", node.op.name()) }
}

/// What PyTorch counts: running statistics are buffers, not parameters.
fn parameters_of(op: &Op) -> u64 {
    let elements = |shape: Shape| shape.elements() as u64;
    match op {
        Op::Conv { weight, bias, .. } | Op::Gemm { weight, bias, .. } => {
            elements(weight.shape()) + bias.as_ref().map_or(0, |b| elements(b.shape()))
        }
        Op::BatchNormalization { scale, bias, .. } => elements(scale.shape()) + elements(bias.shape()),
        _ => 0,
    }
}

/// Multiply-accumulates: for each output element one for each weight that it depends on.
fn macs(op: &Op, output: &[usize]) -> u64 {
    let outputs = output.iter().fold(1u64, |product, &d| product.saturating_mul(d as u64));
    match op {
        Op::Conv { weight, .. } | Op::Gemm { weight, .. } => {
            let per_output: u64 = weight.dims().iter().skip(1).map(|&d| d as u64).product();
            outputs.saturating_mul(per_output)
        }
        _ => 0,
    }
}
