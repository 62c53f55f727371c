//! A profile as one HTML page: plots and tables, with nothing loaded from elsewhere.

use super::{HEADERS, OUTSIDE, Part, Report, plots};
use crate::output::{count, duration, grouped};
use std::fmt::Write;
use stridewise::page::{document, escape, facts};

/// The page.
pub fn html(report: &Report) -> stridewise::Result<String> {
    let mut body = facts(rows(report).iter().map(|(name, value)| (*name, value.as_str())));
    write_kinds(&mut body, report);
    let _ = write!(body, "<h2>Time of each step: median, ms</h2>\n{}<figure>{}</figure>\n", bars_legend(report), plots::bars(report)?);
    if let Some(memory) = &report.memory
        && let Some(plot) = plots::roofline(report, memory.bytes_per_second)?
    {
        let _ = write!(body, "<h2>Roofline</h2>\n{}<figure>{plot}</figure>\n", legend(report));
        let _ = writeln!(
            body,
            "<p class=\"note\">A disc is a step that multiplies, larger the more time it takes. GFLOP/s count the operations of a direct \
             convolution: Winograd does fewer, so it can stand above the peak. Bytes are those of a step's inputs, output and \
             packed weights, each counted once, wherever they come from: what an earlier step left in a cache need not come from \
             memory, so a step can stand above the sloped line.</p>"
        );
    }
    write_steps(&mut body, report);
    let title = format!("Profile of {}", report.headline());
    Ok(document(&title, &escape(&title), &body))
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let run = &report.run;
    let mut rows = vec![
        ("model", report.headline()),
        ("program", format!("stridewise {}", env!("CARGO_PKG_VERSION"))),
        ("run on", report.setting()),
        (
            "time of a run",
            format!(
                "median {}, fastest {}, 95 % within {}, of {}",
                duration(run.median_seconds),
                duration(run.min_seconds),
                duration(run.p95_seconds),
                count(report.runs, "run")
            ),
        ),
    ];
    if let (Some(gflops), Some(percent)) = (run.gflops, run.percent_of_peak) {
        let macs = run.macs as f64 / 1e9;
        rows.push(("rate", format!("{gflops:.1} GFLOP/s, {percent:.1} % of the peak; {macs:.3} GMAC a run")));
    }
    let per_core = report.peak_gflops / report.threads as f64;
    rows.push((
        "FMA peak",
        format!("{:.1} GFLOP/s: {per_core:.1} measured on one core, times {}", report.peak_gflops, count(report.threads, "thread")),
    ));
    if let Some(memory) = &report.memory {
        let text = format!(
            "{:.1} GB/s: {} reading a buffer of {} MiB, larger than the caches, eight pages at a time; best of {} passes",
            memory.bytes_per_second / 1e9,
            count(memory.threads, "thread"),
            grouped(memory.buffer_bytes as u64 >> 20),
            memory.passes
        );
        rows.push(("memory bandwidth", text));
    }
    rows
}

fn key(report: &Report, kind: &str) -> String {
    let index = report.kinds.iter().position(|k| k.name == kind).unwrap_or(0);
    let colour = plots::colour(index);
    format!("<i class=\"key\" style=\"background: rgb({}, {}, {})\"></i>", colour.0, colour.1, colour.2)
}

fn outside_key() -> String {
    let colour = plots::OUTSIDE_COLOUR;
    format!("<i class=\"key\" style=\"background: rgb({}, {}, {})\"></i>", colour.0, colour.1, colour.2)
}

fn legend(report: &Report) -> String {
    let keys = report.kinds.iter().map(|kind| format!("<span>{}{}</span>", key(report, kind.name), escape(kind.name)));
    format!("<p class=\"legend\">{}</p>\n", keys.collect::<Vec<_>>().join(" "))
}

/// With the end of each bar, and the last of them.
fn bars_legend(report: &Report) -> String {
    let end = format!("<span>{}{}</span></p>\n", outside_key(), escape(OUTSIDE));
    legend(report).replace("</p>\n", &format!(" {end}"))
}

/// Cells of a row, the last `numbers` of them numbers.
fn cells(tag: &str, cells: &[String], numbers: usize) -> String {
    let first_number = cells.len().saturating_sub(numbers);
    let cell = |(index, cell): (usize, &String)| {
        let class = if index < first_number { "" } else { " class=\"number\"" };
        format!("<{tag}{class}>{cell}</{tag}>")
    };
    cells.iter().enumerate().map(cell).collect()
}

fn write_kinds(body: &mut String, report: &Report) {
    let headers = ["", "steps", "ms", "share", "GFLOP/s", "of peak"].map(String::from);
    let _ = write!(body, "<h2>Where the time goes</h2>\n<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n", cells("th", &headers, 5));
    for kind in &report.kinds {
        let mut row = vec![format!("{}{}", key(report, kind.name), escape(kind.name)), kind.parts.to_string()];
        row.extend(report.rates(kind.seconds, kind.percent_of_run, kind.gflops, kind.percent_of_peak));
        let _ = writeln!(body, "<tr>{}</tr>", cells("td", &row, 5));
    }
    let [name, numbers @ ..] = report.outside_row();
    let mut row = vec![format!("{}{}", outside_key(), escape(&name))];
    row.extend(numbers);
    let _ = writeln!(body, "<tr>{}</tr>\n</tbody>\n</table>", cells("td", &row, 5));
    body.push_str(
        "<p class=\"note\">The time outside kernels is part of the times above it: wall time less the mean time that a thread spent in \
         kernels. In it threads are handed work, woken, or wait for the slowest.</p>\n",
    );
}

fn write_steps(body: &mut String, report: &Report) {
    let mut headers = HEADERS.map(|header| header.trim_start_matches('>').to_string()).to_vec();
    headers.push("FLOP/byte".into());
    let row = |part: &Part| {
        let [name, op, problem, algorithm, numbers @ ..] = report.row(part).map(|cell| escape(&cell));
        let key = if part.kind().is_empty() { String::new() } else { key(report, part.kind()) };
        let name = format!("<span class=\"name\">{key}<code>{name}</code></span>");
        let mut row = vec![name, op, format!("<code>{problem}</code>"), format!("<span class=\"name\">{algorithm}</span>")];
        row.extend(numbers);
        row.push(if part.macs > 0 { format!("{:.1}", part.intensity()) } else { String::new() });
        format!("<tr>{}</tr>\n", cells("td", &row, 6))
    };
    let _ = write!(body, "<h2>Steps</h2>\n<table class=\"layers\">\n<thead><tr>{}</tr></thead>\n<tbody>\n", cells("th", &headers, 6));
    body.extend(report.parts().map(row));
    let _ = write!(body, "</tbody>\n<tfoot>\n{}</tfoot>\n</table>\n", row(&report.run));
    body.push_str(
        "<p class=\"note\">Medians of each step, which need not add up to the median of whole runs. (input) and (output) convert from \
         and to NCHW.</p>\n",
    );
}
