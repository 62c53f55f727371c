//! The plots of a report, as SVG text.

use super::{Comparison, ErrorHistogram, LayerReport};
use crate::error::Result;
use crate::page::{BLUE, Canvas, Drawn, GRID, INK, RED, TEAL, font, svg};
use plotters::prelude::*;

const SIZE: (u32, u32) = (1040, 420);

/// Errors below this are drawn at it: a logarithm has no place for 0.
const FLOOR: f64 = 1e-10;

/// Errors above this, infinite ones too, are drawn at it.
const CEILING: f64 = 1e2;

/// max|Δ| / max|ref| and RMS / max|ref| of every compared layer, in the order of computation, on a logarithmic scale.
pub(super) fn layers(report: &LayerReport) -> Result<String> {
    svg(SIZE, |root| draw_layers(root, report))
}

/// The distribution of an output's errors.
pub(super) fn histogram(comparison: &Comparison, histogram: &ErrorHistogram) -> Result<String> {
    svg(SIZE, |root| draw_histogram(root, comparison, histogram))
}

fn clamp(error: f64) -> f64 {
    error.clamp(FLOOR, CEILING)
}

fn power(value: &f64) -> String {
    let exponent = value.log10().round() as i32;
    if *value <= FLOOR * 1.01 { format!("≤1e{exponent}") } else { format!("1e{exponent}") }
}

fn draw_layers(root: &Canvas<'_>, report: &LayerReport) -> Drawn {
    let points: Vec<(&str, &Comparison)> = report.compared().collect();
    let rms = |c: &Comparison| if c.rms == 0.0 { 0.0 } else { c.rms / c.max_reference };
    let bound = points.first().and_then(|(_, c)| c.tolerance.max_error).filter(|b| *b > 0.0).map(clamp);
    let errors = points.iter().flat_map(|(_, c)| [clamp(c.relative_to_max()), clamp(rms(c))]).chain(bound);
    let (low, high) = errors.fold((CEILING, FLOOR), |(low, high), e| (low.min(e), high.max(e)));
    // Whole decades, with some air above the highest.
    let low = 10f64.powf((low * 0.7).log10().floor()).max(FLOOR);
    let high = 10f64.powf((high * 1.5).log10().ceil());
    let last = points.len() as f64 - 0.5;
    let mut chart = ChartBuilder::on(root)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(-0.5..last, (low..high).log_scale())?;
    let name = |x: &f64| {
        let index = x.round();
        let exact = (x - index).abs() < 1e-6 && index >= 0.0;
        points.get(index as usize).filter(|_| exact).map(|(name, _)| name.to_string()).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK)
        .disable_x_mesh()
        .x_labels(points.len().min(12))
        .x_label_formatter(&name)
        .y_label_formatter(&power)
        .label_style(font(13))
        .axis_desc_style(font(14))
        .x_desc("layer, in the order of computation")
        .y_desc("error / max|ref|")
        .draw()?;
    if let Some(bound) = bound {
        chart
            .draw_series(DashedLineSeries::new([(-0.5, bound), (last, bound)], 6, 5, RED.stroke_width(1)))?
            .label("tolerance")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], RED));
    }
    let series = |error: &dyn Fn(&Comparison) -> f64| -> Vec<(f64, f64)> {
        points.iter().enumerate().map(|(i, (_, c))| (i as f64, clamp(error(c)))).collect()
    };
    let (max, rms) = (series(&|c| c.relative_to_max()), series(&rms));
    chart
        .draw_series(LineSeries::new(rms, TEAL.stroke_width(2)))?
        .label("RMS of Δ / max|ref|")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], TEAL.stroke_width(2)));
    chart
        .draw_series(LineSeries::new(max.clone(), BLUE.stroke_width(2)))?
        .label("max|Δ| / max|ref|")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLUE.stroke_width(2)));
    chart.draw_series(max.iter().zip(&points).map(|(&at, (_, c))| Circle::new(at, 3, if c.passed() { BLUE } else { RED }.filled())))?;
    if let Some(first) = points.iter().position(|(_, c)| !c.passed()) {
        // The name stands at the top, on the side that has room, where no curve reaches.
        let (x, right) = (max[first].0, first * 2 < points.len());
        let text = format!("first diverging: {}", points[first].0);
        let offset = if right { (6, 2) } else { (-6 - 7 * text.chars().count() as i32, 2) };
        chart.draw_series(DashedLineSeries::new([(x, low), (x, high)], 2, 4, RED.mix(0.6).stroke_width(1)))?;
        chart.draw_series([Circle::new(max[first], 6, RED.stroke_width(2))])?;
        chart.draw_series([EmptyElement::at((x, high)) + Text::new(text, offset, ("sans-serif", 14).into_font().color(&RED))])?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.9))
        .border_style(GRID)
        .label_font(font(13))
        .draw()?;
    Ok(())
}

fn draw_histogram(root: &Canvas<'_>, comparison: &Comparison, histogram: &ErrorHistogram) -> Drawn {
    let counts = &histogram.counts;
    let total = histogram.exact + counts.iter().sum::<usize>();
    let highest = counts.iter().copied().max().unwrap_or(0).max(1) as f64 * 1.08;
    let (low, high) = (ErrorHistogram::lower_edge(0), ErrorHistogram::lower_edge(counts.len()));
    let caption = format!("{total} elements, {} of them equal to their reference", histogram.exact);
    let mut chart = ChartBuilder::on(root)
        .margin(12)
        .caption(caption, font(15))
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d((low..high).log_scale(), 0.0..highest)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK)
        .disable_x_mesh()
        .x_label_formatter(&|x| format!("1e{}", x.log10().round() as i32))
        .y_label_formatter(&|y| if y.fract() == 0.0 { format!("{y}") } else { String::new() })
        .label_style(font(13))
        .axis_desc_style(font(14))
        .x_desc("|Δ| / max|ref|")
        .y_desc("elements")
        .draw()?;
    let bars = counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(bin, &count)| {
        let edges = (ErrorHistogram::lower_edge(bin), ErrorHistogram::lower_edge(bin + 1));
        let mut bar = Rectangle::new([(edges.0, 0.0), (edges.1, count as f64)], BLUE.mix(0.75).filled());
        bar.set_margin(0, 0, 1, 1);
        bar
    });
    chart.draw_series(bars)?;
    if let Some(bound) = comparison.tolerance.max_error.filter(|b| (low..high).contains(b)) {
        chart.draw_series(DashedLineSeries::new([(bound, 0.0), (bound, highest)], 6, 5, RED.stroke_width(1)))?;
        chart.draw_series(std::iter::once(
            EmptyElement::at((bound, highest)) + Text::new("tolerance", (6, 4), ("sans-serif", 13).into_font().color(&RED)),
        ))?;
    }
    Ok(())
}
