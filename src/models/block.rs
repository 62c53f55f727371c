//! The two residual blocks of He et al., Deep residual learning for image recognition (2015), with the stride in the 3×3
//! convolution as torchvision has it (ResNet v1.5).

use super::module::{Kind, Module};

/// The blocks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Block {
    /// 3×3 → 3×3, output as wide as the block.
    Basic,
    /// 1×1 → 3×3 → 1×1, output four times as wide as the block.
    Bottleneck,
}

impl Block {
    /// Output channels for one channel of the block's width.
    pub fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }

    /// The name of torchvision's class.
    pub fn class(self) -> &'static str {
        match self {
            Block::Basic => "BasicBlock",
            Block::Bottleneck => "Bottleneck",
        }
    }
}

/// What a block adds to its last BatchNorm's output.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Shortcut {
    /// Its input, through the 1×1 convolution and BatchNorm `downsample` when stride or width change (He et al.'s option B).
    Projection,
    /// Its input; when stride or width change, every second row and column of it, between as many zero channels on each side
    /// (option A).
    PadChannels,
    /// Nothing: a plain network.
    None,
}

/// A block's own numbers.
#[derive(Clone, Copy)]
pub(super) struct BlockArgs {
    pub block: Block,
    pub c: usize,
    pub planes: usize,
    pub stride: usize,
    pub groups: usize,
    pub width_per_group: usize,
    pub shortcut: Shortcut,
}

impl BlockArgs {
    pub fn outputs(&self) -> usize {
        self.planes * self.block.expansion()
    }

    fn reshapes(&self) -> bool {
        self.stride != 1 || self.c != self.outputs()
    }

    pub fn module(&self) -> Module {
        let &BlockArgs { block, c, planes, stride, groups, width_per_group, shortcut } = self;
        let outputs = self.outputs();
        let bn = |c, last_of_branch| Module::leaf(Kind::BatchNorm2d { c, last_of_branch });
        let width = planes * width_per_group / 64 * groups;
        let mut children = match block {
            Block::Basic => vec![
                ("conv1", Module::conv(c, planes, 3, stride, 1)),
                ("bn1", bn(planes, false)),
                ("relu", Module::leaf(Kind::Relu)),
                ("conv2", Module::conv(planes, planes, 3, 1, 1)),
                ("bn2", bn(planes, true)),
            ],
            Block::Bottleneck => vec![
                ("conv1", Module::conv(c, width, 1, 1, 1)),
                ("bn1", bn(width, false)),
                ("conv2", Module::conv(width, width, 3, stride, groups)),
                ("bn2", bn(width, false)),
                ("conv3", Module::conv(width, outputs, 1, 1, 1)),
                ("bn3", bn(outputs, true)),
                ("relu", Module::leaf(Kind::Relu)),
            ],
        };
        if shortcut == Shortcut::Projection && self.reshapes() {
            children.push(("downsample", Module::sequential([Module::conv(c, outputs, 1, stride, 1), Module::batch_norm(outputs)])));
        }
        let kind = Kind::Block { name: block.class(), shortcut };
        Module::of(kind, children.into_iter().map(|(name, module)| (name.to_string(), module)))
    }
}
