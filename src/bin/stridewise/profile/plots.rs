//! The plots of a profile, as SVG text.

use super::{OUTSIDE, Part, Report};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;
use stridewise::page::{Canvas, Drawn, GRID, INK, RED, font, svg};

/// Pixels.
const WIDTH: u32 = 1040;
const ROW: u32 = 18;
const ROOFLINE_HEIGHT: u32 = 560;

/// Pixels that a letter of the plots' font takes.
const LETTER: u32 = 6;

/// Letters of a name that are shown.
const LONGEST_NAME: usize = 40;

/// Most names in the roofline.
const NAMED: usize = 12;

/// One for each kind, the slowest first. Told apart with any colour vision while there are no more than six.
const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 140, 0),
    RGBColor(0, 158, 115),
    RGBColor(190, 90, 150),
    RGBColor(86, 180, 233),
    RGBColor(110, 119, 129),
    RGBColor(180, 160, 20),
    RGBColor(120, 80, 200),
    RGBColor(150, 100, 60),
    RGBColor(60, 130, 60),
    RGBColor(170, 190, 210),
    RGBColor(40, 40, 70),
];

/// Of the time outside kernels.
pub const OUTSIDE_COLOUR: RGBColor = RGBColor(205, 205, 205);

/// The colour of a kind, by its place in the report.
pub fn colour(kind: usize) -> RGBColor {
    COLOURS[kind % COLOURS.len()]
}

fn colour_of(report: &Report, part: &Part) -> RGBColor {
    colour(report.kinds.iter().position(|kind| kind.name == part.kind()).unwrap_or(0))
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.into(),
    }
}

/// A bar for each part of a run, from top to bottom, the end of it grey that is outside kernels; below them all that is.
pub fn bars(report: &Report) -> stridewise::Result<String> {
    let rows = report.parts().count() as u32 + 1;
    svg((WIDTH, rows.saturating_mul(ROW).saturating_add(64)), |root| draw_bars(root, report))
}

fn draw_bars(root: &Canvas<'_>, report: &Report) -> Drawn {
    let parts: Vec<&Part> = report.parts().collect();
    let letters = parts.iter().map(|p| shortened(&p.name).chars().count()).max().unwrap_or(0).max(OUTSIDE.len());
    let outside = report.outside.seconds * 1e3;
    let longest = parts.iter().map(|p| p.median_seconds * 1e3).fold(outside, f64::max);
    let longest = if longest > 0.0 { longest } else { 1.0 };
    let rows = parts.len() as f64 + 1.0;
    let mut chart = ChartBuilder::on(root)
        .margin(8)
        .margin_left(letters as u32 * LETTER + 16)
        .margin_right(140)
        .x_label_area_size(24)
        .top_x_label_area_size(24)
        .build_cartesian_2d(0.0..longest * 1.02, 0.0..rows)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK)
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(10)
        .label_style(font(14))
        .draw()?;
    let middle = |row: usize| rows - row as f64 - 0.5;
    let names = font(14).pos(Pos::new(HPos::Right, VPos::Center));
    let values = font(14).pos(Pos::new(HPos::Left, VPos::Center));
    chart.draw_series(parts.iter().enumerate().map(|(row, part)| {
        let corners = [(0.0, middle(row) - 0.36), (part.median_seconds * 1e3, middle(row) + 0.36)];
        Rectangle::new(corners, colour_of(report, part).filled())
    }))?;
    let ends = parts.iter().enumerate().filter_map(|(row, part)| Some((row, part.median_seconds * 1e3, part.outside_seconds? * 1e3)));
    chart.draw_series(ends.chain([(parts.len(), outside, outside)]).map(|(row, end, grey)| {
        let corners = [((end - grey).max(0.0), middle(row) - 0.36), (end, middle(row) + 0.36)];
        Rectangle::new(corners, OUTSIDE_COLOUR.filled())
    }))?;
    let below = format!("{} · {:.1} % of the run", report.ms(report.outside.seconds), report.outside.percent_of_run);
    chart.draw_series([
        EmptyElement::at((0.0, middle(parts.len()))) + Text::new(OUTSIDE.to_string(), (-8, 0), names.clone()),
        EmptyElement::at((outside, middle(parts.len()))) + Text::new(below, (6, 0), values.clone()),
    ])?;
    chart.draw_series(
        parts
            .iter()
            .enumerate()
            .map(|(row, p)| EmptyElement::at((0.0, middle(row))) + Text::new(shortened(&p.name), (-8, 0), names.clone())),
    )?;
    chart.draw_series(parts.iter().enumerate().map(|(row, part)| {
        let of_peak = part.percent_of_peak.map_or_else(String::new, |p| format!(" · {p:.0} % of peak"));
        let text = format!("{}{of_peak}", report.ms(part.median_seconds));
        EmptyElement::at((part.median_seconds * 1e3, middle(row))) + Text::new(text, (6, 0), values.clone())
    }))?;
    Ok(())
}

