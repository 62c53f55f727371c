//! A network as the tree of modules that PyTorch shows: the one description from which parameter lists, graphs and
//! `inspect`'s tree are made.

use super::block::Shortcut;
use crate::error::Result;
use crate::tensor::Shape;

/// What a module is, with the constructor arguments that PyTorch prints. Pairs are H, W.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// `nn.Conv2d`
    Conv2d {
        /// C
        c: usize,
        /// OC
        oc: usize,
        /// KH, KW
        kernel: [usize; 2],
        /// Step between output pixels.
        stride: [usize; 2],
        /// Zeros on each side.
        padding: [usize; 2],
        /// Divides C and OC.
        groups: usize,
        /// Whether it has a bias.
        bias: bool,
    },
    /// `nn.BatchNorm2d`
    BatchNorm2d {
        /// C
        c: usize,
        /// The last of a residual branch: what `zero_init_residual` zeroes.
        last_of_branch: bool,
    },
    /// `nn.ReLU`
    Relu,
    /// `nn.ReLU6`
    Relu6,
    /// `nn.MaxPool2d` with a square window.
    MaxPool2d {
        /// Window size.
        kernel: usize,
        /// Step between windows.
        stride: usize,
        /// Padding on each side.
        padding: usize,
    },
    /// `nn.AdaptiveAvgPool2d`
    AdaptiveAvgPool2d {
        /// H, W of the output.
        size: [usize; 2],
    },
    /// `nn.Linear`
    Linear {
        /// Input features.
        features: usize,
        /// Output features.
        outputs: usize,
        /// Standard deviation of a normal initialisation with zero bias; `None` for PyTorch's default, uniform in ±1/√features.
        normal_init: Option<f64>,
    },
    /// `nn.Dropout`
    Dropout {
        /// Share of elements that training zeroes.
        p: f64,
    },
    /// `nn.Sequential`
    Sequential,
    /// torchvision's `Conv2dNormActivation`: its children in a chain.
    ConvNormActivation,
    /// torchvision's `InvertedResidual`: its child.
    InvertedResidual {
        /// Whether its input is added.
        adds: bool,
    },
    /// `BasicBlock` or `Bottleneck`: all children but `downsample` in a chain with a ReLU after each BatchNorm, the last one
    /// after the sum with the shortcut.
    Block {
        /// The class's name.
        name: &'static str,
        /// What is added.
        shortcut: Shortcut,
    },
    /// A whole network: its children in a chain, the image flattened before the first linear layer.
    Network {
        /// The class's name.
        name: &'static str,
        /// The child before which its `forward` function takes the mean of each channel and flattens, where no module does.
        mean_before: Option<&'static str>,
    },
}

/// A module and its children, by name and in PyTorch's order.
#[derive(Clone, PartialEq, Debug)]
pub struct Module {
    /// What it is.
    pub kind: Kind,
    /// What it is made of.
    pub children: Vec<(String, Module)>,
}

/// How a parameter starts.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Init {
    /// All elements equal.
    Constant(f32),
    /// γ of the last BatchNorm of a residual branch: 1, or 0 under `zero_init_residual`.
    BranchScale,
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in [−bound, bound).
    Uniform {
        /// The bound.
        bound: f64,
    },
}

/// A tensor that a network needs.
#[derive(Clone, PartialEq, Debug)]
pub struct Parameter {
    /// Its name in a PyTorch `state_dict`.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// How it starts in training.
    pub init: Init,
    /// False for the running statistics of BatchNorm, which PyTorch does not count as parameters.
    pub trained: bool,
}

impl Module {
    /// A module without children.
    pub fn leaf(kind: Kind) -> Module {
        Module { kind, children: Vec::new() }
    }

    /// A module of children in order.
    pub fn of(kind: Kind, children: impl IntoIterator<Item = (String, Module)>) -> Module {
        Module { kind, children: children.into_iter().collect() }
    }

    /// `nn.Sequential` of children named 0, 1, ….
    pub fn sequential(children: impl IntoIterator<Item = Module>) -> Module {
        Module::of(Kind::Sequential, children.into_iter().enumerate().map(|(i, m)| (i.to_string(), m)))
    }

    /// A square convolution without bias whose padding keeps the size at stride 1.
    pub fn conv(c: usize, oc: usize, kernel: usize, stride: usize, groups: usize) -> Module {
        let (kernel, stride, padding) = ([kernel; 2], [stride; 2], [kernel / 2; 2]);
        Module::leaf(Kind::Conv2d { c, oc, kernel, stride, padding, groups, bias: false })
    }

    /// A BatchNorm.
    pub fn batch_norm(c: usize) -> Module {
        Module::leaf(Kind::BatchNorm2d { c, last_of_branch: false })
    }

