//! Problems, weights and buffers that a convolution refuses: by a typed error, and before it asks for memory.

mod harness;

use std::sync::Arc;
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual, Winograd};
use stridewise_kernels::{ConvProblem, Error, Geometry, Halo, Inline, KernelTable, Layout, Unary, reference};

/// The result of `work`, during which no allocation was larger than 64 KiB.
fn frugal<T>(context: &str, work: impl FnOnce() -> T) -> T {
    let (result, largest) = harness::largest_allocation(work);
    assert!(largest <= 64 * 1024, "{context}: {largest} bytes were asked for");
    result
}

const NONE: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

fn problem(text: &str) -> ConvProblem {
    text.parse().unwrap()
}

fn table() -> &'static KernelTable {
    KernelTable::all()[0]
}

/// Direct where it can.
fn algorithm(p: &ConvProblem, layout: Layout) -> Algorithm {
    if p.is_depthwise() && layout == Layout::Nchw16c { Algorithm::Depthwise } else { Algorithm::Direct }
}

fn packed(p: &ConvProblem, layout: Layout) -> Arc<PackedWeights> {
    Arc::new(PackedWeights::pack(table(), p, algorithm(p, layout), layout, &vec![0.5; p.weight_len()], None, &Inline).unwrap())
}

fn halo(p: &ConvProblem) -> Halo {
    Halo { top: p.pads[0], left: p.pads[1], bottom: p.pads[2], right: p.pads[3] }
}

fn geometry(layout: Layout, dims: [usize; 4], halo: Halo) -> Geometry {
    Geometry::new(layout, dims, halo).unwrap()
}

/// Buffers of a problem: input with the halo it needs, and output.
fn buffers(p: &ConvProblem, layout: Layout) -> (Geometry, Geometry) {
    let [oh, ow] = p.output();
    (geometry(layout, [p.n, p.c, p.h, p.w], halo(p)), geometry(Layout::Nchw16c, [p.n, p.oc, oh, ow], Halo::NONE))
}

#[track_caller]
fn assert_refused(result: Result<Conv, Error>, context: &str) {
    let error = result.map(|_| ()).expect_err(context);
    assert!(matches!(error, Error::Problem { .. }), "{context}: {error}");
}

#[test]
fn problem_strings_round_trip_and_malformed_ones_are_refused() {
    for text in [
        "n1c1h1w1o1k1",
        "n5c640h1w1o70k1",
        "n1c3h9w9o20k3x5p1x2",
        "n1c4h5w5o5k5p4x3x2x1",
        "n1c8h12w11o24k3p0x3x4x1d2x3",
        "n2c33h5w7o33k3s2p1g33",
    ] {
        let p: ConvProblem = text.parse().unwrap();
        assert_eq!(p.to_string().parse::<ConvProblem>().unwrap(), p);
    }
    for bad in [
        "",
        "c1",
        "n1c1h1w1o1k0",
        "n0c1h1w1o1k1",
        "n1c1h1w1o1k2",
        "n1c1h1w1o1k1s0",
        "n1c1h1w1o1k1g2",
        "n1c1h1w1o1k1q1",
        "n1n1c1h1w1o1k1",
        "n1c1h1w1o1k1x1x1",
        "n1c99999999999999999999h1w1o1k1",
        "n1c4294967296h4294967296w4294967296o1k1",
        "n1c1h1w1o1k1p9223372036854775807",
        "n1c1h1w1o1k9223372036854775807d9223372036854775807",
        "é",
    ] {
        assert!(bad.parse::<ConvProblem>().is_err(), "{bad}");
    }
}

