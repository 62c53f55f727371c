//! `max_memory` is held before memory is asked for, and is kept.

use super::measured::{alone, peak_of};
use stridewise::models::{Block, ResNet};
use stridewise::{Arch, Error, Model, SessionOptions, Threads};

/// Beside arena, scratch and packed weights: the plan itself, tables of offsets, messages.
const OVERHEAD: usize = 4 << 20;

/// Bytes of the largest layer's weights. While they are packed they may be there twice more: as they are read, and scaled by a
/// BatchNorm.
fn largest(model: &Model) -> usize {
    let classes = model.arch().unwrap().default_classes();
    let parameters = model.arch().unwrap().module(classes).unwrap().parameters().unwrap();
    4 * parameters.iter().map(|p| p.shape.elements()).max().unwrap()
}

#[test]
fn max_memory_is_respected_before_allocation() {
    let _alone = alone();
    let model = Model::random(Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 1, 1, 1])), 0).unwrap();
    let weights: usize =
        4 * model.arch().unwrap().module(1000).unwrap().parameters().unwrap().iter().map(|p| p.shape.elements()).sum::<usize>();
    let most = OVERHEAD + 2 * largest(&model);
    for threads in [1, 2] {
        for (batch, side) in
            [(1, 64), (1, 224), (7, 64), (1 << 20, 224), (1, 1 << 20), (usize::MAX / 3, 224), (1, usize::MAX / 2), (1 << 40, 1 << 20)]
        {
            for max_memory in [0, 1, 1 << 20, weights / 2, weights + (4 << 20)] {
                let options =
                    SessionOptions { threads: Threads::Count(threads), batch, size: Some([side; 2]), max_memory, ..Default::default() };
                let (result, peak) = peak_of(|| model.session(&options).map(|s| s.memory_required() + s.weight_bytes()));
                let context = format!("{batch} of {side}x{side} within {max_memory} bytes");
                match result {
                    Ok(used) => assert!(used <= max_memory && peak <= max_memory + most, "{context}: {used} used, {peak} at the peak"),
                    Err(error) => {
                        assert!(
                            matches!(error, Error::TooLarge { .. } | Error::Shape { .. } | Error::Graph { .. }),
                            "{context}: {error:?}"
                        );
                        assert!(peak <= OVERHEAD, "{context}: {peak} bytes were asked for before it was refused");
                    }
                }
            }
        }
    }
}

/// What a session says that it needs is what it asks for.
#[test]
fn memory_required_is_what_is_asked_for() {
    let _alone = alone();
    for arch in [Arch::ResNet18, Arch::MobileNetV2, Arch::ResNet20Cifar, Arch::Plain20Cifar] {
        let model = Model::random(arch, 0).unwrap();
        let options = SessionOptions { size: Some([96, 96]), ..Default::default() };
        let (session, peak) = peak_of(|| model.session(&options).unwrap());
        let said = session.memory_required() + session.weight_bytes();
        assert!(peak >= said && peak <= said + OVERHEAD + 2 * largest(&model), "{arch}: {said} bytes said, {peak} asked for");
    }
}
