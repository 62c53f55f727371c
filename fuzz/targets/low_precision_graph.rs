//! A graph of any ops, in bytes by scales that are measured or made up, and in bfloat16: refused by name, or run with the same bits
//! wherever that is promised.

use super::graph::{MOST, MOST_MACS, network, same_bits, tensor};
use arbitrary::{Result, Unstructured};
use stridewise::quantize::{ActivationScale, Calibrator, Method, Quantization, ValueScale};
use stridewise::{Isa, Model, Precision, SessionOptions, Threads};

pub fn run(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    let Ok(graph) = network(&mut u) else { return };
    let names: Vec<String> = std::iter::once("input".into()).chain((0..8).map(|index| format!("node{index}"))).collect();
    let batch = u.int_in_range(1..=3).unwrap_or(1);
    let Ok(model) = Model::from_graph(graph) else { return };
    let best = Isa::best().expect("an instruction set");
    let options = |precision| SessionOptions { precision, batch, ..Default::default() };
    if u.ratio(1, 3).unwrap_or(false) {
        for isa in [Isa::Portable, best] {
            same_bits(&model, &options(Precision::Bf16), &[(isa, 1), (isa, 3)]);
        }
        return;
    }
    let made_up = u.arbitrary().unwrap_or(false);
    let scales = if made_up { imagined(&mut u, &names) } else { measured(&model, batch, &mut u) };
    let Ok(mut quantization) = scales else { return };
    for name in &names {
        if u.ratio(1, 6).unwrap_or(false) {
            quantization.keep_float(name);
        }
    }
    assert_eq!(read(&quantization.to_metadata()).expect("what was just written"), Some(quantization.clone()));
    same_bits(&model.with_quantization(quantization), &options(Precision::Int8), &[(Isa::Portable, 1), (best, 1), (Isa::Portable, 3)]);
}

fn read(metadata: &[(String, String)]) -> stridewise::Result<Option<Quantization>> {
    Quantization::from_metadata(|key| metadata.iter().find(|(k, _)| k == key).map(|(_, text)| text.as_str()))
}

/// The scales of a run in f32.
fn measured(model: &Model, batch: usize, u: &mut Unstructured<'_>) -> Result<Quantization> {
    let method = match u.int_in_range(0..=2)? {
        0 => Method::MinMax,
        1 => Method::Percentile(*u.choose(&[0.5, 0.99, 0.9999])?),
        _ => Method::Mse,
    };
    let options = SessionOptions { threads: Threads::Count(1), max_memory: MOST, batch, ..Default::default() };
    let Ok(mut session) = model.session(&options) else { return Err(arbitrary::Error::IncorrectFormat) };
    if session.steps().iter().map(|s| s.macs).fold(0, u64::saturating_add) > MOST_MACS {
        return Err(arbitrary::Error::IncorrectFormat);
    }
    let x = tensor(session.input_shape().dims(), 5);
    let mut calibrator = Calibrator::default();
    calibrator.observe("input", &x);
    session.run_with_taps(&x, &mut |name, value| calibrator.observe(name, &value)).expect("a session that was made");
    Ok(calibrator.finish(method))
}

/// Scales that no image gave: some by their fields, else as text, whatever it says.
fn imagined(u: &mut Unstructured<'_>, names: &[String]) -> Result<Quantization> {
    if u.ratio(1, 4)? {
        let text: String = u.arbitrary()?;
        return match read(&[("quantization.values".into(), text)]) {
            Ok(quantization) => Ok(quantization.expect("metadata")),
            Err(error) => {
                assert!(error.to_string().contains("quantization.values"), "no key in: {error}");
                Err(arbitrary::Error::IncorrectFormat)
            }
        };
    }
    let mut quantization = Quantization::default();
    for name in names {
        let scale = match u.int_in_range(0..=5)? {
            0 => continue,
            1 => u.arbitrary()?,
            2 => *u.choose(&[1e-12, 1e-6, 1e6, 1e12])?,
            _ => 1.0 / f32::from(u.int_in_range(1u8..=200)?),
        };
        let means = (0..u.int_in_range(0..=40)?).map(|_| u.arbitrary()).collect::<Result<Vec<f32>>>()?;
        let value = ValueScale { scale: ActivationScale { scale, zero_point: u.arbitrary()? }, means };
        if let Err(error) = quantization.set(name, value) {
            assert!(error.to_string().contains(name), "no value in: {error}");
        }
    }
    Ok(quantization)
}
