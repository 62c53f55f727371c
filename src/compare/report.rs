//! A comparison as one HTML page: verdict, plot and tables, with nothing loaded from elsewhere.

use super::plot;
use super::{Comparison, ErrorHistogram, Layer, LayerReport, Outcome};
use crate::error::Result;
use crate::page::{document, escape, facts};
use std::fmt::Write;

/// What the page shows.
pub struct Report<'a> {
    /// The headline, for example the model's name.
    pub title: &'a str,
    /// What was compared and how, as pairs of name and value.
    pub facts: &'a [(&'a str, String)],
    /// The network's output, and the distribution of its errors.
    pub output: Option<(&'a Comparison, &'a ErrorHistogram)>,
    /// Layer by layer.
    pub layers: Option<&'a LayerReport>,
}

impl Report<'_> {
    /// True when the output and every layer are within tolerance.
    pub fn passed(&self) -> bool {
        self.output.is_none_or(|(c, _)| c.passed()) && self.layers.is_none_or(|l| l.first_diverging().is_none())
    }

    /// The page.
    ///
    /// # Errors
    /// When a plot can't be drawn.
    pub fn to_html(&self) -> Result<String> {
        let (class, verdict) = if self.passed() { ("passed", "within tolerance") } else { ("failed", "beyond tolerance") };
        let mut page = self.summary();
        if let Some(layers) = self.layers.filter(|l| l.compared().next().is_some()) {
            let _ = write!(page, "<h2>Error of each layer</h2>\n<figure>{}</figure>\n", plot::layers(layers)?);
        }
        if let Some((comparison, histogram)) = self.output {
            let _ = write!(page, "<h2>Errors of the output</h2>\n<figure>{}</figure>\n", plot::histogram(comparison, histogram)?);
        }
        if let Some(layers) = self.layers {
            write_layers(&mut page, layers);
        }
        let heading = format!("{} <span class=\"{class}\">{verdict}</span>", escape(self.title));
        Ok(document(&format!("{}: {verdict}", self.title), &heading, &page))
    }

    fn summary(&self) -> String {
        let mut rows: Vec<(String, String)> = self.facts.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        if let Some((comparison, _)) = self.output {
            rows.extend(comparison.describe().into_iter().map(|(name, value)| (format!("output: {name}"), value)));
        }
        if let Some(layers) = self.layers {
            let first = layers.first_diverging().map_or_else(|| "none".to_string(), |l| l.name.clone());
            rows.push(("first diverging layer".into(), first));
        }
        facts(rows.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

fn write_layers(page: &mut String, report: &LayerReport) {
    page.push_str(
        "<table class=\"layers\">\n<thead><tr><th>layer</th><th>shape</th><th>max|Δ| / max|ref|</th><th>max|Δ|</th><th>RMS</th>\
         <th>cosine</th><th>SNR dB</th><th></th></tr></thead>\n<tbody>\n",
    );
    let first = report.first_diverging().map(|l| l.name.as_str());
    for layer in &report.layers {
        write_layer(page, layer, first == Some(layer.name.as_str()));
    }
    page.push_str("</tbody>\n</table>\n");
    for (title, names) in
        [("Fused away: not computed as values of their own", &report.fused_away), ("Unknown to this network", &report.unknown)]
    {
        if !names.is_empty() {
            let list = names.iter().map(|n| format!("<code>{}</code>", escape(n))).collect::<Vec<_>>().join(" ");
            let _ = writeln!(page, "<details><summary>{title}: {} references</summary><p>{list}</p></details>", names.len());
        }
    }
}

fn write_layer(page: &mut String, layer: &Layer, first: bool) {
    let (class, mark) = match (layer.passed(), first) {
        (true, _) => ("", ""),
        (false, false) => ("failed", "beyond tolerance"),
        (false, true) => ("failed first", "first diverging"),
    };
    let _ = write!(page, "<tr class=\"{class}\"><td><code>{}</code></td>", escape(&layer.name));
    let _ = match &layer.outcome {
        Outcome::Compared(c) => writeln!(
            page,
            "<td>{:?}</td><td>{:.3e}</td><td>{:.3e}</td><td>{:.3e}</td><td>{:.12}</td><td>{:.1}</td><td>{mark}</td></tr>",
            c.dims,
            c.relative_to_max(),
            c.max_abs.error,
            c.rms,
            c.cosine,
            c.snr_db
        ),
        Outcome::OtherShape { found, expected } => {
            writeln!(page, "<td>{found:?}</td><td colspan=\"5\">the reference has shape {expected:?}</td><td>{mark}</td></tr>")
        }
        Outcome::NoReference => writeln!(page, "<td></td><td colspan=\"5\">no reference</td><td></td></tr>"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Elementwise, Tolerance};
    use crate::tensor::{Shape, Tensor};

    fn comparison(value: &[f32], reference: &[f32]) -> (Comparison, ErrorHistogram) {
        let shape = Shape::new(&[1, value.len()]).unwrap();
        let (v, r) = (Tensor::from_slice(shape, value).unwrap(), Tensor::from_slice(shape, reference).unwrap());
        let tolerance = Tolerance::new(Some(1e-5), Some(Elementwise { rtol: 1e-5, atol: 0.0 })).unwrap();
        let comparison = Comparison::new("x", v.view(), r.view(), tolerance).unwrap();
        let histogram = ErrorHistogram::new(&comparison, v.view(), r.view());
        (comparison, histogram)
    }

    fn layer(name: &str, value: &[f32], reference: &[f32]) -> Layer {
        Layer { name: name.into(), outcome: Outcome::Compared(Box::new(comparison(value, reference).0)) }
    }

    fn page(report: &LayerReport, output: &(Comparison, ErrorHistogram)) -> String {
        let facts = [("model", "a <b>bold</b> name".to_string())];
        Report { title: "resnet & co", facts: &facts, output: Some((&output.0, &output.1)), layers: Some(report) }.to_html().unwrap()
    }

    #[test]
    fn the_page_names_the_first_diverging_layer_and_loads_nothing() {
        let layers = vec![
            layer("relu", &[1.0, 2.0], &[1.0, 2.0]),
            layer("layer1.0.relu", &[1.0, 2.1], &[1.0, 2.0]),
            layer("layer1.0.relu_1", &[f32::NAN, 2.0], &[1.0, 2.0]),
            Layer { name: "fc".into(), outcome: Outcome::OtherShape { found: vec![1, 10], expected: vec![1, 1000] } },
            Layer { name: "<script>".into(), outcome: Outcome::NoReference },
        ];
        let report = LayerReport { layers, fused_away: vec!["bn1".into()], unknown: vec![] };
        let page = page(&report, &comparison(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.5]));
        assert!(page.contains("beyond tolerance") && page.contains("<td>first diverging</td>"));
        assert!(page.contains("<tr><th>first diverging layer</th><td>layer1.0.relu</td></tr>"));
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(page.contains("resnet &amp; co") && page.contains("a &lt;b&gt;bold") && page.contains("&lt;script&gt;"));
        assert!(page.contains("the reference has shape [1, 1000]") && page.contains("<code>bn1</code>"));
        for loads in ["<script", "<link", "src=", "url(", "@import"] {
            assert!(!page.contains(loads), "{loads}");
        }
    }

    #[test]
    fn equal_tensors_make_a_page_too() {
        let report = LayerReport { layers: vec![layer("relu", &[1.0, 2.0], &[1.0, 2.0])], fused_away: vec![], unknown: vec![] };
        let page = page(&report, &comparison(&[1.0], &[1.0]));
        assert!(page.contains("within tolerance") && !page.contains("beyond tolerance") && page.contains("inf dB"));
    }
}
