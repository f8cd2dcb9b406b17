//! Text to token ids and back; the throughput is in bytes of text.

mod common;

use criterion::{Criterion, Throughput};
use gristmill::gguf::Gguf;
use gristmill::tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};

/// Prose, code, numbers, other scripts: pre-tokenizers take them apart in different ways.
const PARAGRAPH: &str = "\
The miller's daughter carried 24 sacks down to the water; she didn't stop until the wheel had
turned, slowly at first, and then so fast that nobody could've counted its blades.

    fn grind(grain: &[Grain], stones: usize) -> Result<Vec<Flour>, JamError> {
        grain.chunks(stones).map(|part| part.iter().sum::<Weight>() / 3.14).collect()
    }

Der Müller mahlt über Nacht. Η μυλόπετρα γυρίζει. Мельница стоит у реки. 水車がゆっくり回る。 🌾🌾
";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("tokenize");
    let text: String = (0..32)
        .map(|number| format!("{number}. {PARAGRAPH}\n"))
        .collect();
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.sample_size(20);
    for (name, path) in common::models() {
        let file = Gguf::open(&path).expect("a GGUF file");
        let tokenizer = Tokenizer::from_gguf(&file).expect("a tokenizer");
        let encode = || tokenizer.encode(&text, EncodeOptions::default());
        let ids = encode().expect("ids");
        group.bench_function(format!("encode/{name}"), |bencher| bencher.iter(encode));
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter(|| tokenizer.decode(&ids, DecodeOptions::default()));
        });
    }
    group.finish();
    criterion.final_summary();
}
