//! What is said of the processor, and its setting while kernels run.

use stridewise_kernels::processor;

#[test]
fn the_name_is_one_line_of_words() {
    let name = processor();
    assert!(!name.is_empty() && !name.contains(char::is_control) && name.trim() == name, "{name:?}");
    println!("{name}");
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn denormals_are_flushed_and_the_setting_restored() {
    use std::hint::black_box;
    let halve = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
    assert_ne!(halve(), 0.0);
    {
        let _flush = stridewise_kernels::denormals::FlushDenormals::new();
        assert_eq!(halve(), 0.0);
    }
    assert_ne!(halve(), 0.0);
}
