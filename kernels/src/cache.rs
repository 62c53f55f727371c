//! Sizes of this processor's caches: how work is blocked, never what is computed.

use std::sync::OnceLock;

/// Bytes of the caches that one core has to itself, and of the one that all share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caches {
    /// Level 2.
    pub l2: usize,
    /// Level 3.
    pub l3: usize,
}

impl Caches {
    /// Those of this processor; 512 KiB and 4 MiB where it does not say.
    pub(crate) fn get() -> Caches {
        static CACHES: OnceLock<Caches> = OnceLock::new();
        *CACHES.get_or_init(|| {
            let (l2, l3) = detect();
            let or = |size: Option<usize>, default: usize| size.filter(|s| (64 << 10..1 << 32).contains(&(*s as u64))).unwrap_or(default);
            Caches { l2: or(l2, 512 << 10), l3: or(l3, 4 << 20) }
        })
    }
}

/// Deterministic cache parameters: leaf 4 of Intel's processors, 0x8000001D of AMD's.
#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe)]
fn detect() -> (Option<usize>, Option<usize>) {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let mut sizes = (None, None);
    // SAFETY: every x86-64 processor has cpuid, and the leaves are only asked for where the processor says that it has them.
    let (basic, extended) = unsafe { (__cpuid(0).eax, __cpuid(0x8000_0000).eax) };
    for leaf in [4u32, 0x8000_001d] {
        if leaf > if leaf < 0x8000_0000 { basic } else { extended } {
            continue;
        }
        for index in 0..8 {
            // SAFETY: as above.
            let r = unsafe { __cpuid_count(leaf, index) };
            let (kind, level) = (r.eax & 31, r.eax >> 5 & 7);
            if kind == 0 {
                break;
            }
            let field = |shift: u32, mask: u32| (r.ebx >> shift & mask) as usize + 1;
            let size = (field(22, 0x3ff) * field(12, 0x3ff)).saturating_mul(field(0, 0xfff)).saturating_mul(r.ecx as usize + 1);
            match (kind, level) {
                // Of data, or of data and instructions.
                (1 | 3, 2) => sizes.0 = Some(size),
                (1 | 3, 3) => sizes.1 = Some(size),
                _ => {}
            }
        }
    }
    sizes
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> (Option<usize>, Option<usize>) {
    (None, None)
}
