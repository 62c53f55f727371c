//! The names of the classes of the two data sets whose networks this crate knows.

use std::sync::OnceLock;

/// One name a line, in the order of torchvision's ImageNet weights.
static IMAGENET: &str = include_str!("imagenet_labels.txt");

static CIFAR10: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The names by the number of classes: 1,000 of ImageNet or 10 of CIFAR-10, in the order of the logits. `None` for other numbers.
pub fn labels(classes: usize) -> Option<&'static [&'static str]> {
    static LINES: OnceLock<Vec<&'static str>> = OnceLock::new();
    match classes {
        10 => Some(&CIFAR10),
        1000 => Some(LINES.get_or_init(|| IMAGENET.lines().collect())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_where_torchvision_has_them() {
        let imagenet = labels(1000).unwrap();
        assert_eq!(imagenet.len(), 1000);
        let some =
            [(0, "tench"), (1, "goldfish"), (207, "golden retriever"), (281, "tabby"), (487, "cellular telephone"), (999, "toilet tissue")];
        for (index, name) in some {
            assert_eq!(imagenet[index], name);
        }
        assert!(imagenet.iter().all(|name| !name.is_empty() && name.trim() == *name && name.is_ascii()));
        assert_eq!(labels(10).unwrap()[3], "cat");
        assert!(labels(0).is_none() && labels(100).is_none() && labels(1001).is_none());
    }
}
