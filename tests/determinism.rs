//! The same bits for any number of threads, on any instruction set, in any run.

use stridewise::models::{Block, Cifar, MobileNet, ResNet, Shortcut};
use stridewise::{Arch, Isa, Model, Numerics, SessionOptions, Shape, Tensor, ThreadPool, Threads};

/// One network of each kind, small enough for plain code.
fn networks() -> Vec<(Arch, [usize; 2])> {
    vec![
        (Arch::ResNet(ResNet::new(Block::Basic, [1, 1, 1, 1])), [49, 64]),
        (Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 1, 1, 1])), [64, 64]),
        (Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 1, 1, 1]).with_groups(32, 4)), [64, 40]),
        (Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 2, 1, 1]).plain()), [33, 33]),
        (Arch::Cifar(Cifar { blocks: 2, shortcut: Shortcut::PadChannels }), [32, 32]),
        (Arch::Cifar(Cifar { blocks: 2, shortcut: Shortcut::Projection }), [31, 33]),
        (Arch::Cifar(Cifar { blocks: 1, shortcut: Shortcut::None }), [32, 32]),
        (Arch::MobileNet(MobileNet { width: 35 }), [37, 32]),
    ]
}

fn input(batch: usize, [h, w]: [usize; 2]) -> Tensor<f32> {
    let shape = Shape::new(&[batch, 3, h, w]).unwrap();
    let values: Vec<f32> = (0..shape.elements()).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

fn bits(model: &Model, numerics: Numerics, isa: Isa, threads: Threads, x: &Tensor<f32>) -> Vec<u32> {
    let mut session = model.session(&SessionOptions { threads, isa: Some(isa), numerics, ..Default::default() }).unwrap();
    let y = session.run(x).unwrap();
    assert!(y.as_slice().iter().all(|v| v.is_finite()) && y.as_slice().iter().any(|v| *v != 0.0));
    y.as_slice().iter().map(|v| v.to_bits()).collect()
}

#[test]
fn logits_are_bitwise_equal_on_every_isa_and_for_any_number_of_threads() {
    for (arch, size) in networks() {
        let model = Model::random(arch, 1).unwrap();
        let x = input(2, size);
        let exact = bits(&model, Numerics::Exact, Isa::Portable, Threads::Count(1), &x);
        let expected = bits(&model, Numerics::Fast, Isa::Portable, Threads::Count(1), &x);
        for &isa in Isa::available() {
            // Every number of threads where it is quick.
            let counts = if Some(isa) == Isa::best().ok() { (1..=16).collect() } else { vec![1, 2, 5] };
            for threads in counts {
                let count = Threads::Count(threads);
                assert!(bits(&model, Numerics::Fast, isa, count.clone(), &x) == expected, "{arch}, fast on {isa} with {threads} threads");
                assert!(bits(&model, Numerics::Exact, isa, count, &x) == exact, "{arch}, exact on {isa} with {threads} threads");
            }
            let rayon = std::sync::Arc::new(rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap());
            let pool = Threads::Pool(ThreadPool::from_rayon(rayon));
            assert!(bits(&model, Numerics::Fast, isa, pool, &x) == expected, "{arch} on {isa} with the caller's pool");
        }
    }
    println!("instruction sets: {:?}", Isa::available());
}

#[test]
fn each_image_of_a_batch_has_the_bits_that_it_has_alone_in_exact() {
    let model = Model::random(Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 1, 1, 1])), 2).unwrap();
    let x = input(3, [56, 56]);
    let options = SessionOptions { threads: Threads::Count(2), numerics: Numerics::Exact, ..Default::default() };
    let mut session = model.session(&options).unwrap();
    let together = session.run(&x).unwrap();
    let image = 3 * 56 * 56;
    for n in 0..3 {
        let one = Tensor::from_slice(Shape::new(&[1, 3, 56, 56]).unwrap(), &x.as_slice()[n * image..(n + 1) * image]).unwrap();
        assert_eq!(session.run(&one).unwrap().as_slice(), &together.as_slice()[n * 1000..(n + 1) * 1000], "image {n}");
    }
}

#[test]
fn repeated_runs_and_other_sessions_of_the_model_give_the_same_bits() {
    let model = Model::random(Arch::ResNet20Cifar, 3).unwrap();
    let x = input(2, [32, 32]);
    let expected = bits(&model, Numerics::Fast, Isa::best().unwrap(), Threads::Count(1), &x);
    let pool = ThreadPool::new(2).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let options = SessionOptions { threads: Threads::Pool(pool.clone()), ..Default::default() };
                let mut session = model.session(&options).unwrap();
                for _ in 0..50 {
                    let y = session.run(&x).unwrap();
                    assert!(y.as_slice().iter().map(|v| v.to_bits()).eq(expected.iter().copied()));
                }
            });
        }
    });
}
