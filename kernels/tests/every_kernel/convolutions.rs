//! Problems for the kernels of convolutions: each with every epilogue, against the oracle.

use super::harness::{Guarded, assert_borders_are_zero, buffer_of, dense_of, noise};
use super::{blocked, count_problem};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual, Winograd};
use stridewise_kernels::testing::{GROUPS, SHAPES, TILE};
use stridewise_kernels::{ConvProblem, Geometry, Inline, Kernel, KernelTable, Layout, reference};

/// What is added, and the bounds of the activation.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Epilogue {
    Plain,
    Relu,
    ResidualRelu,
    InPlaceClamp,
}

impl Epilogue {
    const ALL: [Epilogue; 4] = [Epilogue::Plain, Epilogue::Relu, Epilogue::ResidualRelu, Epilogue::InPlaceClamp];

    fn bounds(self) -> (f32, f32) {
        match self {
            Epilogue::Plain => (f32::NEG_INFINITY, f32::INFINITY),
            Epilogue::Relu | Epilogue::ResidualRelu => (0.0, f32::INFINITY),
            Epilogue::InPlaceClamp => (-0.5, 0.75),
        }
    }

    fn adds(self) -> bool {
        matches!(self, Epilogue::ResidualRelu | Epilogue::InPlaceClamp)
    }
}

/// The oracle of a problem, and the sum of the magnitudes that each output is made of.
type Oracle = Rc<(Vec<f64>, Vec<f64>)>;

/// The oracle of a problem, which many kernels share and an emulated processor takes long for.
fn oracle(text: &str, compute: impl FnOnce() -> (Vec<f64>, Vec<f64>)) -> Oracle {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, Oracle>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| known.entry(text.into()).or_insert_with(|| Rc::new(compute())).clone())
}

/// Convolves with every epilogue and checks the results against the oracle.
fn convolve(table: &'static KernelTable, text: &str, algorithm: Algorithm, layout: Layout) -> Vec<f32> {
    let p: ConvProblem = text.parse().unwrap();
    let [oh, ow] = p.output();
    let input = noise(1, p.n * p.c * p.h * p.w);
    let (weight, bias) = (noise(2, p.weight_len()), noise(3, p.oc));
    let addend = noise(4, p.n * p.oc * oh * ow);
    let oracle = oracle(text, || {
        let absolute = |v: &[f32]| v.iter().map(|x| x.abs()).collect::<Vec<_>>();
        let exact = reference::convolution(&p, &input, &weight, Some(&bias)).unwrap();
        (exact, reference::convolution(&p, &absolute(&input), &absolute(&weight), Some(&absolute(&bias))).unwrap())
    });
    let (exact, magnitude) = &*oracle;

    let from = Geometry::new(layout, [p.n, p.c, p.h, p.w], algorithm.required_halo(&p)).unwrap();
    let to = blocked([p.n, p.oc, oh, ow]);
    let x = buffer_of(&from, &input);
    let packed = Arc::new(PackedWeights::pack(table, &p, algorithm, layout, &weight, Some(&bias), &Inline).unwrap());
    let mut all = Vec::new();
    for epilogue in Epilogue::ALL {
        let (low, high) = epilogue.bounds();
        let conv = Conv::new(p, algorithm, from, to, epilogue.adds().then_some(to), packed.clone(), (low, high), 1).unwrap();
        let residual = buffer_of(&to, &addend);
        let mut output = Guarded::filled(to.len(), f32::NAN);
        let given = match epilogue {
            Epilogue::ResidualRelu => Residual::Buffer(&residual),
            Epilogue::InPlaceClamp => {
                output.copy_from_slice(&residual);
                Residual::InPlace
            }
            _ => Residual::None,
        };
        let mut scratch = Guarded::filled(conv.scratch_per_thread(), f32::NAN);
        conv.run(&Inline, &x, given, &mut output, &mut scratch).unwrap();
        count_problem();
        assert_borders_are_zero(&to, &output, text);
        let found = dense_of(&to, &output);
        for (i, value) in found.iter().enumerate() {
            let add = if epilogue.adds() { f64::from(addend[i]) } else { 0.0 };
            let expected = (exact[i] + add).max(f64::from(low)).min(f64::from(high));
            let error = (f64::from(*value) - expected).abs();
            assert!(
                error <= 600.0 * f64::from(f32::EPSILON) * (magnitude[i] + add.abs()),
                "{} {algorithm:?} {layout:?} {epilogue:?} {text}: output {i} is {value}, not {expected}",
                table.name()
            );
        }
        all.extend(found);
    }
    all
}

/// Pixels and channels of a tile, from its kernel's name: `conv-6x64-avx512`.
pub(super) fn tile_of(kernel: &Kernel) -> (usize, usize) {
    let shape = kernel.name.split('-').nth(1).and_then(|s| s.split_once('x')).expect("a shape in the name");
    (shape.0.parse().unwrap(), shape.1.parse().unwrap())
}

/// A last block that is not full by one lane and by all but one, and a K in one chunk and in two.
pub(super) fn tile(table: &'static KernelTable, kernel: &Kernel) -> Vec<f32> {
    let (pixels, channels) = tile_of(kernel);
    let problems = [
        format!("n1c19h1w{pixels}o{channels}k1"),
        format!("n1c61h1w{pixels}o{}k3p1", channels - 3),
        format!("n1c2h1w{pixels}o{}k1", channels - 15),
        format!("n1c33h1w{pixels}o{}k1", channels - 1),
    ];
    let mut found = Vec::new();
    for text in problems {
        for layout in [Layout::Nchw16c, Layout::Nchw] {
            found.extend(convolve(table, &text, Algorithm::Direct, layout));
            found.extend(convolve(table, &text, Algorithm::Im2colGemm, layout));
        }
    }
    found
}

/// Every width of the last tile, behind none, one and two whole ones.
pub(super) fn depthwise(table: &'static KernelTable, kernel: &Kernel) -> Vec<f32> {
    let (k, s) = SHAPES.iter().find(|(k, s)| kernel.name.contains(&format!("-k{k}s{s}-"))).copied().unwrap_or((4, 3));
    let problem = |ow: usize| format!("n1c35h5w{}o35k{k}s{s}p1g35", (ow - 1) * s + k - 2);
    (1..=3 * TILE).flat_map(|ow| convolve(table, &problem(ow), Algorithm::Depthwise, Layout::Nchw16c)).collect()
}

/// Likewise.
pub(super) fn groups(table: &'static KernelTable, kernel: &Kernel) -> Vec<f32> {
    let g = GROUPS.iter().find(|g| kernel.name.contains(&format!("-{g}-"))).expect("a width in the name");
    let problem = |ow: usize| format!("n1c40h5w{}o40k3x2s1x2p1g{}", 2 * ow - 1, 40 / g);
    (1..=3 * TILE).flat_map(|ow| convolve(table, &problem(ow), Algorithm::Grouped, Layout::Nchw16c)).collect()
}

/// Tiles that are whole, tiles that hang over the border by every number of pixels, and an image of one pixel.
pub(super) fn winograd(table: &'static KernelTable, variant: Winograd) -> Vec<f32> {
    let problems = ["n2c35h6w7o35k3p1", "n1c35h8w11o35k3p1", "n1c3h5w9o20k3p1", "n1c16h4w10o16k3p1", "n1c17h1w1o17k3p1"];
    problems.iter().flat_map(|text| convolve(table, text, Algorithm::Winograd(variant), Layout::Nchw16c)).collect()
}
