//! Packed weights as they are stored in files: their order, and what is refused.

mod harness;

use harness::{bits, buffer_of, dense_of, noise};
use std::sync::Arc;
use stridewise_kernels::conv::{Algorithm, Conv, PACKING_VERSION, PackedWeights, Residual, Winograd};
use stridewise_kernels::{AlignedBuffer, ConvProblem, Error, Geometry, Halo, Inline, KernelTable, Layout, SharedSlice};

const CASES: [(&str, Algorithm, Layout); 8] = [
    ("n1c3h9w9o40k7s2p3", Algorithm::Direct, Layout::Nchw),
    ("n1c3h9w9o20k3d2", Algorithm::Direct, Layout::Nchw),
    ("n1c37h5w6o150k3p1", Algorithm::Direct, Layout::Nchw16c),
    ("n1c48h5w6o48k3p1g3", Algorithm::Im2colGemm, Layout::Nchw16c),
    ("n1c40h6w7o40k3p1g40", Algorithm::Depthwise, Layout::Nchw16c),
    ("n1c32h6w7o32k3p1g8", Algorithm::Grouped, Layout::Nchw16c),
    ("n1c37h9w7o150k3p1", Algorithm::Winograd(Winograd::F2), Layout::Nchw16c),
    ("n1c37h9w7o150k3p1", Algorithm::Winograd(Winograd::F4), Layout::Nchw16c),
];

fn pack(table: &'static KernelTable, problem: &ConvProblem, algorithm: Algorithm, layout: Layout) -> PackedWeights {
    PackedWeights::pack(table, problem, algorithm, layout, &noise(2, problem.weight_len()), Some(&noise(3, problem.oc)), &Inline).unwrap()
}

/// A copy of packed weights that shares its memory, as a mapped file does.
fn shared(values: &[f32]) -> SharedSlice {
    let mut buffer = AlignedBuffer::zeros(values.len()).unwrap();
    buffer.copy_from_slice(values);
    let owner = Arc::new(buffer);
    // SAFETY: the buffer lies on the heap, where nobody writes to it, until its last owner is dropped.
    unsafe { SharedSlice::new(&owner, owner.clone()) }
}

/// A change of what is packed makes stored files unreadable: it needs another version, and then other hashes here.
#[test]
fn the_order_of_packed_weights_changes_only_with_its_version() {
    let mut widths = Vec::new();
    for table in KernelTable::all() {
        if widths.contains(&table.max_blocks()) {
            continue;
        }
        widths.push(table.max_blocks());
        let hashes = CASES.map(|(text, algorithm, layout)| {
            let packed = pack(table, &text.parse().unwrap(), algorithm, layout);
            packed
                .data()
                .iter()
                .fold(0xcbf2_9ce4_8422_2325u64, |hash, v| (hash ^ u64::from(v.to_bits())).wrapping_mul(0x0000_0100_0000_01b3))
        });
        let expected = match (PACKING_VERSION, table.max_blocks()) {
            (1, 1) => [
                0xa8c804b67367f813,
                0xb8e265ec1b6a0faf,
                0x9f012ce6d271e6b5,
                0x9974c7020229a627,
                0xdfa2898aa10ea063,
                0x5b982017f98e682f,
                0x49105d9f73198fc4,
                0x94641d16057b2f97,
            ],
            (1, 4) => [
                0x1e7dcff19751e123,
                0x73d648e2d061c6bf,
                0x17c8fc61b9ba83e5,
                0x9974c7020229a627,
                0xdfa2898aa10ea063,
                0x5b982017f98e682f,
                0x0e717615c528774c,
                0x7799a7fcc8bf40af,
            ],
            other => panic!("no hashes for packing version and blocks {other:?}: {hashes:#x?}"),
        };
        assert_eq!(hashes, expected, "for tiles of {} blocks; found {hashes:#x?}", table.max_blocks());
    }
    assert!(!widths.is_empty());
}

/// Also on every other instruction set whose tiles are as wide.
#[test]
fn weights_in_someone_elses_memory_give_the_same_bits() {
    for (text, algorithm, layout) in CASES {
        let p: ConvProblem = text.parse().unwrap();
        let [oh, ow] = p.output();
        let from = Geometry::new(layout, [p.n, p.c, p.h, p.w], algorithm.required_halo(&p)).unwrap();
        let to = Geometry::new(Layout::Nchw16c, [p.n, p.oc, oh, ow], Halo::NONE).unwrap();
        let input = buffer_of(&from, &noise(1, p.n * p.c * p.h * p.w));
        let run = |packed: PackedWeights| {
            let conv = Conv::new(p, algorithm, from, to, None, Arc::new(packed), (f32::NEG_INFINITY, f32::INFINITY), 1).unwrap();
            let (mut output, mut scratch) = (vec![f32::NAN; to.len()], vec![0.0; conv.scratch_per_thread()]);
            conv.run(&Inline, &input, Residual::None, &mut output, &mut scratch).unwrap();
            bits(&dense_of(&to, &output))
        };
        for table in KernelTable::all() {
            let packed = pack(table, &p, algorithm, layout);
            let data = shared(packed.data());
            let expected = run(packed);
            for other in KernelTable::all().into_iter().filter(|other| other.max_blocks() == table.max_blocks()) {
                let stored = PackedWeights::from_packed(other, &p, algorithm, layout, data.clone(), Some(&noise(3, p.oc))).unwrap();
                assert_eq!(run(stored), expected, "{text}, packed for {}, run on {}", table.isa(), other.isa());
            }
        }
    }
}

#[test]
fn stored_weights_of_another_length_or_place_are_refused() {
    let table = KernelTable::all()[0];
    for (text, algorithm, layout) in CASES {
        let p: ConvProblem = text.parse().unwrap();
        let packed = pack(table, &p, algorithm, layout);
        let from =
            |data: SharedSlice, bias: Option<&[f32]>| PackedWeights::from_packed(table, &p, algorithm, layout, data, bias).map(|_| ());
        let values = packed.data();
        for wrong in [&values[..values.len() - 1], &[values, &[0.0]].concat(), &[]] {
            assert!(matches!(from(shared(wrong), None), Err(Error::Length { what: "packed convolution weights", .. })), "{text}");
        }
        assert!(matches!(from(shared(values), Some(&[0.0])), Err(Error::Length { what: "convolution bias", .. })), "{text}");
        let mut buffer = AlignedBuffer::zeros(values.len() + 1).unwrap();
        buffer[1..].copy_from_slice(values);
        let owner = Arc::new(buffer);
        // SAFETY: as in `shared`.
        let askew = unsafe { SharedSlice::new(&owner[1..], owner.clone()) };
        let error = from(askew, None).unwrap_err().to_string();
        assert!(error.contains("64 bytes"), "{error}");
    }
}
