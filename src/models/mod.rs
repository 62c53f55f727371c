//! Architectures as code: each is a tree of modules, and with weights it becomes a graph.

mod block;
mod cifar;
mod forward;
mod infer;
pub mod init;
mod mobilenet;
mod module;
mod resnet;
mod vgg;

#[cfg(feature = "builtin-model")]
pub(crate) mod builtin;

pub use block::{Block, Shortcut};
pub use cifar::Cifar;
pub use forward::WeightSource;
pub use mobilenet::MobileNet;
pub use module::{Init, Kind, Module, Parameter};
pub use resnet::ResNet;
pub use vgg::Vgg;

use crate::error::{Error, Result};
use crate::graph::Graph;

/// An architecture, of any depth and width that its family has. Those with a name of their own are constants here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Arch {
    /// ResNet, wide ResNet, ResNeXt and plain networks for 224×224 images.
    ResNet(ResNet),
    /// ResNet and plain networks for CIFAR's 32×32 images.
    Cifar(Cifar),
    /// VGG with or without BatchNorm.
    Vgg(Vgg),
    /// MobileNetV2.
    MobileNet(MobileNet),
}

/// The longest network of a family: far beyond any that was ever trained, and small enough that no count overflows.
const MAX_BLOCKS: usize = 1000;

