//! Which architecture a file holds, read from the names and shapes of its tensors.

use super::{Arch, Block, Cifar, MAX_BLOCKS, MobileNet, ResNet, Shortcut, Vgg};
use crate::error::{Error, Result};

/// Looks up a tensor's dimensions by its torchvision name.
pub(super) fn infer<'a>(tensors: &dyn Fn(&str) -> Option<&'a [usize]>) -> Result<Arch> {
    if let Some(first) = tensors("conv1.weight") {
        return residual(first, tensors);
    }
    if tensors("features.0.weight").is_some() {
        return vgg(tensors);
    }
    if tensors("features.0.0.weight").is_some() {
        return mobilenet(tensors);
    }
    let looked_for = "conv1.weight (ResNet), features.0.weight (VGG) or features.0.0.weight (MobileNetV2)";
    refuse(format!("no tensor named {looked_for}; name the architecture if the file is one of these"))
}

fn refuse<T>(reason: String) -> Result<T> {
    let known: Vec<&str> = Arch::NAMED.iter().map(|(name, _)| *name).collect();
    Err(Error::Arch { found: "of the file".into(), reason: format!("{reason}. Known: {}", known.join(", ")) })
}

fn residual<'a>(first: &[usize], tensors: &dyn Fn(&str) -> Option<&'a [usize]>) -> Result<Arch> {
    let blocks = |stage: usize| (0..=MAX_BLOCKS).take_while(|i| tensors(&format!("layer{stage}.{i}.conv1.weight")).is_some()).count();
    match *first {
        [64, 3, 7, 7] => {
            let layers = [blocks(1), blocks(2), blocks(3), blocks(4)];
            let projects = (1..=4).any(|stage| tensors(&format!("layer{stage}.0.downsample.0.weight")).is_some());
            let shortcut = if projects { Shortcut::Projection } else { Shortcut::None };
            let (block, groups, width_per_group) = match (tensors("layer1.0.conv2.weight"), tensors("layer1.0.conv3.weight")) {
                // Width = groups · width_per_group in the first stage, where planes are 64.
                (Some(&[width, per_group, 3, 3]), Some(_)) if per_group > 0 => (Block::Bottleneck, width / per_group, per_group),
                (Some(_), None) => (Block::Basic, 1, 64),
                (found, _) => return refuse(format!("layer1.0.conv2.weight has shape {found:?}, expected [OC, C/groups, 3, 3]")),
            };
            Ok(Arch::ResNet(ResNet { block, layers, groups, width_per_group, shortcut }))
        }
        [16, 3, 3, 3] => {
            let shortcut = if tensors("layer2.0.downsample.0.weight").is_some() {
                Shortcut::Projection
            } else {
                // Names and shapes of option A and plain networks are the same; only the former are published without a name.
                Shortcut::PadChannels
            };
            Ok(Arch::Cifar(Cifar { blocks: blocks(1), shortcut }))
        }
        _ => refuse(format!("conv1.weight has shape {first:?}, expected [64, 3, 7, 7] (ImageNet) or [16, 3, 3, 3] (CIFAR)")),
    }
}

fn vgg<'a>(tensors: &dyn Fn(&str) -> Option<&'a [usize]>) -> Result<Arch> {
    // A BatchNorm stands where the ReLU would be.
    let batch_norm = tensors("features.1.running_mean").is_some();
    let layer = if batch_norm { 3 } else { 2 };
    let mut layers = [0usize; 5];
    let mut index = 0;
    for count in &mut layers {
        while *count <= MAX_BLOCKS && tensors(&format!("features.{index}.weight")).is_some_and(|d| d.len() == 4) {
            *count += 1;
            index += layer;
        }
        // The max-pool.
        index += 1;
    }
    Ok(Arch::Vgg(Vgg { layers, batch_norm }))
}

/// The width whose rounded channels are those of the stem, of every stage and of the last convolution: the paper's and torchvision's
/// own before any other, since several may round to the same.
fn mobilenet<'a>(tensors: &dyn Fn(&str) -> Option<&'a [usize]>) -> Result<Arch> {
    let channels = |feature: usize| {
        // The last convolution of a block stands behind one or two others.
        let names = ["conv.2", "conv.1", "0"].map(|layer| format!("features.{feature}.{layer}.weight"));
        names.iter().find_map(|name| tensors(name).filter(|dims| dims.len() == 4)).and_then(|dims| dims.first().copied())
    };
    let found = MobileNet::last_features().map(channels);
    let published = [100, 140, 130, 75, 50, 35, 25, 10];
    let fits = |width: &usize| MobileNet { width: *width }.widths().map(Some) == found;
    match published.into_iter().chain(1..=MobileNet::MAX_WIDTH).find(fits) {
        Some(width) => Ok(Arch::MobileNet(MobileNet { width })),
        None => refuse(format!("features have {found:?} channels, which is no width of MobileNetV2")),
    }
}
