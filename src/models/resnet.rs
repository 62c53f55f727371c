//! ResNet for ImageNet as torchvision builds it: stem, max-pool, four stages of blocks, global average pool, linear.

use super::block::{Block, BlockArgs, Shortcut};
use super::module::{Kind, Module};

/// Everything that torchvision's `ResNet` constructor takes, but the number of classes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ResNet {
    /// The residual block.
    pub block: Block,
    /// Blocks in each of the four stages; each at least 1.
    pub layers: [usize; 4],
    /// Groups of the 3×3 convolutions of Bottlenecks.
    pub groups: usize,
    /// Width of a group in Bottlenecks of the first stage.
    pub width_per_group: usize,
    /// [`Shortcut::Projection`], or [`Shortcut::None`] for the plain network of the same depth.
    pub shortcut: Shortcut,
}

impl ResNet {
    /// A ResNet of one group of 64 with projection shortcuts.
    pub const fn new(block: Block, layers: [usize; 4]) -> ResNet {
        ResNet { block, layers, groups: 1, width_per_group: 64, shortcut: Shortcut::Projection }
    }

    /// The same, without shortcuts.
    pub const fn plain(self) -> ResNet {
        ResNet { shortcut: Shortcut::None, ..self }
    }

    /// The same with other Bottlenecks: ResNeXt has more groups, a wide ResNet a wider one.
    pub const fn with_groups(self, groups: usize, width_per_group: usize) -> ResNet {
        ResNet { groups, width_per_group, ..self }
    }

    pub(super) fn module(&self, classes: usize) -> Module {
        let mut children = vec![
            ("conv1".to_string(), Module::conv(3, 64, 7, 2, 1)),
            ("bn1".into(), Module::batch_norm(64)),
            ("relu".into(), Module::leaf(Kind::Relu)),
            ("maxpool".into(), Module::leaf(Kind::MaxPool2d { kernel: 3, stride: 2, padding: 1 })),
        ];
        let mut c = 64;
        for (stage, blocks) in self.layers.into_iter().enumerate() {
            let stage_blocks = (0..blocks).map(|i| {
                let args = BlockArgs {
                    block: self.block,
                    c,
                    planes: 64 << stage,
                    stride: if stage > 0 && i == 0 { 2 } else { 1 },
                    groups: self.groups,
                    width_per_group: self.width_per_group,
                    shortcut: self.shortcut,
                };
                c = args.outputs();
                args.module()
            });
            children.push((format!("layer{}", stage + 1), Module::sequential(stage_blocks)));
        }
        children.push(("avgpool".into(), Module::leaf(Kind::AdaptiveAvgPool2d { size: [1, 1] })));
        children.push(("fc".into(), Module::leaf(Kind::Linear { features: c, outputs: classes, normal_init: None })));
        Module::of(Kind::Network { name: "ResNet", mean_before: None }, children)
    }
}