macro_rules! named {
    ($($(#[$doc:meta])* $constant:ident, $name:literal = $value:expr;)*) => {
        #[allow(non_upper_case_globals)]
        impl Arch {
            $($(#[$doc])* pub const $constant: Arch = $value;)*

            /// Every architecture that has a name, with it.
            pub const NAMED: &[(&str, Arch)] = &[$(($name, $value)),*];
        }
    };
}

const fn cifar(depth: usize, shortcut: Shortcut) -> Arch {
    Arch::Cifar(Cifar { blocks: (depth - 2) / 6, shortcut })
}

const fn vgg(layers: [usize; 5], batch_norm: bool) -> Arch {
    Arch::Vgg(Vgg { layers, batch_norm })
}

const RESNET18: ResNet = ResNet::new(Block::Basic, [2, 2, 2, 2]);
const RESNET34: ResNet = ResNet::new(Block::Basic, [3, 4, 6, 3]);
const RESNET50: ResNet = ResNet::new(Block::Bottleneck, [3, 4, 6, 3]);

named! {
    /// ResNet-18
    ResNet18, "resnet18" = Arch::ResNet(RESNET18);
    /// ResNet-34
    ResNet34, "resnet34" = Arch::ResNet(RESNET34);
    /// ResNet-50
    ResNet50, "resnet50" = Arch::ResNet(RESNET50);
    /// ResNet-101
    ResNet101, "resnet101" = Arch::ResNet(ResNet::new(Block::Bottleneck, [3, 4, 23, 3]));
    /// ResNet-152
    ResNet152, "resnet152" = Arch::ResNet(ResNet::new(Block::Bottleneck, [3, 8, 36, 3]));
    /// Wide ResNet-50-2
    WideResNet50_2, "wide_resnet50_2" = Arch::ResNet(RESNET50.with_groups(1, 128));
    /// ResNeXt-50 32×4d
    ResNext50_32x4d, "resnext50_32x4d" = Arch::ResNet(RESNET50.with_groups(32, 4));
    /// ResNet-18 without shortcuts
    Plain18, "plain18" = Arch::ResNet(RESNET18.plain());
    /// ResNet-34 without shortcuts
    Plain34, "plain34" = Arch::ResNet(RESNET34.plain());
    /// CIFAR ResNet-20, option B
    ResNet20Cifar, "resnet20-cifar10" = cifar(20, Shortcut::Projection);
    /// CIFAR ResNet-32, option B
    ResNet32Cifar, "resnet32-cifar10" = cifar(32, Shortcut::Projection);
    /// CIFAR ResNet-44, option B
    ResNet44Cifar, "resnet44-cifar10" = cifar(44, Shortcut::Projection);
    /// CIFAR ResNet-56, option B
    ResNet56Cifar, "resnet56-cifar10" = cifar(56, Shortcut::Projection);
    /// CIFAR ResNet-110, option B
    ResNet110Cifar, "resnet110-cifar10" = cifar(110, Shortcut::Projection);
    /// CIFAR ResNet-20, option A
    ResNet20CifarA, "resnet20a-cifar10" = cifar(20, Shortcut::PadChannels);
    /// CIFAR ResNet-32, option A
    ResNet32CifarA, "resnet32a-cifar10" = cifar(32, Shortcut::PadChannels);
    /// CIFAR ResNet-44, option A
    ResNet44CifarA, "resnet44a-cifar10" = cifar(44, Shortcut::PadChannels);
    /// CIFAR ResNet-56, option A
    ResNet56CifarA, "resnet56a-cifar10" = cifar(56, Shortcut::PadChannels);
    /// CIFAR ResNet-110, option A
    ResNet110CifarA, "resnet110a-cifar10" = cifar(110, Shortcut::PadChannels);
    /// CIFAR plain-20
    Plain20Cifar, "plain20-cifar10" = cifar(20, Shortcut::None);
    /// CIFAR plain-32
    Plain32Cifar, "plain32-cifar10" = cifar(32, Shortcut::None);
    /// CIFAR plain-44
    Plain44Cifar, "plain44-cifar10" = cifar(44, Shortcut::None);
    /// CIFAR plain-56
    Plain56Cifar, "plain56-cifar10" = cifar(56, Shortcut::None);
    /// CIFAR plain-110
    Plain110Cifar, "plain110-cifar10" = cifar(110, Shortcut::None);
    /// VGG-11
    Vgg11, "vgg11" = vgg([1, 1, 2, 2, 2], false);
    /// VGG-13
    Vgg13, "vgg13" = vgg([2, 2, 2, 2, 2], false);
    /// VGG-16
    Vgg16, "vgg16" = vgg([2, 2, 3, 3, 3], false);
    /// VGG-19
    Vgg19, "vgg19" = vgg([2, 2, 4, 4, 4], false);
    /// VGG-11 with BatchNorm
    Vgg11Bn, "vgg11_bn" = vgg([1, 1, 2, 2, 2], true);
    /// VGG-13 with BatchNorm
    Vgg13Bn, "vgg13_bn" = vgg([2, 2, 2, 2, 2], true);
    /// VGG-16 with BatchNorm
    Vgg16Bn, "vgg16_bn" = vgg([2, 2, 3, 3, 3], true);
    /// VGG-19 with BatchNorm
    Vgg19Bn, "vgg19_bn" = vgg([2, 2, 4, 4, 4], true);
    /// MobileNetV2
    MobileNetV2, "mobilenet_v2" = Arch::MobileNet(MobileNet { width: 100 });
}

impl Arch {
    /// H and W of the images that the family is made for.
    pub fn image_size(&self) -> [usize; 2] {
        match self {
            Arch::Cifar(_) => [32, 32],
            Arch::ResNet(_) | Arch::Vgg(_) | Arch::MobileNet(_) => [224, 224],
        }
    }

    /// Classes that the family is trained for: 1,000 of ImageNet or 10 of CIFAR-10.
    pub fn default_classes(&self) -> usize {
        match self {
            Arch::Cifar(_) => 10,
            Arch::ResNet(_) | Arch::Vgg(_) | Arch::MobileNet(_) => 1000,
        }
    }

    /// The name of the linear layer whose rows are the classes.
    pub(crate) fn classifier(&self) -> &'static str {
        match self {
            Arch::Cifar(_) | Arch::ResNet(_) => "fc",
            Arch::Vgg(_) => "classifier.6",
            Arch::MobileNet(_) => "classifier.1",
        }
    }

    /// The tree of modules, for `classes` classes.
    ///
    /// # Errors
    /// When a number is out of range: no block in a stage, over a thousand, a bottleneck of no width, groups that do not divide
    /// the channels, an option A shortcut for ImageNet, a width of 0 or over ten times the paper's, or no class.
    pub fn module(&self, classes: usize) -> Result<Module> {
        let refuse = |reason: &str| Err(Error::Arch { found: self.to_string(), reason: reason.into() });
        let counts: &[usize] = match self {
            Arch::ResNet(r) => &r.layers,
            Arch::Cifar(c) => std::slice::from_ref(&c.blocks),
            Arch::Vgg(v) => &v.layers,
            Arch::MobileNet(_) => &[],
        };
        if counts.iter().any(|c| !(1..=MAX_BLOCKS).contains(c)) {
            return refuse("each stage has 1 to 1000 blocks or layers");
        }
        if !(1..=1 << 24).contains(&classes) {
            return refuse(&format!("{classes} classes; expected 1 to 16,777,216"));
        }
        let module = match self {
            Arch::ResNet(r) => {
                if !(1..=4096).contains(&r.groups) || !(1..=65536).contains(&r.width_per_group) {
                    return refuse("expected 1 to 4096 groups of a width of 1 to 65536");
                }
                if r.block == Block::Basic && (r.groups, r.width_per_group) != (1, 64) {
                    return refuse("a BasicBlock has one group of width 64");
                }
                if r.shortcut == Shortcut::PadChannels {
                    return refuse("option A shortcuts are for the CIFAR networks");
                }
                r.module(classes)
            }
            Arch::Cifar(c) => c.module(classes),
            Arch::Vgg(v) => v.module(classes),
            Arch::MobileNet(m) => {
                if !(1..=MobileNet::MAX_WIDTH).contains(&m.width) {
                    return refuse("expected a width of 1 to 1000 hundredths");
                }
                m.module(classes)
            }
        };
        Ok(module)
    }

    /// The graph of the network, not yet optimised, with weights from `source`.
    ///
    /// # Errors
    /// As [`Arch::module`], and when `source` fails.
    pub fn graph(&self, classes: usize, source: &mut dyn WeightSource) -> Result<Graph> {
        forward::graph(&self.to_string(), &self.module(classes)?, 3, self.image_size(), source)
    }

    /// The architecture that has these tensors, by names and shapes.
    pub(crate) fn infer<'a>(tensors: impl Fn(&str) -> Option<&'a [usize]>) -> Result<Arch> {
        infer::infer(&tensors)
    }

    /// Its name in [`Arch::NAMED`], if it has one.
    pub fn name(&self) -> Option<&'static str> {
        Arch::NAMED.iter().find(|(_, arch)| arch == self).map(|(name, _)| *name)
    }
}

/// The name, or the numbers of an architecture that has none.
impl std::fmt::Display for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.name(), self) {
            (Some(name), _) => f.write_str(name),
            (None, Arch::ResNet(r)) => {
                let plain = if r.shortcut == Shortcut::None { ", plain" } else { "" };
                write!(f, "resnet({} {:?}, {} groups of {}{plain})", r.block.class(), r.layers, r.groups, r.width_per_group)
            }
            (None, Arch::Cifar(c)) => {
                let prefix = if c.shortcut == Shortcut::None { "plain" } else { "resnet" };
                let option = if c.shortcut == Shortcut::PadChannels { "a" } else { "" };
                write!(f, "{prefix}{}{option}-cifar10", c.depth())
            }
            (None, Arch::MobileNet(m)) => write!(f, "mobilenet_v2({} hundredths wide)", m.width),
            (None, Arch::Vgg(v)) => write!(f, "vgg({:?}{})", v.layers, if v.batch_norm { ", batch norm" } else { "" }),
        }
    }
}

