//! The names that publishers give to the tensors of one network, brought to torchvision's.

/// Whether a tensor is one of Hugging Face's `ResNetForImageClassification`, as all others of its file are then.
pub(super) fn is_hugging_face(name: &str) -> bool {
    without_wrapper(name).starts_with("resnet.")
}

fn without_wrapper(name: &str) -> &str {
    name.strip_prefix("module.").unwrap_or(name)
}

/// The torchvision name of a tensor: of Hugging Face's `ResNetForImageClassification`, of timm's VGG, of CIFAR networks that
/// call their last layer `linear` and their projections `shortcut`, and of any saved from `DataParallel`.
pub(super) fn torchvision_name(name: &str, from_hugging_face: bool) -> String {
    let name = without_wrapper(name);
    if let Some(rest) = name.strip_prefix("classifier.1.").filter(|_| from_hugging_face) {
        return format!("fc.{rest}");
    }
    if let Some(rest) = name.strip_prefix("resnet.") {
        return hugging_face(rest).unwrap_or_else(|| name.into());
    }
    const PREFIXES: [(&str, &str); 4] =
        [("linear.", "fc."), ("pre_logits.fc1.", "classifier.0."), ("pre_logits.fc2.", "classifier.3."), ("head.fc.", "classifier.6.")];
    for (from, to) in PREFIXES {
        if let Some(rest) = name.strip_prefix(from) {
            return format!("{to}{rest}");
        }
    }
    name.replace(".shortcut.", ".downsample.")
}

/// `embedder.embedder.…`, `encoder.stages.S.layers.B.layer.L.…`, `encoder.stages.S.layers.B.shortcut.…`; each ends in
/// `convolution` or `normalization` and the tensor.
fn hugging_face(rest: &str) -> Option<String> {
    let parts: Vec<&str> = rest.split('.').collect();
    match parts.as_slice() {
        ["embedder", "embedder", module, tensor] => Some(format!("{}1.{tensor}", short(module)?)),
        ["encoder", "stages", stage, "layers", block, "shortcut", module, tensor] => {
            let index = if short(module)? == "conv" { 0 } else { 1 };
            Some(format!("layer{}.{block}.downsample.{index}.{tensor}", stage.parse::<u32>().ok()?.checked_add(1)?))
        }
        ["encoder", "stages", stage, "layers", block, "layer", layer, module, tensor] => {
            let (stage, layer) = (stage.parse::<u32>().ok()?.checked_add(1)?, layer.parse::<u32>().ok()?.checked_add(1)?);
            Some(format!("layer{stage}.{block}.{}{layer}.{tensor}", short(module)?))
        }
        _ => None,
    }
}

fn short(module: &str) -> Option<&'static str> {
    match module {
        "convolution" => Some("conv"),
        "normalization" => Some("bn"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_hugging_face, torchvision_name};

    #[test]
    fn names_of_every_publisher_become_torchvisions() {
        for (name, expected) in [
            ("conv1.weight", "conv1.weight"),
            ("module.layer1.0.bn1.bias", "layer1.0.bn1.bias"),
            ("linear.bias", "fc.bias"),
            ("layer2.0.shortcut.1.running_var", "layer2.0.downsample.1.running_var"),
            ("resnet.embedder.embedder.convolution.weight", "conv1.weight"),
            ("resnet.embedder.embedder.normalization.running_mean", "bn1.running_mean"),
            ("resnet.encoder.stages.0.layers.2.layer.1.convolution.weight", "layer1.2.conv2.weight"),
            ("resnet.encoder.stages.3.layers.0.layer.2.normalization.bias", "layer4.0.bn3.bias"),
            ("resnet.encoder.stages.1.layers.0.shortcut.convolution.weight", "layer2.0.downsample.0.weight"),
            ("resnet.encoder.stages.1.layers.0.shortcut.normalization.weight", "layer2.0.downsample.1.weight"),
            ("classifier.1.weight", "classifier.1.weight"),
            ("features.1.conv.0.0.weight", "features.1.conv.0.0.weight"),
            ("pre_logits.fc2.weight", "classifier.3.weight"),
            ("head.fc.bias", "classifier.6.bias"),
            ("resnet.encoder.stages.x.layers.0.layer.0.convolution.weight", "resnet.encoder.stages.x.layers.0.layer.0.convolution.weight"),
        ] {
            assert_eq!(torchvision_name(name, is_hugging_face(name)), expected);
        }
        // The last layer of a MobileNetV2 and of Hugging Face's ResNet.
        assert_eq!(torchvision_name("module.classifier.1.bias", true), "fc.bias");
        assert!(is_hugging_face("module.resnet.embedder.embedder.convolution.weight") && !is_hugging_face("classifier.1.bias"));
    }
}
