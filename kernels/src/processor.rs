//! What this processor is called: what was measured on one says nothing of another.

use std::sync::OnceLock;

/// The name of this processor's model, on one line: what was measured on another model does not hold here.
pub fn processor() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let name: String = detect().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let words: Vec<&str> = name.split_whitespace().collect();
        if words.is_empty() { format!("unknown {}", std::env::consts::ARCH) } else { words.join(" ") }
    })
}

/// The brand string, and the numbers that tell processors of one brand string apart: Intel's and AMD's manuals, CPUID leaves 1 and
/// 0x80000002 to 0x80000004.
#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe)]
fn detect() -> String {
    use std::arch::x86_64::__cpuid;
    // SAFETY: every x86-64 processor has cpuid, and the leaves are only asked for where the processor says that it has them.
    let leaf = |number: u32| unsafe { __cpuid(number) };
    let mut brand = Vec::new();
    if leaf(0x8000_0000).eax >= 0x8000_0004 {
        for number in 0x8000_0002..=0x8000_0004u32 {
            let r = leaf(number);
            brand.extend([r.eax, r.ebx, r.ecx, r.edx].into_iter().flat_map(u32::to_le_bytes));
        }
    }
    brand.retain(|byte| *byte != 0);
    let version = leaf(1).eax;
    let (family, model) = (version >> 8 & 15, version >> 4 & 15);
    let family = if family == 15 { family + (version >> 20 & 255) } else { family };
    let model = if family == 6 || family >= 15 { model | (version >> 16 & 15) << 4 } else { model };
    format!("{} family {family} model {model} stepping {}", String::from_utf8_lossy(&brand), version & 15)
}

/// Arm's main identification register, which Linux shows to everyone.
#[cfg(not(target_arch = "x86_64"))]
fn detect() -> String {
    let register = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1");
    register.map_or_else(|_| String::new(), |value| format!("{} {}", std::env::consts::ARCH, value.trim()))
}