/// The fields are public: a problem need not have been read from a string.
#[test]
fn malformed_problems_are_refused_everywhere() {
    let right = problem("n1c16h4w4o16k3p1");
    let (input, output) = buffers(&right, Layout::Nchw16c);
    let weights = packed(&right, Layout::Nchw16c);
    let changes: [fn(&mut ConvProblem); 18] = [
        |p| p.n = 0,
        |p| p.c = 0,
        |p| p.h = 0,
        |p| p.oc = 0,
        |p| p.kernel = [0, 3],
        |p| p.kernel = [3, 9],
        |p| p.stride = [1, 0],
        |p| p.dilation = [0, 1],
        |p| p.dilation = [usize::MAX, 1],
        // An axis of one output makes no step, but places one behind it.
        |p| p.stride = [usize::MAX, 1],
        |p| p.stride = [1, usize::MAX / 16 + 1],
        |p| p.groups = 0,
        |p| p.groups = 3,
        |p| p.pads = [usize::MAX; 4],
        |p| p.pads = [0, isize::MAX as usize, 0, 0],
        |p| p.n = usize::MAX,
        |p| p.c = usize::MAX,
        |p| p.oc = usize::MAX - 3,
    ];
    for change in changes {
        let mut p = right;
        change(&mut p);
        let context = format!("{p:?}");
        frugal(&context, || {
            assert!(matches!(p.validate(), Err(Error::Problem { .. })), "{context}");
            assert!(
                matches!(PackedWeights::bytes_needed(table(), &p, Algorithm::Direct, Layout::Nchw), Err(Error::Problem { .. })),
                "{context}"
            );
            assert!(PackedWeights::pack(table(), &p, Algorithm::Direct, Layout::Nchw, &[], None, &Inline).is_err(), "{context}");
            assert_refused(Conv::new(p, Algorithm::Direct, input, output, None, weights.clone(), NONE, 1), &context);
        });
    }
}

/// Whatever the fields are, valid or not.
#[test]
fn the_numbers_of_any_problem_can_be_asked_for() {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut size = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        [0, 1, 2, 3, 16, usize::MAX / 2, usize::MAX - 1, usize::MAX][(state >> 40) as usize % 8]
    };
    for _ in 0..20_000 {
        let p = ConvProblem {
            n: size(),
            c: size(),
            h: size(),
            w: size(),
            oc: size(),
            kernel: [size(), size()],
            stride: [size(), size()],
            pads: [size(), size(), size(), size()],
            dilation: [size(), size()],
            groups: size(),
        };
        let numbers = (p.output(), p.macs(), p.weight_len(), p.is_depthwise());
        let halos = Algorithm::ALL.map(|algorithm| algorithm.required_halo(&p));
        let oracle = reference::convolution(&p, &[1.0], &[1.0], None);
        if p.validate().is_err() {
            assert!(matches!(oracle, Err(Error::Problem { .. })), "{p:?} {numbers:?} {halos:?}");
        }
    }
    let numbers = |text: &str, change: fn(&mut ConvProblem)| {
        let mut p = problem(text);
        change(&mut p);
        (p.output(), p.macs(), p.weight_len())
    };
    assert_eq!(numbers("c2h5w5o3k3", |_| ()), ([3, 3], 486, 54));
    assert_eq!(numbers("c2h5w5o3k3", |p| p.stride = [1, 0]), ([3, 0], 0, 54));
    assert_eq!(numbers("c2h5w5o3k3", |p| p.h = 2), ([0, 3], 0, 54));
    assert_eq!(numbers("c2h5w5o3k3", |p| p.kernel = [0, 3]), ([0, 3], 0, 0));
    assert_eq!(numbers("c2h5w5o3k3", |p| p.groups = 0), ([3, 3], 0, 0));
    assert_eq!(numbers("c2h5w5o3k3", |p| p.n = usize::MAX).1, u64::MAX);
    assert_eq!(numbers("c2h5w5o3k3", |p| p.c = usize::MAX).2, usize::MAX);
}

#[test]
fn the_oracle_refuses_slices_of_another_length() {
    let p = problem("n2c3h4w4o5k3");
    let (input, weight, bias) = (vec![1.0; 96], vec![1.0; 135], vec![0.5; 5]);
    assert_eq!(reference::convolution(&p, &input, &weight, Some(&bias)).unwrap(), [27.5; 40]);
    for (input, weight, bias) in
        [(&input[1..], &weight[..], Some(&bias[..])), (&input, &weight[1..], None), (&input, &weight, Some(&bias[1..]))]
    {
        assert!(matches!(reference::convolution(&p, input, weight, bias), Err(Error::Length { .. })));
    }
}

