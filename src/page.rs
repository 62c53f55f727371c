//! What the program's HTML pages share: one file each, plots as inline SVG, nothing loaded from elsewhere.

use crate::error::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error as StdError;
use std::fmt::Write;

/// Text and axes.
pub const INK: RGBColor = RGBColor(87, 96, 106);
/// Lines behind the data.
pub const GRID: RGBColor = RGBColor(234, 238, 242);
/// The first series of a plot.
pub const BLUE: RGBColor = RGBColor(9, 105, 218);
/// The second series of a plot.
pub const TEAL: RGBColor = RGBColor(130, 180, 190);
/// Limits, and what is beyond them.
pub const RED: RGBColor = RGBColor(207, 34, 46);

/// What a function that draws returns.
pub type Drawn = std::result::Result<(), Box<dyn StdError>>;

/// What plots are drawn on.
pub type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A plot of `size` pixels as SVG text.
///
/// # Errors
/// When `draw` fails.
pub fn svg(size: (u32, u32), draw: impl FnOnce(&Canvas<'_>) -> Drawn) -> Result<String> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
    let drawn = root.fill(&WHITE).map_err(Into::into).and_then(|()| draw(&root)).and_then(|()| Ok(root.present()?));
    drop(root);
    drawn.map_err(|e| Error::InvalidArgument { argument: "plot".into(), reason: e.to_string() })?;
    Ok(text)
}

/// The plots' font.
pub fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// A page. The title is text; `heading` and `body` are markup.
pub fn document(title: &str, heading: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{heading}</h1>\n{body}</body>\n</html>\n",
        escape(title)
    )
}

/// A table of names and values, both text.
pub fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut table = String::from("<table class=\"facts\">\n");
    for (name, value) in rows {
        let _ = writeln!(table, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
    }
    table + "</table>\n"
}

/// Text as markup. Names come from files: none of them is markup itself.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
h1 span { font-size: .9rem; font-weight: 600; padding: .2rem .6rem; border-radius: 1rem; vertical-align: middle; }
h1 span.passed { background: #dafbe1; color: #116329; } h1 span.failed { background: #ffebe9; color: #a40e26; }
figure { margin: 0; overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; } th, td { padding: .2rem .75rem .2rem 0; border-bottom: 1px solid #eaeef2; }
th.number, td.number { text-align: right; white-space: nowrap; }
table.facts th { color: #57606a; font-weight: 400; white-space: nowrap; vertical-align: top; }
table.layers { width: 100%; font-size: .85rem; } table.layers thead th { position: sticky; top: 0; background: #fff; border-bottom: 2px solid #d0d7de; }
table.layers th, table.layers td { padding-right: .5rem; }
table.layers tfoot td { font-weight: 600; border-top: 2px solid #d0d7de; }
tr.failed td { background: #fff5f4; } tr.first td { font-weight: 600; color: #a40e26; }
i.key { display: inline-block; width: .75em; height: .75em; border-radius: .15em; margin-right: .4em; }
p.legend span { margin-right: 1.2em; white-space: nowrap; } span.name { white-space: nowrap; }
p.note { color: #57606a; font-size: .85rem; }
code { font: .85em ui-monospace, monospace; } details { margin: 1rem 0; } details p { line-height: 1.8; }
";