impl std::str::FromStr for Arch {
    type Err = Error;

    /// Reads one of the names in [`Arch::NAMED`].
    fn from_str(text: &str) -> Result<Arch> {
        let found = Arch::NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        found.map(|(_, arch)| *arch).ok_or_else(|| {
            let names: Vec<&str> = Arch::NAMED.iter().map(|(name, _)| *name).collect();
            Error::Arch { found: format!("`{text}`"), reason: format!("unknown; known: {}", names.join(", ")) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(arch: Arch) -> usize {
        let list = arch.module(arch.default_classes()).unwrap().parameters().unwrap();
        list.iter().filter(|p| p.trained).map(|p| p.shape.elements()).sum()
    }

    #[test]
    fn parameter_counts_are_torchvisions_and_he_et_als() {
        for (arch, expected) in [
            (Arch::ResNet18, 11_689_512),
            (Arch::ResNet34, 21_797_672),
            (Arch::ResNet50, 25_557_032),
            (Arch::ResNet101, 44_549_160),
            (Arch::ResNet152, 60_192_808),
            (Arch::WideResNet50_2, 68_883_240),
            (Arch::ResNext50_32x4d, 25_028_904),
            (Arch::Vgg11, 132_863_336),
            (Arch::Vgg13, 133_047_848),
            (Arch::Vgg16, 138_357_544),
            (Arch::Vgg19, 143_667_240),
            (Arch::Vgg11Bn, 132_868_840),
            (Arch::Vgg16Bn, 138_365_992),
            (Arch::Vgg19Bn, 143_678_248),
            (Arch::MobileNetV2, 3_504_872),
            (Arch::MobileNet(MobileNet { width: 35 }), 1_677_128),
            (Arch::MobileNet(MobileNet { width: 140 }), 6_108_776),
            (Arch::ResNet20CifarA, 269_722),
            (Arch::ResNet20Cifar, 272_474),
            (Arch::Plain20Cifar, 269_722),
            (Arch::ResNet110CifarA, 1_727_962),
        ] {
            assert_eq!(parameters(arch), expected, "{arch}");
        }
    }

    #[test]
    fn every_architecture_is_inferred_from_its_own_names_and_shapes() {
        let wide = Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 2, 1, 3]).with_groups(8, 14));
        let odd = Arch::Cifar(Cifar { blocks: 4, shortcut: Shortcut::Projection });
        let narrow = Arch::MobileNet(MobileNet { width: 75 });
        for arch in Arch::NAMED.iter().map(|(_, arch)| *arch).chain([wide, odd, narrow]) {
            let list = arch.module(7).unwrap().parameters().unwrap();
            let found = Arch::infer(|name| list.iter().find(|p| p.name == name).map(|p| p.shape.dims())).unwrap();
            // A plain CIFAR network has the names and shapes of option A.
            let expected = match arch {
                Arch::Cifar(c) if c.shortcut == Shortcut::None => Arch::Cifar(Cifar { shortcut: Shortcut::PadChannels, ..c }),
                other => other,
            };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn names_round_trip_and_unknown_ones_list_what_is_known() {
        for (name, arch) in Arch::NAMED {
            assert_eq!(name.parse::<Arch>().unwrap(), *arch);
            assert_eq!(arch.to_string(), *name);
        }
        let error = "resnet51".parse::<Arch>().unwrap_err().to_string();
        assert!(error.contains("`resnet51`") && error.contains("resnext50_32x4d"), "{error}");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let resnet = |r: ResNet| Arch::ResNet(r).module(10).is_err();
        assert!(resnet(ResNet::new(Block::Bottleneck, [3, 0, 6, 3])));
        assert!(resnet(ResNet::new(Block::Bottleneck, [3, 1 << 40, 6, 3])));
        assert!(resnet(ResNet::new(Block::Bottleneck, [3, 4, 6, 3]).with_groups(0, 64)));
        assert!(resnet(ResNet::new(Block::Basic, [2, 2, 2, 2]).with_groups(2, 64)));
        assert!([0, 1001, usize::MAX].into_iter().all(|width| Arch::MobileNet(MobileNet { width }).module(10).is_err()));
        assert!(Arch::ResNet50.module(0).is_err());
        assert!(Arch::ResNet50.module(usize::MAX).is_err());
        // The refusal says how deep the network would be.
        let cifar = Arch::Cifar(Cifar { blocks: usize::MAX, shortcut: Shortcut::None });
        let vgg = Vgg { layers: [usize::MAX; 5], batch_norm: false };
        assert!(cifar.module(10).unwrap_err().to_string().contains(&usize::MAX.to_string()));
        assert!(Arch::Vgg(vgg).module(10).is_err() && vgg.depth() == usize::MAX);
    }

    #[test]
    fn the_tree_prints_as_pytorch_prints_it() {
        let text = Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 1, 1, 1])).module(1000).unwrap().to_string();
        let expected = "ResNet(
  (conv1): Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False)
  (bn1): BatchNorm2d(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
  (relu): ReLU(inplace=True)
  (maxpool): MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=False)
  (layer1): Sequential(
    (0): Bottleneck(
      (conv1): Conv2d(64, 64, kernel_size=(1, 1), stride=(1, 1), bias=False)
";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with(
            "  (avgpool): AdaptiveAvgPool2d(output_size=(1, 1))\n  (fc): Linear(in_features=2048, out_features=1000, bias=True)\n)"
        ));
    }
}
