//! Shows what is in a GGUF file: its metadata, its tensors, and the space that each type takes.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gristmill::gguf::{Gguf, TensorInfo, Value};
use gristmill::supported;
use serde::Serialize;
use serde_json::Value as Json;

/// Shows what is in a GGUF file: metadata, tensors, and the space that each type takes.
///
/// Nothing but the header is read, so it takes no longer for a large file than for a small one. Of a
/// model in several files (NAME-00001-of-00003.gguf ...) name any: all are shown as one.
#[derive(Parser)]
#[command(name = "inspect", version)]
struct Options {
    /// The GGUF file [default: the demo model of this repository]
    #[arg(value_name = "MODEL")]
    file: Option<PathBuf>,

    /// The same, for the habit of other programs
    #[arg(short, long, value_name = "MODEL", conflicts_with = "file")]
    model: Option<PathBuf>,

    /// Show only keys and tensors whose name contains this text
    #[arg(short, long, value_name = "TEXT")]
    filter: Option<String>,

    /// Show arrays and texts in full, however long they are
    #[arg(long)]
    full: bool,

    /// Print JSON: sizes are in bytes, shapes have the contiguous dimension first
    #[arg(long)]
    json: bool,

    /// Show no file, but the architectures, types and tokenizers that this version runs
    #[arg(long, conflicts_with_all = ["file", "model", "filter", "full"])]
    supported: bool,
}

/// Elements of a long array that are shown without `--full`.
const ELEMENTS_SHOWN: usize = 6;

/// Characters of a long text that are shown without `--full`.
const CHARACTERS_SHOWN: usize = 72;

/// Characters of a line of names.
const LINE: usize = 80;

/// Names longer than this do not widen the column of names.
const WIDEST_NAME: usize = 44;

