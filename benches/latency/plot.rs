//! Latencies by rank, as SVG text: how much slower the slow runs are than the median.

use super::Series;
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
/// The sides of the axes' rectangle.
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 740.0;
const BOTTOM: f64 = 320.0;
const COLOURS: [&str; 6] = ["#0b6e99", "#c1443c", "#3a8f4d", "#8a5cb0", "#c98a1b", "#555555"];
/// Marks of the horizontal axis, which is linear in the logarithm of the share of runs that are slower.
const MARKS: [(&str, f64); 6] = [("fastest", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

fn x(q: f64) -> f64 {
    let place = |q: f64| -(1.0 - q).max(5e-5).log10();
    LEFT + (RIGHT - LEFT) * place(q) / place(1.0)
}

/// One line for each series, in milliseconds.
pub fn svg(title: &str, all: &[Series]) -> String {
    let highest = all.iter().map(|s| s.quantile(1.0)).fold(0.0, f64::max) * 1e3 * 1.05;
    let y = |ms: f64| BOTTOM - (BOTTOM - TOP) * ms / highest;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{title}: milliseconds of the \
         runs, from the fastest to the slowest</text>\n"
    );
    for i in 0..=5 {
        let ms = highest * f64::from(i) / 5.0;
        let _ = writeln!(text, "<path d=\"M{LEFT} {0:.1}H{RIGHT}\" stroke=\"#dddddd\"/>", y(ms));
        let _ = writeln!(text, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{ms:.2}</text>", LEFT - 6.0, y(ms) + 4.0);
    }
    for (label, q) in MARKS {
        let _ = writeln!(text, "<path d=\"M{0:.1} {TOP}V{BOTTOM}\" stroke=\"#eeeeee\"/>", x(q));
        let _ = writeln!(text, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", x(q), BOTTOM + 18.0);
    }
    for (index, series) in all.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut sorted = series.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len() as f64;
        let points = sorted.iter().enumerate().map(|(rank, seconds)| format!("{:.1},{:.1}", x(rank as f64 / count), y(seconds * 1e3)));
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            points.collect::<Vec<_>>().join(" ")
        );
        let (column, line) = ((index % 3) as f64, (index / 3) as f64);
        let (legend_x, legend_y) = (LEFT + column * 225.0, BOTTOM + 38.0 + line * 16.0);
        let _ = writeln!(text, "<rect x=\"{legend_x}\" y=\"{:.1}\" width=\"14\" height=\"3\" fill=\"{colour}\"/>", legend_y - 5.0);
        let _ = writeln!(text, "<text x=\"{:.1}\" y=\"{legend_y:.1}\" font-size=\"11\">{}</text>", legend_x + 20.0, series.label());
    }
    text + "</svg>\n"
}
