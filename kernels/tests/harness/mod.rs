//! What the tests of all kernels share: guarded buffers, threads, reproducible values, and indexing one element at a time.

// No test needs all of it.
#![allow(dead_code)]

pub mod bytes;
mod fences;
pub mod functions;
pub mod halves;

#[allow(unused_imports)]
pub use fences::{Guarded, Side, at_both_ends, fenced_at, largest_allocation};
use stridewise_kernels::{Executor, Geometry};

/// The calling thread, and others that are started for every run.
pub struct Threads(pub usize);

impl Executor for Threads {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for thread in 1..self.0 {
                scope.spawn(move || part(thread));
            }
            part(0);
        });
    }
}

/// Values in [-1, 1) that depend on nothing but the seed.
pub fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Noise with every kind of special value sown into it: NaN, infinities, both zeros, denormals, the largest number.
pub fn noise_with_specials(seed: u64, len: usize) -> Vec<f32> {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::from_bits(1), -f32::MIN_POSITIVE / 2.0, f32::MAX, f32::MIN];
    let mut values = noise(seed, len);
    for (i, special) in (0..len).step_by(7).zip(specials.iter().cycle()) {
        values[i] = *special;
    }
    values
}

/// The bits of each value, all NaNs alike: which of them an operation gives, processors do not agree on.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

/// Where an element lies in a buffer, as the geometry's documentation says.
pub fn index(g: &Geometry, [n, c, y, x]: [usize; 4]) -> usize {
    g.offset(n, c / g.layout().lanes(), y, x) + c % g.layout().lanes()
}

/// Calls `each` with the indices of every element of `[N, C, H, W]`, in NCHW order.
pub fn for_each([n, c, h, w]: [usize; 4], mut each: impl FnMut([usize; 4])) {
    for i in 0..n * c * h * w {
        each([i / (c * h * w), i / (h * w) % c, i / w % h, i % w]);
    }
}

/// A guarded buffer that holds a dense NCHW tensor, with zeros in its halo and in the channels that pad its last block.
pub fn buffer_of(g: &Geometry, dense: &[f32]) -> Guarded {
    assert_eq!(dense.len(), g.dims().iter().product::<usize>());
    let mut buffer = Guarded::filled(g.len(), 0.0);
    let mut values = dense.iter();
    for_each(g.dims(), |at| buffer[index(g, at)] = *values.next().unwrap());
    buffer
}

/// The dense NCHW tensor that a buffer holds.
pub fn dense_of(g: &Geometry, buffer: &[f32]) -> Vec<f32> {
    let mut dense = Vec::new();
    for_each(g.dims(), |at| dense.push(buffer[index(g, at)]));
    dense
}

/// Asserts that the halo, and the channels that pad the last block, hold positive zeros.
pub fn assert_borders_are_zero(g: &Geometry, buffer: &[f32], context: &str) {
    let lanes = g.layout().lanes();
    let (halo, [_, c, h, w]) = (g.halo(), g.dims());
    for n in 0..g.n() {
        for plane in 0..g.planes() {
            for y in 0..h + halo.top + halo.bottom {
                for x in 0..w + halo.left + halo.right {
                    let inside = (halo.top..halo.top + h).contains(&y) && (halo.left..halo.left + w).contains(&x);
                    for lane in 0..lanes {
                        let at = n * g.image_stride() + plane * g.plane_stride() + y * g.row_stride() + x * lanes + lane;
                        let border = !inside || plane * lanes + lane >= c;
                        assert!(
                            !border || buffer[at].to_bits() == 0,
                            "{context}: border holds {} at {plane}, {y}, {x}, {lane}",
                            buffer[at]
                        );
                    }
                }
            }
        }
    }
}

/// The index of an element of a row-major tensor.
pub fn unravel(element: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    let mut rest = element;
    for axis in (0..shape.len()).rev() {
        index[axis] = rest % shape[axis];
        rest /= shape[axis];
    }
    index
}

/// A line of the test's report: on standard output itself, where it is seen although the test passes.
pub fn report(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("    {line}\n").as_bytes());
}

/// What `STRIDEWISE_EVERY` says of long lists of problems: that a run takes each N-th of them only. Emulated processors are given it, where
/// all take an hour; natively it is 1.
fn every() -> usize {
    std::env::var("STRIDEWISE_EVERY").map_or(1, |every| every.parse::<usize>().expect("STRIDEWISE_EVERY is a number").max(1))
}

/// How many of so many random problems this run makes.
pub fn cases(all: u32) -> u32 {
    all.div_ceil(u32::try_from(every()).unwrap_or(u32::MAX))
}

/// The part of a list that this run takes, at least one. Which one it is depends on the seed.
pub fn part_of<T>(list: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    let list: Vec<T> = list.into_iter().collect();
    let every = every();
    let first = if every == 1 { 0 } else { seed("a part of the problems") as usize % every.min(list.len().max(1)) };
    list.into_iter().skip(first).step_by(every)
}

/// The seed of a test with random problems: what `STRIDEWISE_SEED` says, or another in every run. It is printed.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("STRIDEWISE_SEED").ok().map(|s| s.parse().expect("STRIDEWISE_SEED is a number"));
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64 % 1_000_000_000);
    let seed = given.unwrap_or_else(now);
    report(&format!("{test}: STRIDEWISE_SEED={seed}"));
    seed
}

/// A proptest runner of so many cases that makes the problems of a seed.
pub fn random_runner(test: &str, cases: u32) -> proptest::test_runner::TestRunner {
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed(test).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config { cases, failure_persistence: None, ..Config::default() }, rng)
}