/// Valid as far as products go, and far too large: weights that fill the address space, lists of a billion segments or blocks.
#[test]
#[cfg(target_pointer_width = "64")]
fn huge_weights_are_refused_before_memory_is_asked_for() {
    for text in [
        "n1c1h40000000w40000000o1k40000000",
        "n1c16h1000000w1000000o16k1000000",
        "n1c1h1w1o1099511627776k1",
        "n1c1099511627776h1w1o1k1",
        "n1c268435456h1w1o536870912k1g268435456",
        "n1c536870912h1w1o536870912k1g536870912",
    ] {
        let p = problem(text);
        for layout in [Layout::Nchw, Layout::Nchw16c] {
            frugal(text, || {
                let bytes = PackedWeights::bytes_needed(table(), &p, algorithm(&p, layout), layout);
                assert!(matches!(bytes, Err(Error::Problem { .. })), "{text} {layout:?}: {bytes:?}");
                let packed = PackedWeights::pack(table(), &p, algorithm(&p, layout), layout, &[0.0; 8], None, &Inline).map(|_| ());
                assert!(matches!(packed, Err(Error::Length { .. })), "{text} {layout:?}: {packed:?}");
            });
        }
    }
}

/// An image may be as large as the address space: a plan costs nothing, and the slices are not that long.
#[test]
#[cfg(target_pointer_width = "64")]
fn huge_images_are_planned_and_their_slices_refused() {
    let p = problem("n1c16h16777216w8388608o16k3p1");
    let small = packed(&problem("n1c16h4w4o16k3p1"), Layout::Nchw16c);
    let (input, output) = buffers(&p, Layout::Nchw16c);
    for (algorithm, threads) in [Algorithm::Direct, Algorithm::Im2colGemm].into_iter().flat_map(|a| [1, 3, usize::MAX].map(|t| (a, t))) {
        frugal("a huge image", || {
            let conv = Conv::new(p, algorithm, input, output, None, small.clone(), NONE, threads).unwrap();
            let error = conv.run(&Inline, &[0.0; 64], Residual::None, &mut [0.0; 64], &mut []);
            assert!(matches!(error, Err(Error::Length { what: "convolution input", .. })), "{error:?}");
        });
    }
}

#[test]
fn weights_of_another_problem_are_refused() {
    let p = problem("n1c32h6w6o32k3p1");
    let (input, output) = buffers(&p, Layout::Nchw16c);
    let plan = |weights, algorithm| Conv::new(p, algorithm, input, output, None, weights, NONE, 1);
    assert!(plan(packed(&p, Layout::Nchw16c), Algorithm::Direct).is_ok());
    assert!(plan(packed(&problem("n9c32h7w5o32k3s2p1"), Layout::Nchw16c), Algorithm::Direct).is_ok(), "of another image size");
    for variant in [Winograd::F2, Winograd::F4].map(Algorithm::Winograd) {
        assert_refused(plan(packed(&p, Layout::Nchw16c), variant), "not transformed");
    }
    for other in [
        "n1c31h6w6o32k3p1",
        "n1c32h6w6o33k3p1",
        "n1c32h6w6o32k3x1p1",
        "n1c32h6w6o32k1",
        "n1c32h6w6o32k3p2d2",
        "n1c32h6w6o32k3p1g2",
        "n1c32h6w6o32k3p1g32",
    ] {
        for algorithm in [Algorithm::Direct, Algorithm::Im2colGemm, Algorithm::Depthwise] {
            assert_refused(plan(packed(&problem(other), Layout::Nchw16c), algorithm), &format!("{other} {algorithm:?}"));
        }
    }
    assert_refused(plan(packed(&p, Layout::Nchw), Algorithm::Direct), "of another layout");
    assert_refused(plan(packed(&p, Layout::Nchw16c), Algorithm::Depthwise), "no depthwise problem");

    let depthwise = problem("n1c32h6w6o32k3p1g32");
    let plan = |weights, algorithm| Conv::new(depthwise, algorithm, input, output, None, weights, NONE, 1);
    assert!(plan(packed(&depthwise, Layout::Nchw16c), Algorithm::Depthwise).is_ok());
    assert_refused(plan(packed(&depthwise, Layout::Nchw16c), Algorithm::Direct), "packed for the depthwise kernel");
    assert_refused(plan(packed(&depthwise, Layout::Nchw16c), Algorithm::Im2colGemm), "packed for the depthwise kernel");
}

