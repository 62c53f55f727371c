//! `classify`: what is on a picture.

use crate::args::{ModelArgs, TunedRunArgs, from_one};
use crate::output::{Done, Failure, Output, count, duration, lines, lossy, table};
use crate::progress::Progress;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use stridewise::{Model, Session, SessionOptions};
use stridewise_kernels::softmax::softmax_rows;

/// Say what is on pictures
#[derive(Args)]
#[command(
    after_help = "Examples:\n  stridewise classify assets/samples/*.png\n  stridewise classify --model resnet50.safetensors --top 3 cat.jpg\n  stridewise classify --json cat.jpg | jq '.images[0].predictions[0].label'"
)]
pub struct Classify {
    /// JPEG or PNG files
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Classes to show for each picture
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = from_one())]
    top: u32,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: TunedRunArgs,
}

#[derive(Serialize)]
struct Report {
    model: String,
    isa: String,
    threads: usize,
    images: Vec<Image>,
}

#[derive(Serialize)]
struct Image {
    #[serde(serialize_with = "lossy")]
    path: PathBuf,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Classified(Classified),
    Unreadable { error: String },
}

#[derive(Serialize)]
struct Classified {
    predictions: Vec<Prediction>,
    prepare_seconds: f64,
    inference_seconds: f64,
}

#[derive(Serialize)]
struct Prediction {
    class: usize,
    label: Option<&'static str>,
    probability: f64,
    logit: f32,
}

impl Prediction {
    fn name(&self) -> String {
        self.label.map_or_else(|| format!("class {}", self.class), str::to_string)
    }
}

impl Classify {
    pub fn execute(self, output: &Output) -> Done {
        let model = self.model.load()?;
        let mut session = model.session(&SessionOptions { shapes: self.model.shapes(), ..self.run.options(1, None)? })?;
        let mut progress = Progress::new(output, self.images.len() as u64, "pictures");
        let mut images = Vec::with_capacity(self.images.len());
        for path in &self.images {
            // One bad file does not keep the others from being classified.
            let outcome = match classify(&model, &mut session, path, self.top as usize) {
                Ok(classified) => Outcome::Classified(classified),
                Err(error) => Outcome::Unreadable { error: error.to_string() },
            };
            images.push(Image { path: path.clone(), outcome });
            progress.add(1);
        }
        drop(progress);
        let report = Report { model: self.model.describe(&model), isa: session.isa().to_string(), threads: session.threads(), images };
        output.print(&report, || report.text())?;
        report.verdict()
    }
}

fn classify(model: &Model, session: &mut Session, path: &Path, top: usize) -> stridewise::Result<Classified> {
    let start = Instant::now();
    let input = model.preprocessing().load_image(path)?;
    let prepared = Instant::now();
    let logits = session.run(&input)?;
    let (prepare_seconds, inference_seconds) = ((prepared - start).as_secs_f64(), prepared.elapsed().as_secs_f64());
    let logits = logits.as_slice();
    let mut probabilities = logits.to_vec();
    softmax_rows(&mut probabilities, logits.len());
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let label = |class: usize| model.labels().and_then(|labels| labels.get(class).copied());
    let predictions = order.into_iter().take(top).map(|class| Prediction {
        class,
        label: label(class),
        probability: probabilities[class].into(),
        logit: logits[class],
    });
    Ok(Classified { predictions: predictions.collect(), prepare_seconds, inference_seconds })
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("{} on {}, {}\n", self.model, self.isa, count(self.threads, "thread"));
        // All tables have columns of one width.
        let classified = || {
            self.images.iter().filter_map(|image| match &image.outcome {
                Outcome::Classified(classified) => Some((&image.path, classified)),
                Outcome::Unreadable { .. } => None,
            })
        };
        let width = classified().flat_map(|(_, c)| &c.predictions).map(|p| p.name().chars().count()).max().unwrap_or(0);
        for (path, classified) in classified() {
            text += &format!(
                "\n{}  (decode and resize {}, inference {})\n",
                path.display(),
                duration(classified.prepare_seconds),
                duration(classified.inference_seconds)
            );
            let mut table = table(&["class", ">probability", ""]);
            for p in &classified.predictions {
                let name = format!("{:<width$}", p.name());
                table.add_row([name, format!("{:.2} %", 100.0 * p.probability), format!("{:<BAR$}", bar(p.probability))]);
            }
            text += &lines(&table);
        }
        text
    }

    /// An error when a picture could not be read, naming each of them.
    fn verdict(&self) -> Done {
        let errors: Vec<&str> = self
            .images
            .iter()
            .filter_map(|image| match &image.outcome {
                Outcome::Unreadable { error } => Some(error.as_str()),
                Outcome::Classified(_) => None,
            })
            .collect();
        if errors.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure::Usage(errors.join("\nerror: "))) }
    }
}

/// Cells of a bar.
const BAR: usize = 24;

/// A bar in eighths of a cell.
fn bar(probability: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (probability.clamp(0.0, 1.0) * BAR as f64 * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_in_eighths() {
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(1.0).chars().count(), 24);
        assert_eq!(bar(0.5), "█".repeat(12));
        assert_eq!(bar(1.0 / 48.0), "▌");
    }
}
