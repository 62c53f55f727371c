//! Processes that compute all the time.

use std::process::{Child, Command, Stdio};

/// Has this program be a neighbour.
const VARIABLE: &str = "STRIDEWISE_SPIN";

/// Neighbours until they are dropped.
pub struct Neighbours(Vec<Child>);

impl Neighbours {
    pub fn start(count: usize) -> std::io::Result<Neighbours> {
        let mut neighbours = Neighbours(Vec::new());
        for _ in 0..count {
            neighbours.0.push(Command::new(std::env::current_exe()?).env(VARIABLE, "1").stdout(Stdio::null()).spawn()?);
        }
        Ok(neighbours)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where this process is a neighbour: sums of a memory larger than its level-2 cache, until its parent is gone.
pub fn spin_if_asked() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let parent = parent();
    let mut memory = vec![1.0f32; 4 << 20];
    while parent == self::parent() {
        for value in &mut memory {
            *value = *value * 1.0001 + 1e-7;
        }
        std::hint::black_box(&memory);
    }
    std::process::exit(0);
}

#[cfg(unix)]
fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

#[cfg(not(unix))]
fn parent() -> u32 {
    0
}