#[test]
fn weights_and_biases_of_other_lengths_are_refused() {
    let p = problem("n1c16h4w4o16k3p1");
    let pack = |weights: usize, bias: Option<usize>| {
        let bias = bias.map(|b| vec![0.0; b]);
        PackedWeights::pack(table(), &p, Algorithm::Direct, Layout::Nchw16c, &vec![0.0; weights], bias.as_deref(), &Inline).map(|_| ())
    };
    let len = p.weight_len();
    assert_eq!(pack(len, Some(16)), Ok(()));
    for (weights, bias) in [(len - 1, None), (len + 1, None), (0, None)] {
        assert_eq!(pack(weights, bias), Err(Error::Length { what: "convolution weights", expected: len, found: weights }));
    }
    for bias in [0, 15, 17] {
        assert_eq!(pack(len, Some(bias)), Err(Error::Length { what: "convolution bias", expected: 16, found: bias }));
    }
}

#[test]
fn buffers_of_another_problem_are_refused() {
    let p = problem("n2c17h6w5o20k3s2p1");
    let (input, output) = buffers(&p, Layout::Nchw16c);
    let weights = packed(&p, Layout::Nchw16c);
    let plan = |input, output, residual| Conv::new(p, Algorithm::Im2colGemm, input, output, residual, weights.clone(), NONE, 1);
    assert!(plan(input, output, Some(output)).is_ok());
    for dims in [[1, 17, 6, 5], [2, 16, 6, 5], [2, 17, 5, 5], [2, 17, 6, 6]] {
        assert_refused(plan(geometry(Layout::Nchw16c, dims, Halo::NONE), output, None), &format!("input {dims:?}"));
    }
    for dims in [[1, 20, 3, 3], [2, 21, 3, 3], [2, 20, 6, 3], [2, 20, 3, 5]] {
        let other = geometry(Layout::Nchw16c, dims, Halo::NONE);
        assert_refused(plan(input, other, None), &format!("output {dims:?}"));
        assert_refused(plan(input, output, Some(other)), &format!("residual {dims:?}"));
    }
    let nchw = geometry(Layout::Nchw, [2, 20, 3, 3], Halo::NONE);
    assert_refused(plan(input, nchw, None), "an NCHW output");
    assert_refused(plan(input, output, Some(nchw)), "an NCHW residual");
    assert_refused(plan(geometry(Layout::Nchw, [2, 17, 6, 5], Halo::NONE), output, None), "an NCHW input for other weights");
}

/// Each side of the halo is needed, and each as far as the last window reaches and no farther.
#[test]
fn halos_that_do_not_hold_every_window_are_refused() {
    for (text, algorithm) in [("n1c16h6w6o16k5p2", Algorithm::Direct), ("n1c16h6w6o16k5p2g16", Algorithm::Depthwise)] {
        let p = problem(text);
        let (_, output) = buffers(&p, Layout::Nchw16c);
        let weights = packed(&p, Layout::Nchw16c);
        let plan = |halo| Conv::new(p, algorithm, geometry(Layout::Nchw16c, [1, 16, 6, 6], halo), output, None, weights.clone(), NONE, 1);
        let full = Halo { top: 2, left: 2, bottom: 2, right: 2 };
        assert!(plan(full).is_ok());
        assert!(plan(Halo { top: 9, left: 5, bottom: 3, right: 4 }).is_ok());
        for short in [Halo { top: 1, ..full }, Halo { left: 1, ..full }, Halo { bottom: 1, ..full }, Halo { right: 1, ..full }, Halo::NONE]
        {
            assert_refused(plan(short), &format!("{text} {short:?}"));
        }
    }
    // With stride 2 the last window ends inside the image: the padding behind it is never read.
    let p = problem("n1c16h6w6o16k3s2p1");
    let (_, output) = buffers(&p, Layout::Nchw16c);
    let input = geometry(Layout::Nchw16c, [1, 16, 6, 6], Halo { top: 1, left: 1, bottom: 0, right: 0 });
    assert!(Conv::new(p, Algorithm::Direct, input, output, None, packed(&p, Layout::Nchw16c), NONE, 1).is_ok());
}