    /// Every tensor of the network, in the order of PyTorch's `state_dict`.
    ///
    /// # Errors
    /// When a size is zero or a product of sizes overflows.
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let mut list = Vec::new();
        self.collect_parameters("", &mut list)?;
        Ok(list)
    }

    fn collect_parameters(&self, path: &str, list: &mut Vec<Parameter>) -> Result<()> {
        let mut push = |suffix: &str, dims: &[usize], init: Init, trained: bool| -> Result<()> {
            list.push(Parameter { name: format!("{path}.{suffix}"), shape: Shape::new(dims)?.not_empty()?, init, trained });
            Ok(())
        };
        match self.kind {
            Kind::Conv2d { c, oc, kernel: [kh, kw], groups, bias, .. } => {
                // Kaiming normal, fan_out, gain of ReLU: He et al., Delving deep into rectifiers (2015), section 2.2.
                let fan_out = oc as f64 * kh as f64 * kw as f64;
                push("weight", &[oc, c / groups.max(1), kh, kw], Init::Normal { std: (2.0 / fan_out).sqrt() }, true)?;
                if bias {
                    push("bias", &[oc], Init::Constant(0.0), true)?;
                }
            }
            Kind::BatchNorm2d { c, last_of_branch } => {
                push("weight", &[c], if last_of_branch { Init::BranchScale } else { Init::Constant(1.0) }, true)?;
                push("bias", &[c], Init::Constant(0.0), true)?;
                push("running_mean", &[c], Init::Constant(0.0), false)?;
                push("running_var", &[c], Init::Constant(1.0), false)?;
            }
            Kind::Linear { features, outputs, normal_init } => {
                let bound = 1.0 / (features as f64).sqrt();
                let (weight, bias) = match normal_init {
                    Some(std) => (Init::Normal { std }, Init::Constant(0.0)),
                    None => (Init::Uniform { bound }, Init::Uniform { bound }),
                };
                push("weight", &[outputs, features], weight, true)?;
                push("bias", &[outputs], bias, true)?;
            }
            _ => {}
        }
        for (name, child) in &self.children {
            child.collect_parameters(&join(path, name), list)?;
        }
        Ok(())
    }

    fn write(&self, f: &mut std::fmt::Formatter<'_>, depth: usize) -> std::fmt::Result {
        let pair = |[a, b]: [usize; 2]| format!("({a}, {b})");
        match &self.kind {
            Kind::Conv2d { c, oc, kernel, stride, padding, groups, bias } => {
                write!(f, "Conv2d({c}, {oc}, kernel_size={}, stride={}", pair(*kernel), pair(*stride))?;
                if *padding != [0, 0] {
                    write!(f, ", padding={}", pair(*padding))?;
                }
                if *groups != 1 {
                    write!(f, ", groups={groups}")?;
                }
                f.write_str(if *bias { ")" } else { ", bias=False)" })
            }
            Kind::BatchNorm2d { c, .. } => write!(f, "BatchNorm2d({c}, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"),
            Kind::Relu => f.write_str("ReLU(inplace=True)"),
            Kind::Relu6 => f.write_str("ReLU6(inplace=True)"),
            Kind::MaxPool2d { kernel, stride, padding } => {
                write!(f, "MaxPool2d(kernel_size={kernel}, stride={stride}, padding={padding}, dilation=1, ceil_mode=False)")
            }
            Kind::AdaptiveAvgPool2d { size } => write!(f, "AdaptiveAvgPool2d(output_size={})", pair(*size)),
            Kind::Linear { features, outputs, .. } => write!(f, "Linear(in_features={features}, out_features={outputs}, bias=True)"),
            Kind::Dropout { p } => write!(f, "Dropout(p={p}, inplace=False)"),
            Kind::Sequential => self.write_children(f, "Sequential", depth),
            Kind::ConvNormActivation => self.write_children(f, "Conv2dNormActivation", depth),
            Kind::InvertedResidual { .. } => self.write_children(f, "InvertedResidual", depth),
            Kind::Block { name, .. } | Kind::Network { name, .. } => self.write_children(f, name, depth),
        }
    }

    fn write_children(&self, f: &mut std::fmt::Formatter<'_>, class: &str, depth: usize) -> std::fmt::Result {
        writeln!(f, "{class}(")?;
        for (name, child) in &self.children {
            write!(f, "{:1$}({name}): ", "", 2 * (depth + 1))?;
            child.write(f, depth + 1)?;
            writeln!(f)?;
        }
        write!(f, "{:1$})", "", 2 * depth)
    }
}

/// The tree as PyTorch prints it.
impl std::fmt::Display for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.write(f, 0)
    }
}

/// `path.name`, or `name` at the top.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}
