//! VGG of Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition (2014), table 1, columns A,
//! B, D and E, as torchvision builds them: convolutions with bias, average pool to 7×7, three linear layers.

use super::module::{Kind, Module};

/// A network of the family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vgg {
    /// Convolutions in each of the five stages.
    pub layers: [usize; 5],
    /// Whether a BatchNorm follows each convolution.
    pub batch_norm: bool,
}

/// Output channels of the stages.
const WIDTHS: [usize; 5] = [64, 128, 256, 512, 512];

impl Vgg {
    /// Convolutions and linear layers, or as many as a number holds.
    pub fn depth(&self) -> usize {
        self.layers.iter().fold(3, |sum, layers| sum.saturating_add(*layers))
    }

    pub(super) fn module(&self, classes: usize) -> Module {
        let mut features = Vec::new();
        let mut c = 3;
        for (layers, oc) in self.layers.into_iter().zip(WIDTHS) {
            for _ in 0..layers {
                let (kernel, stride, padding) = ([3, 3], [1, 1], [1, 1]);
                features.push(Module::leaf(Kind::Conv2d { c, oc, kernel, stride, padding, groups: 1, bias: true }));
                if self.batch_norm {
                    features.push(Module::batch_norm(oc));
                }
                features.push(Module::leaf(Kind::Relu));
                c = oc;
            }
            features.push(Module::leaf(Kind::MaxPool2d { kernel: 2, stride: 2, padding: 0 }));
        }
        let linear = |features, outputs| Module::leaf(Kind::Linear { features, outputs, normal_init: Some(0.01) });
        let classifier = [
            linear(c * 7 * 7, 4096),
            Module::leaf(Kind::Relu),
            Module::leaf(Kind::Dropout { p: 0.5 }),
            linear(4096, 4096),
            Module::leaf(Kind::Relu),
            Module::leaf(Kind::Dropout { p: 0.5 }),
            linear(4096, classes),
        ];
        let children = [
            ("features".to_string(), Module::sequential(features)),
            ("avgpool".into(), Module::leaf(Kind::AdaptiveAvgPool2d { size: [7, 7] })),
            ("classifier".into(), Module::sequential(classifier)),
        ];
        Module::of(Kind::Network { name: "VGG", mean_before: None }, children)
    }
}