/// GFLOP/s over FLOP a byte of every step that multiplies, below the machine's two limits. None where nothing multiplies.
pub fn roofline(report: &Report, bandwidth: f64) -> stridewise::Result<Option<String>> {
    let positive = |x: f64| x.is_finite() && x > 0.0;
    let mut points: Vec<(f64, f64, &Part)> = report
        .steps
        .iter()
        .filter_map(|p| p.gflops.map(|g| (p.intensity(), g, p)))
        .filter(|(x, y, _)| positive(*x) && positive(*y))
        .collect();
    let limits = (report.peak_gflops, bandwidth / 1e9);
    if points.is_empty() || !positive(limits.0) || !positive(limits.1) {
        return Ok(None);
    }
    // Large discs behind small ones.
    points.sort_by(|(_, _, a), (_, _, b)| b.median_seconds.total_cmp(&a.median_seconds));
    svg((WIDTH, ROOFLINE_HEIGHT), |root| draw_roofline(root, report, &points, limits)).map(Some)
}

fn draw_roofline(root: &Canvas<'_>, report: &Report, points: &[(f64, f64, &Part)], (peak, bandwidth): (f64, f64)) -> Drawn {
    let ridge = peak / bandwidth;
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
        low / 1.6..high * 1.6
    };
    let x = range(&mut points.iter().map(|p| p.0).chain([ridge]));
    let y = range(&mut points.iter().map(|p| p.1).chain([peak]));
    let mut chart = ChartBuilder::on(root)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x.clone().log_scale().with_key_points(ticks(&x)), y.clone().log_scale().with_key_points(ticks(&y)))?;
    let number = |v: &f64| format!("{}", (v * 1e6).round() / 1e6);
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .label_style(font(14))
        .axis_desc_style(font(14))
        .x_desc("FLOP / byte moved")
        .y_desc("GFLOP/s")
        .draw()?;
    // The memory's line enters at the left edge or, where that is below the plot, at the bottom.
    let entry = x.start.max(y.start / bandwidth);
    let roof = [(entry, entry * bandwidth), (ridge, peak), (x.end, peak)];
    chart.draw_series(LineSeries::new(roof, RED.stroke_width(2)))?;
    let red = |horizontal, vertical| ("sans-serif", 14).into_font().color(&RED).pos(Pos::new(horizontal, vertical));
    // Discs crowd below the level part; left of it there is room, unless the memory's line is short.
    let text = format!("measured FMA peak, {peak:.1} GFLOP/s");
    let roomy = chart.backend_coord(&(ridge, peak)).0 > 64 + LETTER as i32 * text.chars().count() as i32;
    let (x_of_text, offset, place) =
        if roomy { (ridge, (-10, 0), red(HPos::Right, VPos::Center)) } else { (x.end, (-6, -4), red(HPos::Right, VPos::Bottom)) };
    chart.draw_series([EmptyElement::at((x_of_text, peak)) + Text::new(text, offset, place)])?;
    let text = format!("measured memory bandwidth, {bandwidth:.1} GB/s");
    let middle = (entry * ridge).sqrt();
    let place = red(HPos::Left, VPos::Top);
    chart.draw_series([EmptyElement::at((middle, middle * bandwidth)) + Text::new(text, (10, 4), place)])?;
    let slowest = points.first().map_or(1.0, |(_, _, p)| p.median_seconds);
    let radius = |part: &Part| (3.0 + 9.0 * (part.median_seconds / slowest).max(0.0).sqrt()) as i32;
    chart.draw_series(points.iter().map(|(x, y, part)| Circle::new((*x, *y), radius(part), colour_of(report, part).mix(0.55).filled())))?;
    // What names keep away from, as discs of pixels: the steps, the roof, and the names before them.
    let mut taken: Vec<Disc> = points.iter().map(|(x, y, part)| (chart.backend_coord(&(*x, *y)), radius(part))).collect();
    let along = |from: f64, to: f64| (0..=100).map(move |i| from * (to / from).powf(f64::from(i) / 100.0));
    taken.extend(along(entry, x.end).map(|x| (chart.backend_coord(&(x, peak.min(x * bandwidth))), 2)));
    let right_edge = WIDTH as i32 - 12;
    let mut named: Vec<&str> = Vec::new();
    for (x, y, part) in points {
        // Steps that do the same stand in one place: one name is enough.
        if named.contains(&part.problem.as_str()) || named.len() == NAMED {
            continue;
        }
        let (name, centre) = (shortened(&part.name), chart.backend_coord(&(*x, *y)));
        let width = name.chars().count() as i32 * LETTER as i32;
        let beside = |offset: i32| (centre.0 + offset..centre.0 + offset + width, centre.1 - 7..centre.1 + 7);
        let gap = radius(part) + 4;
        let place =
            [(HPos::Left, gap, beside(gap)), (HPos::Right, -gap, beside(-gap - width))].into_iter().find(|(_, _, (across, down))| {
                across.end < right_edge && taken.iter().all(|disc| (disc.0 == centre) || !touches(disc, across, down))
            });
        if let Some((position, offset, (across, down))) = place {
            let style = font(14).pos(Pos::new(position, VPos::Center));
            chart.draw_series([EmptyElement::at((*x, *y)) + Text::new(name, (offset, 0), style)])?;
            taken.extend(across.step_by(6).map(|x| ((x, (down.start + down.end) / 2), 8)));
            named.push(&part.problem);
        }
    }
    Ok(())
}

/// Centre and radius in pixels.
type Disc = ((i32, i32), i32);

/// True when the disc's square and the rectangle have a point in common.
fn touches(((x, y), radius): &Disc, across: &Range<i32>, down: &Range<i32>) -> bool {
    x + radius >= across.start && x - radius <= across.end && y + radius >= down.start && y - radius <= down.end
}

/// 1, 2 and 5 of each decade.
fn ticks(range: &Range<f64>) -> Vec<f64> {
    let decades = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade))).filter(|tick| range.contains(tick)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_in_range() {
        assert_eq!(ticks(&(0.3..30.0)), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(ticks(&(150.0..384.0)), [200.0], "what a roofline of one step spans");
    }

    #[test]
    fn long_names_are_cut_between_letters() {
        let name = "é".repeat(LONGEST_NAME);
        assert_eq!(shortened(&name), name);
        assert_eq!(shortened(&(name.clone() + "é")), name + "…");
    }

    #[test]
    fn names_and_discs_touch_where_they_meet() {
        let touch = |x, y| touches(&((x, y), 5), &(10..20), &(10..20));
        assert!(touch(15, 15) && touch(5, 12) && touch(25, 25));
        assert!(!touch(4, 15) && !touch(15, 26));
    }
}