fn main() -> ExitCode {
    common::exit(run(&Options::parse()))
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let text = if options.supported {
        Supported::new().print(options.json)?
    } else {
        let named = options.file.as_deref().or(options.model.as_deref());
        let report = Report::of(&Gguf::open(common::model_path(named)?)?, options);
        if options.json {
            serde_json::to_string_pretty(&report)? + "\n"
        } else {
            report.to_text(options.full)
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads our output, such as `head`, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// What this version runs.
#[derive(Serialize)]
struct Supported {
    architectures: Vec<&'static str>,
    tensor_types: Vec<&'static str>,
    tokenizers: Vec<&'static str>,
    pre_tokenizers: Vec<&'static str>,
}

impl Supported {
    fn new() -> Self {
        Self {
            architectures: supported::architectures().collect(),
            tensor_types: supported::tensor_types().collect(),
            tokenizers: supported::tokenizers().collect(),
            pre_tokenizers: supported::pre_tokenizers()
                .filter(|name| !name.is_empty())
                .collect(),
        }
    }

    fn print(&self, json: bool) -> serde_json::Result<String> {
        if json {
            return Ok(serde_json::to_string_pretty(self)? + "\n");
        }
        let lists = [
            ("Architectures (general.architecture)", &self.architectures),
            ("Types of tensors", &self.tensor_types),
            ("Tokenizers (tokenizer.ggml.model)", &self.tokenizers),
            ("Pre-tokenizers (tokenizer.ggml.pre)", &self.pre_tokenizers),
        ];
        let lists = lists.map(|(title, names)| format!("{title}\n{}", wrapped(names)));
        Ok(lists.join("\n"))
    }
}

/// Names in lines that are not too long.
fn wrapped(names: &[&str]) -> String {
    let mut text = String::new();
    let mut line = String::new();
    for name in names {
        if line.len() + 2 + name.len() > LINE {
            text.push_str(&line);
            text.push('\n');
            line.clear();
        }
        line.push_str("  ");
        line.push_str(name);
    }
    text + &line + "\n"
}

/// Everything that is shown, in either form.
#[derive(Serialize)]
struct Report {
    files: Vec<String>,
    version: u32,
    alignment: usize,
    metadata: Vec<Entry>,
    tensors: Vec<Tensor>,
    types: Vec<TypeTotal>,
    total: Total,
}

/// A metadata entry.
#[derive(Serialize)]
struct Entry {
    key: String,
    #[serde(rename = "type")]
    value_type: String,
    /// Elements of an array, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<usize>,
    /// The value; of a long array the first elements.
    value: Json,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    #[serde(rename = "type")]
    ggml_type: String,
    shape: Vec<u64>,
    elements: u64,
    bytes: u64,
    file: usize,
}

/// What the tensors of one type take.
#[derive(Serialize)]
struct TypeTotal {
    #[serde(rename = "type")]
    ggml_type: String,
    #[serde(flatten)]
    total: Total,
}

#[derive(Default, Serialize)]
struct Total {
    tensors: usize,
    elements: u64,
    bytes: u64,
}

impl Total {
    fn add(&mut self, tensor: &Tensor) {
        self.tensors += 1;
        self.elements += tensor.elements;
        self.bytes += tensor.bytes;
    }

    fn bits_per_element(&self) -> f64 {
        self.bytes as f64 * 8.0 / (self.elements.max(1)) as f64
    }
}

impl Report {
    fn of(gguf: &Gguf, options: &Options) -> Report {
        let limit = if options.full {
            usize::MAX
        } else {
            ELEMENTS_SHOWN
        };
        let filter = options.filter.as_deref().unwrap_or_default();
        let wanted = |name: &str| name.contains(filter);
        let metadata = gguf.metadata().filter(|(key, _)| wanted(key));
        let tensors = gguf.tensors().iter().filter(|tensor| wanted(tensor.name()));
        let tensors: Vec<Tensor> = tensors.map(Tensor::of).collect();
        let mut types: BTreeMap<&str, Total> = BTreeMap::new();
        let mut total = Total::default();
        for tensor in &tensors {
            types.entry(&tensor.ggml_type).or_default().add(tensor);
            total.add(tensor);
        }
        let mut types: Vec<TypeTotal> = types
            .into_iter()
            .map(|(name, total)| TypeTotal {
                ggml_type: name.to_owned(),
                total,
            })
            .collect();
        types.sort_by_key(|row| std::cmp::Reverse(row.total.bytes));
        Report {
            files: gguf.part_names().to_vec(),
            version: gguf.version(),
            alignment: gguf.alignment(),
            metadata: metadata
                .map(|(key, value)| Entry::of(key, value, limit))
                .collect(),
            tensors,
            types,
            total,
        }
    }

    fn to_text(&self, full: bool) -> String {
        let mut text = format!(
            "{}\nGGUF version {}, alignment {}, {} of tensors\n",
            self.files
                .iter()
                .map(|name| escaped(name))
                .collect::<Vec<_>>()
                .join("\n"),
            self.version,
            self.alignment,
            size(self.total.bytes),
        );
        let _ = writeln!(text, "\nMetadata ({})", self.metadata.len());
        for row in aligned(self.metadata.iter().map(|entry| entry.cells(full)), &[]) {
            let _ = writeln!(text, "  {row}");
        }
        let _ = writeln!(text, "\nTensors ({})", self.tensors.len());
        for row in aligned(
            self.tensors
                .iter()
                .map(|tensor| tensor.cells(self.files.len())),
            &[3],
        ) {
            let _ = writeln!(text, "  {row}");
        }
        text.push_str("\nTypes\n");
        for row in aligned(self.type_cells().into_iter(), &[1, 2, 3, 4, 5]) {
            let _ = writeln!(text, "  {row}");
        }
        text
    }

    /// The table of types with its head and its last line, the total.
    fn type_cells(&self) -> Vec<Vec<String>> {
        let head = [
            "type",
            "tensors",
            "elements",
            "size",
            "share",
            "bits/element",
        ];
        let row = |name: &str, total: &Total| {
            let share = 100.0 * total.bytes as f64 / self.total.bytes.max(1) as f64;
            vec![
                name.to_owned(),
                total.tensors.to_string(),
                total.elements.to_string(),
                size(total.bytes),
                format!("{share:.1} %"),
                format!("{:.2}", total.bits_per_element()),
            ]
        };
        let mut cells = vec![head.map(str::to_owned).to_vec()];
        cells.extend(
            self.types
                .iter()
                .map(|line| row(&line.ggml_type, &line.total)),
        );
        cells.push(row("total", &self.total));
        cells
    }
}

impl Entry {
    fn of(key: &str, value: &Value, limit: usize) -> Entry {
        let (value_type, length) = match value {
            Value::Array(array) => (
                format!("array of {}", array.element_type()),
                Some(array.len()),
            ),
            other => (other.value_type().to_string(), None),
        };
        Entry {
            key: key.to_owned(),
            value_type,
            length,
            value: json(value, limit),
        }
    }

    fn cells(&self, full: bool) -> Vec<String> {
        let value_type = match self.length {
            Some(length) => format!("{} {}", self.value_type, length),
            None => self.value_type.clone(),
        };
        let mut value = shown(&self.value, full);
        if let Json::Array(elements) = &self.value
            && self.length.is_some_and(|length| elements.len() < length)
        {
            value.truncate(value.len() - 1);
            value.push_str(", …]");
        }
        vec![escaped(&self.key), value_type, value]
    }
}

impl Tensor {
    fn of(tensor: &TensorInfo) -> Tensor {
        Tensor {
            name: tensor.name().to_owned(),
            ggml_type: tensor.ggml_type().to_string(),
            shape: tensor.shape().to_vec(),
            elements: tensor.shape().iter().product(),
            bytes: tensor.byte_len() as u64,
            file: tensor.part(),
        }
    }

    fn cells(&self, files: usize) -> Vec<String> {
        let shape: Vec<String> = self.shape.iter().map(u64::to_string).collect();
        let mut cells = vec![
            escaped(&self.name),
            self.ggml_type.clone(),
            shape.join(" × "),
            size(self.bytes),
        ];
        if files > 1 {
            cells.push(format!("file {}", self.file + 1));
        }
        cells
    }
}

/// A value as JSON; of an array the first `limit` elements.
fn json(value: &Value, limit: usize) -> Json {
    match value {
        Value::U8(v) => (*v).into(),
        Value::I8(v) => (*v).into(),
        Value::U16(v) => (*v).into(),
        Value::I16(v) => (*v).into(),
        Value::U32(v) => (*v).into(),
        Value::I32(v) => (*v).into(),
        Value::U64(v) => (*v).into(),
        Value::I64(v) => (*v).into(),
        // By way of the shortest text: 0.1f32 as f64 would be 0.10000000149.
        Value::F32(v) => float(&v.to_string()),
        Value::F64(v) => float(&v.to_string()),
        Value::Bool(v) => (*v).into(),
        Value::String(text) => text.to_str_lossy().into(),
        Value::Array(array) => array
            .values()
            .take(limit)
            .map(|v| json(&v, limit))
            .collect(),
    }
}

/// A floating-point number as JSON, which knows neither infinity nor NaN: those become text.
fn float(text: &str) -> Json {
    let number = text.parse().ok().and_then(serde_json::Number::from_f64);
    number.map_or_else(|| text.into(), Json::Number)
}

/// A value as one line of text.
fn shown(value: &Json, full: bool) -> String {
    match value {
        Json::String(text) => {
            let limit = if full { usize::MAX } else { CHARACTERS_SHOWN };
            let start: String = text.chars().take(limit).collect();
            match text.chars().count() {
                count if count > limit => {
                    format!("\"{}…\" ({count} characters)", escaped(&start))
                }
                _ => format!("\"{}\"", escaped(text)),
            }
        }
        Json::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(|v| shown(v, full)).collect();
            format!("[{}]", elements.join(", "))
        }
        other => other.to_string(),
    }
}

/// Text from a file made safe for a terminal: control characters are escaped.
fn escaped(text: &str) -> String {
    let escape = |c| match c {
        '\'' => "'".to_owned(),
        c => char::escape_debug(c).to_string(),
    };
    text.chars().map(escape).collect()
}

/// Lines whose columns have the same width; those in `right` are aligned to the right.
fn aligned(rows: impl Iterator<Item = Vec<String>>, right: &[usize]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let widths = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        widths
            .filter(|&width| width <= WIDEST_NAME)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if right.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A number of bytes for reading: three digits and a unit.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    while scaled >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if scaled < 10.0 => format!("{scaled:.2} {}", UNITS[unit]),
        _ if scaled < 100.0 => format!("{scaled:.1} {}", UNITS[unit]),
        _ => format!("{scaled:.0} {}", UNITS[unit]),
    }
}
