//! How far computed values are from reference values: error metrics, layer by layer, and a report.
//!
//! Everything is computed in f64. A value that is NaN or infinite where its reference is not (or the other way round) is a
//! failure whatever the tolerance.

mod histogram;
mod layers;
mod metrics;
#[cfg(feature = "cli")]
mod plot;
#[cfg(feature = "cli")]
mod report;
mod taps;

pub use histogram::ErrorHistogram;
pub use layers::{Layer, LayerComparer, LayerReport, Outcome};
pub use metrics::{Agreement, Comparison, Deviation, Elementwise, Tolerance, Violations};
#[cfg(feature = "cli")]
pub use report::Report;
pub use taps::{Reference, TapFile};
