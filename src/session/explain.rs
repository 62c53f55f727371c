//! The plan as a table.

use super::Session;
use std::fmt::Write;

/// Widest column that others are aligned behind: names from a file may be of any length, and formatting takes no width over 65,535.
const WIDEST: usize = 120;

pub(super) fn table(session: &Session) -> String {
    let steps = session.steps();
    let header = ["step", "op", "problem / shape", "MMAC", "algorithm", "tile", "epilogue", "into", "oc x px", "why"].map(String::from);
    let mut rows = vec![header];
    for s in &steps {
        let conv = !s.problem.is_empty();
        rows.push([
            s.name.clone(),
            s.op.into(),
            if conv { s.problem.clone() } else { format!("{} -> {}", s.input, s.output) },
            if conv { format!("{:.1}", s.macs as f64 / 1e6) } else { String::new() },
            s.algorithm.into(),
            s.tile.clone(),
            s.epilogue.clone(),
            s.layout.into(),
            if conv { format!("{}x{}", s.partition[0], s.partition[1]) } else { String::new() },
            s.reason.into(),
        ]);
    }
    let mut widths = [0; 10];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count()).min(WIDEST);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Numbers to the right, text to the left.
            let _ = if column == 3 { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let convolutions = steps.iter().filter(|s| s.op == "Conv").count();
    let macs: u64 = steps.iter().map(|s| s.macs).sum();
    let _ = writeln!(
        text,
        "{} steps, {convolutions} convolutions, {:.3} GMAC; input {}, output {}; {}, {}, {} on {} thread{}; {:.1} MB of memory required ({:.1} arena, {:.1} scratch), {:.1} MB of packed weights",
        steps.len(),
        macs as f64 / 1e9,
        session.input_shape(),
        session.output_shape(),
        session.isa(),
        session.precision(),
        session.numerics(),
        session.threads(),
        if session.threads() == 1 { "" } else { "s" },
        session.memory_required() as f64 / 1e6,
        session.arena_bytes() as f64 / 1e6,
        (session.memory_required() - session.arena_bytes()) as f64 / 1e6,
        session.weight_bytes() as f64 / 1e6,
    );
    text
}
