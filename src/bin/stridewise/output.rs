//! What the program prints: tables for people or one JSON document, and how it fails.

use comfy_table::{CellAlignment, ContentLineStyle, LineStyle, Table, TableStyle};
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Why a command ended early.
pub enum Failure {
    /// The library refused.
    Engine(stridewise::Error),
    /// Arguments that do not go together.
    Usage(String),
    /// Stdin or stdout failed.
    Stdout(std::io::Error),
}

/// What a command returns: an exit code, or why there is none.
pub type Done = Result<ExitCode, Failure>;

impl From<stridewise::Error> for Failure {
    fn from(error: stridewise::Error) -> Failure {
        Failure::Engine(error)
    }
}

impl From<stridewise_kernels::Error> for Failure {
    fn from(error: stridewise_kernels::Error) -> Failure {
        Failure::Engine(error.into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Engine(error) => error.fmt(f),
            Failure::Usage(message) => f.write_str(message),
            Failure::Stdout(error) => write!(f, "stdout: {error}"),
        }
    }
}

/// Where results go.
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Output {
        Output { json }
    }

    /// True when stdout is for a program.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints `value` as JSON, or else the text. A reader who has seen enough (`stridewise inspect | head`) does not change how the
    /// command ends.
    pub fn print(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = if self.json {
            let json = serde_json::to_string_pretty(value);
            json.map_err(|e| Failure::Stdout(e.into()))? + "\n"
        } else {
            text()
        };
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Stdout(error)),
            _ => Ok(()),
        }
    }
}

/// A path as JSON can hold it: what is no UTF-8 is replaced.
pub fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Likewise, of one that may be missing.
pub fn lossy_if_some<S: serde::Serializer>(path: &Option<impl AsRef<Path>>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.as_ref().to_string_lossy()).serialize(serializer)
}

/// An empty table with a rule below its header. A header that starts with `>` makes its column right-aligned.
pub fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(
        TableStyle::new()
            .header_lines(ContentLineStyle::none())
            .header_separator(LineStyle::none().fill('─').junction('─'))
            .content_lines(ContentLineStyle::none()),
    );
    table.set_header(headers.iter().map(|h| h.trim_start_matches('>')));
    for (column, header) in table.column_iter_mut().zip(headers) {
        if header.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table's lines, each ended, none with blanks at its end.
pub fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in a unit that fits.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} µs", s * 1e6),
    }
}

/// `1 thread`, `2 threads`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number as u64), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (25_557_032, "25,557,032"), (123_456, "123,456")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn durations_have_a_unit_that_fits() {
        assert_eq!(duration(2.5), "2.50 s");
        assert_eq!(duration(0.0123), "12.30 ms");
        assert_eq!(duration(12.34e-6), "12.3 µs");
    }
}
