//! Measured times of algorithms, by processor and problem, and the file that keeps them.
//!
//! The file is text. Its first line is `stridewise tuning 1`; a line `processor NAME` says where the lines behind it were measured;
//! each of those is a setting, and then, behind tabs, algorithms and their microseconds in turn.

use crate::atomic_file::write_atomically;
use crate::error::{Error, Result};
use crate::regular_file;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use stridewise_kernels::conv::Algorithm;
use stridewise_kernels::{ConvProblem, Isa, Layout, MAX_THREADS, processor};

/// What a time depends on, beside the processor and the algorithm. It is written `avx512 2 nchw16c n1c64h56w56o64k3s1p1`.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub isa: Isa,
    pub threads: usize,
    pub layout: Layout,
    pub problem: ConvProblem,
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {}", self.isa, self.threads, self.layout.name(), self.problem)
    }
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        let fields: Vec<&str> = text.split(' ').collect();
        let &[isa, threads, layout, problem] = fields.as_slice() else {
            return Err(format!("expected instruction set, threads, layout and problem, found `{}`", text.escape_debug()));
        };
        let layout_named = |name: &str| Layout::ALL.into_iter().find(|l| l.name() == name);
        Ok(Setting {
            isa: isa.parse().map_err(|e: stridewise_kernels::Error| e.to_string())?,
            threads: threads
                .parse()
                .ok()
                .filter(|t| (1..=MAX_THREADS).contains(t))
                .ok_or_else(|| format!("`{}` is no number of threads from 1 to {MAX_THREADS}", threads.escape_debug()))?,
            layout: layout_named(layout).ok_or_else(|| format!("unknown layout `{}`", layout.escape_debug()))?,
            problem: problem.parse().map_err(|e: stridewise_kernels::Error| e.to_string())?,
        })
    }
}

/// Seconds that each algorithm took.
type Times = Vec<(Algorithm, f64)>;

/// Measured times of convolutions, by which a plan chooses algorithms: see [`SessionOptions::tuning`](crate::SessionOptions) and
/// [`Model::tune`](crate::Model::tune). One table can hold those of many networks and processors; only this processor's are used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// By processor, then by setting.
    times: BTreeMap<String, BTreeMap<String, Times>>,
}

const FIRST_LINE: &str = "stridewise tuning 1";

/// Most bytes that a file may have: some hundred thousand problems.
const MAX_BYTES: u64 = 32 << 20;

