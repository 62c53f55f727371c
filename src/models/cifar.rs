//! The CIFAR-10 networks of He et al., Deep residual learning for image recognition (2015), section 4.2: a 3×3 stem, three
//! stages of n BasicBlocks of 16, 32 and 64 channels, global average pool, linear; 6n + 2 weighted layers.

use super::block::{Block, BlockArgs, Shortcut};
use super::module::{Kind, Module};

/// A network of the family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cifar {
    /// Blocks in each stage, at least 1: n of the depth 6n + 2.
    pub blocks: usize,
    /// Option A ([`Shortcut::PadChannels`]), option B ([`Shortcut::Projection`]), or none.
    pub shortcut: Shortcut,
}

impl Cifar {
    /// 6n + 2, or as much of it as a number holds.
    pub fn depth(&self) -> usize {
        self.blocks.saturating_mul(6).saturating_add(2)
    }

    pub(super) fn module(&self, classes: usize) -> Module {
        let mut children = vec![
            ("conv1".to_string(), Module::conv(3, 16, 3, 1, 1)),
            ("bn1".into(), Module::batch_norm(16)),
            ("relu".into(), Module::leaf(Kind::Relu)),
        ];
        let mut c = 16;
        for stage in 0..3 {
            let blocks = (0..self.blocks).map(|i| {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let (planes, shortcut) = (16 << stage, self.shortcut);
                let args = BlockArgs { block: Block::Basic, c, planes, stride, groups: 1, width_per_group: 64, shortcut };
                c = planes;
                args.module()
            });
            children.push((format!("layer{}", stage + 1), Module::sequential(blocks)));
        }
        children.push(("avgpool".into(), Module::leaf(Kind::AdaptiveAvgPool2d { size: [1, 1] })));
        children.push(("fc".into(), Module::leaf(Kind::Linear { features: c, outputs: classes, normal_init: None })));
        Module::of(Kind::Network { name: "CifarNet", mean_before: None }, children)
    }
}
