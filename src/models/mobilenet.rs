//! MobileNetV2 of Sandler et al., MobileNetV2: inverted residuals and linear bottlenecks (2018), as torchvision builds it: widths
//! rounded to multiples of 8, the strides of table 2, ReLU6.

use super::module::{Kind, Module};

/// A network of the family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MobileNet {
    /// Channels in hundredths of the paper's: torchvision's `width_mult` times 100.
    pub width: usize,
}

/// Expansion, output channels, blocks and stride of each stage.
const STAGES: [[usize; 4]; 7] = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]];

impl MobileNet {
    /// Ten times the paper's.
    pub(super) const MAX_WIDTH: usize = 1000;

    /// Channels of the layer that has `channels` of them at width 100: the nearest multiple of 8, but no less than nine tenths.
    fn channels(&self, channels: usize) -> usize {
        let rounded = ((channels * self.width + 400) / 100 / 8 * 8).max(8);
        if rounded * 1000 < 9 * channels * self.width { rounded + 8 } else { rounded }
    }

    /// Output channels of the stem, of each stage and of the last convolution.
    pub(super) fn widths(&self) -> [usize; 9] {
        let mut widths = [0; 9];
        widths[0] = self.channels(32);
        for (width, [_, channels, ..]) in widths[1..].iter_mut().zip(STAGES) {
            *width = self.channels(channels);
        }
        widths[8] = MobileNet { width: self.width.max(100) }.channels(1280);
        widths
    }

    /// The index in `features` of the stem, of the last block of each stage and of the last convolution.
    pub(super) fn last_features() -> [usize; 9] {
        let mut indices = [0; 9];
        for (stage, [_, _, blocks, _]) in STAGES.into_iter().enumerate() {
            indices[stage + 1] = indices[stage] + blocks;
        }
        indices[8] = indices[7] + 1;
        indices
    }

    pub(super) fn module(&self, classes: usize) -> Module {
        let widths = self.widths();
        let mut c = widths[0];
        let mut features = vec![conv_norm_activation(3, c, 3, 2, 1)];
        for ([expansion, _, blocks, stride], &oc) in STAGES.into_iter().zip(&widths[1..]) {
            for i in 0..blocks {
                features.push(inverted_residual(c, oc, if i == 0 { stride } else { 1 }, expansion));
                c = oc;
            }
        }
        features.push(conv_norm_activation(c, widths[8], 1, 1, 1));
        let classifier = [
            Module::leaf(Kind::Dropout { p: 0.2 }),
            Module::leaf(Kind::Linear { features: widths[8], outputs: classes, normal_init: Some(0.01) }),
        ];
        let children = [("features".to_string(), Module::sequential(features)), ("classifier".into(), Module::sequential(classifier))];
        Module::of(Kind::Network { name: "MobileNetV2", mean_before: Some("classifier") }, children)
    }
}

fn conv_norm_activation(c: usize, oc: usize, kernel: usize, stride: usize, groups: usize) -> Module {
    let children = [Module::conv(c, oc, kernel, stride, groups), Module::batch_norm(oc), Module::leaf(Kind::Relu6)];
    Module { kind: Kind::ConvNormActivation, ..Module::sequential(children) }
}

/// 1×1 to `expansion` times the channels, depthwise 3×3, 1×1 without activation; the input is added where it has the output's shape.
fn inverted_residual(c: usize, oc: usize, stride: usize, expansion: usize) -> Module {
    let hidden = c * expansion;
    let mut layers = Vec::new();
    if expansion != 1 {
        layers.push(conv_norm_activation(c, hidden, 1, 1, 1));
    }
    layers.push(conv_norm_activation(hidden, hidden, 3, stride, hidden));
    layers.push(Module::conv(hidden, oc, 1, 1, 1));
    layers.push(Module::batch_norm(oc));
    let kind = Kind::InvertedResidual { adds: stride == 1 && c == oc };
    Module::of(kind, [("conv".to_string(), Module::sequential(layers))])
}