#[test]
fn slices_and_residuals_that_were_not_planned_are_refused() {
    let p = problem("n1c16h4w4o16k3p1");
    let (input, output) = buffers(&p, Layout::Nchw16c);
    let wide = geometry(Layout::Nchw16c, [1, 16, 4, 4], Halo { top: 1, left: 0, bottom: 0, right: 0 });
    let plan = |algorithm, residual| Conv::new(p, algorithm, input, output, residual, packed(&p, Layout::Nchw16c), NONE, 1).unwrap();
    let data = vec![0.0; input.len() + 1];
    let mut to = vec![0.0; output.len() + 1];
    let conv = plan(Algorithm::Direct, None);
    let (i, o) = (input.len(), output.len());
    assert_eq!(conv.run(&Inline, &data[..i], Residual::None, &mut to[..o], &mut []), Ok(()));
    for (a, b) in [(i - 1, o), (i + 1, o), (i, o - 1), (i, o + 1), (0, 0)] {
        let result = conv.run(&Inline, &data[..a], Residual::None, &mut to[..b], &mut []);
        assert!(matches!(result, Err(Error::Length { .. })), "{a} {b}: {result:?}");
    }
    for residual in [Residual::InPlace, Residual::Buffer(&data[..o])] {
        let result = conv.run(&Inline, &data[..i], residual, &mut to[..o], &mut []);
        assert!(matches!(result, Err(Error::Problem { .. })), "{result:?}");
    }
    let with_residual = plan(Algorithm::Direct, Some(wide));
    for residual in [Residual::None, Residual::InPlace] {
        let result = with_residual.run(&Inline, &data[..i], residual, &mut to[..o], &mut []);
        assert!(matches!(result, Err(Error::Problem { .. })), "{result:?}");
    }
    for len in [0, o, wide.len() - 1] {
        let result = with_residual.run(&Inline, &data[..i], Residual::Buffer(&data[..len]), &mut to[..o], &mut []);
        assert!(matches!(result, Err(Error::Length { what: "convolution residual", .. })), "{result:?}");
    }
    let gathering = plan(Algorithm::Im2colGemm, None);
    let needed = gathering.scratch_per_thread();
    let mut scratch = vec![0.0; needed];
    assert_eq!(gathering.run(&Inline, &data[..i], Residual::None, &mut to[..o], &mut scratch), Ok(()));
    for (executor, len) in [(1, needed - 1), (1, 0), (2, needed), (3, needed)] {
        let result = gathering.run(&harness::Threads(executor), &data[..i], Residual::None, &mut to[..o], &mut scratch[..len]);
        assert_eq!(result, Err(Error::Length { what: "convolution scratch", expected: executor * needed, found: len }));
    }
}

#[test]
fn one_function_follows_a_convolution_and_no_second() {
    let p = problem("n1c16h5w5o16k1");
    let (input, output) = buffers(&p, Layout::Nchw16c);
    let mut conv = Conv::new(p, Algorithm::Direct, input, output, None, packed(&p, Layout::Nchw16c), NONE, 1).unwrap();
    conv.follow(Unary::Sigmoid, table()).unwrap();
    let mut to = vec![0.0; output.len()];
    conv.run(&Inline, &vec![0.0; input.len()], Residual::None, &mut to, &mut []).unwrap();
    assert!(to[..output.plane_stride()].iter().take(5 * 5 * 16).all(|y| *y == 0.5), "the sigmoid of zero");
    let error = conv.follow(Unary::Sigmoid, table()).unwrap_err();
    assert!(matches!(error, Error::Problem { .. }), "{error}");
}
