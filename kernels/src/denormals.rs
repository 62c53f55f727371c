//! Denormals as zeros while kernels run: a denormal operand or result costs some processors a hundred cycles.
//!
//! Rust promises nothing of its floating-point operations under another setting than the default. What compilers make of them are the
//! same instructions under any, and constants that are computed at compile time under the default: only what is denormal may differ, and
//! kernels do not rely on a denormal's value. The setting is another only while a session runs its kernels.

/// Sets the processor to flush denormals until dropped, then restores the thread's setting.
pub struct FlushDenormals {
    saved: Control,
    /// The setting belongs to this thread.
    not_send: std::marker::PhantomData<*const ()>,
}

impl FlushDenormals {
    /// Flushes denormal operands and results of this thread to zero from here on.
    #[allow(clippy::new_without_default)]
    pub fn new() -> FlushDenormals {
        let saved = Control::read();
        saved.flushing().write();
        FlushDenormals { saved, not_send: std::marker::PhantomData }
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        self.saved.write();
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Control(u32);

#[cfg(target_arch = "x86_64")]
impl Control {
    fn read() -> Control {
        let mut mxcsr = 0u32;
        // SAFETY: stores the 32-bit MXCSR of an SSE processor, which every x86-64 is, to a local.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags)) };
        Control(mxcsr)
    }

    /// Flush-to-zero is bit 15, denormals-are-zero bit 6.
    fn flushing(self) -> Control {
        Control(self.0 | 1 << 15 | 1 << 6)
    }

    fn write(self) {
        // SAFETY: loads a value that `read` gave, with two defined bits set; rounding and exception masks stay as they were. The
        // exception flags are part of the register, so they do not survive.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &self.0, options(nostack)) };
    }
}

#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy)]
struct Control(u64);

#[cfg(target_arch = "aarch64")]
impl Control {
    fn read() -> Control {
        let fpcr: u64;
        // SAFETY: reads a register that user code may read.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
        Control(fpcr)
    }

    /// FZ is bit 24.
    fn flushing(self) -> Control {
        Control(self.0 | 1 << 24)
    }

    fn write(self) {
        // SAFETY: writes a value that `read` gave, with one defined bit set; the rounding mode stays as it was. Not `nomem`: what is
        // stored before or after stays there.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) self.0, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[derive(Clone, Copy)]
struct Control;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Control {
    fn read() -> Control {
        Control
    }

    fn flushing(self) -> Control {
        self
    }

    fn write(self) {}
}