impl Tuning {
    /// Reads a file that [`Tuning::save`] wrote.
    ///
    /// # Errors
    /// When the file can't be read, is too large, or a line of it is not what it should be; the error names the line.
    pub fn load(path: impl AsRef<Path>) -> Result<Tuning> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        let read = regular_file::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| Error::Io { path: path.into(), source })?;
        if bytes.len() as u64 > MAX_BYTES {
            let (requested, limit) = (format!("more than {MAX_BYTES} bytes"), format!("{MAX_BYTES} bytes"));
            return Err(Error::TooLarge { what: format!("{}: a table of measured times", path.display()), requested, limit });
        }
        Tuning::parse(&bytes).map_err(|(line, reason)| Error::Format { path: path.into(), reason: format!("line {line}: {reason}") })
    }

    /// The table, or the number of a bad line and what is wrong with it.
    fn parse(bytes: &[u8]) -> Result<Tuning, (usize, String)> {
        let mut tuning = Tuning::default();
        let mut processor: Option<&str> = None;
        let mut lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|b| *b == b'\n').enumerate();
        match lines.next() {
            Some((_, first)) if first == FIRST_LINE.as_bytes() => {}
            _ => return Err((1, format!("not a table of measured times: expected `{FIRST_LINE}`"))),
        }
        for (index, line) in lines {
            let refuse = |reason: String| Err((index + 1, reason));
            let Ok(line) = std::str::from_utf8(line) else { return refuse("not UTF-8".into()) };
            if let Some(name) = line.strip_prefix("processor ") {
                processor = Some(name);
                continue;
            }
            let Some(processor) = processor else { return refuse("a time before the first `processor` line".into()) };
            match parse_times(line) {
                Ok((setting, times)) => {
                    if tuning.times.entry(processor.into()).or_default().insert(setting.to_string(), times).is_some() {
                        return refuse(format!("{setting} is there twice"));
                    }
                }
                Err(reason) => return refuse(reason),
            }
        }
        Ok(tuning)
    }

    /// Writes the table to a file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] when it can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut text = format!("{FIRST_LINE}\n");
        for (processor, settings) in &self.times {
            text += &format!("processor {processor}\n");
            for (setting, times) in settings {
                text += setting;
                for (algorithm, seconds) in times {
                    text += &format!("\t{}\t{}", algorithm.name(), seconds * 1e6);
                }
                text.push('\n');
            }
        }
        write_atomically(path, |file| file.write_all(text.as_bytes()))
    }

    /// Takes over the times of another table, in the place of those that are here.
    pub fn extend(&mut self, other: Tuning) {
        for (processor, settings) in other.times {
            let own = self.times.entry(processor).or_default();
            for (setting, times) in settings {
                let own = own.entry(setting).or_default();
                own.retain(|(algorithm, _)| times.iter().all(|(other, _)| other != algorithm));
                own.extend(times);
            }
        }
    }

    /// Problems that were measured on this processor, each once for an instruction set and a number of threads.
    pub fn len(&self) -> usize {
        self.times.get(processor()).map_or(0, BTreeMap::len)
    }

    /// True when nothing was measured on this processor.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Seconds that each algorithm took on this processor.
    pub(crate) fn times(&self, setting: &Setting) -> &[(Algorithm, f64)] {
        self.times.get(processor()).and_then(|settings| settings.get(&setting.to_string())).map_or(&[], Vec::as_slice)
    }

    /// Whether all of the candidates were measured on this processor.
    pub(crate) fn is_complete(&self, setting: &Setting, candidates: &[Algorithm]) -> bool {
        let times = self.times(setting);
        candidates.iter().all(|candidate| times.iter().any(|(algorithm, _)| algorithm == candidate))
    }

    /// The fastest of the candidates on this processor; nothing unless there is a choice and all of them were measured.
    pub(crate) fn fastest(&self, setting: &Setting, candidates: &[Algorithm]) -> Option<Algorithm> {
        if candidates.len() < 2 || !self.is_complete(setting, candidates) {
            return None;
        }
        let measured = self.times(setting).iter().filter(|(algorithm, _)| candidates.contains(algorithm));
        measured.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(algorithm, _)| *algorithm)
    }

    /// Notes a time of this processor in the place of an older one.
    pub(crate) fn note(&mut self, setting: &Setting, algorithm: Algorithm, seconds: f64) {
        let times = self.times.entry(processor().into()).or_default().entry(setting.to_string()).or_default();
        match times.iter_mut().find(|(other, _)| *other == algorithm) {
            Some((_, old)) => *old = seconds,
            None => times.push((algorithm, seconds)),
        }
    }
}

/// A line of the file, or what is wrong with it.
fn parse_times(line: &str) -> Result<(Setting, Times), String> {
    let mut fields = line.split('\t');
    let setting: Setting = fields.next().unwrap_or_default().parse()?;
    let mut times = Times::new();
    while let Some(name) = fields.next() {
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.name() == name);
        let algorithm = algorithm.ok_or_else(|| format!("unknown algorithm `{}`", name.escape_debug()))?;
        algorithm.check(&setting.problem, setting.layout).map_err(|e| e.to_string())?;
        if times.iter().any(|(other, _)| *other == algorithm) {
            return Err(format!("{name} is there twice"));
        }
        let text = fields.next().ok_or_else(|| format!("{name} has no time"))?;
        let microseconds = text.parse::<f64>().ok().filter(|t| t.is_finite() && *t > 0.0);
        let microseconds = microseconds.ok_or_else(|| format!("`{}` is no time in microseconds", text.escape_debug()))?;
        times.push((algorithm, microseconds / 1e6));
    }
    if times.is_empty() { Err("no algorithm was measured".into()) } else { Ok((setting, times)) }
}
