//! Guessing tokens changes neither the text nor the session.

mod common;

use std::path::{Path, PathBuf};

use common::gguf_writer::Kv;
use common::spec::{self, Spec};
use gristmill::gguf::Gguf;
use gristmill::quantize::{FileType, Plan, QuantizeOptions};
use gristmill::{
    CacheType, CancelToken, Completion, FinishReason, GenerateOptions, Model, Piece,
    SamplingOptions, Session, SessionOptions, Speculation,
};

const PROMPTS: [&str; 4] = [
    "Once upon a time",
    "The cat sat. The cat sat. The cat sat.",
    "One day a little dog said",
    "Tom and Sam had a red ball. Tom and Sam had a",
];

/// Of models with recurrent layers: these cannot forget.
const RECURRENT: [&str; 3] = ["lfm2", "qwen35", "qwen3next"];

/// The teller of stories, with weights whose products do not depend on how many tokens go together: as
/// floats, they are multiplied with activations that are not rounded.
fn teller() -> Model {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("demo.gguf");
    let gguf = Gguf::open(demo_path()).expect("the demo model");
    let options = QuantizeOptions::new().requantize(true);
    let plan = Plan::new(&gguf, FileType::F32, &options).expect("a plan");
    plan.write(&path, |_, _| ()).expect("a file");
    let bytes = std::fs::read(path).expect("the file");
    let gguf = Gguf::from_bytes(bytes).expect("a sound file");
    Model::builder().threads(2).load(gguf).expect("a model")
}

fn demo_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo-model/demo.gguf")
}

/// With a vocabulary of numbers, of which `changed` is another one.
fn model_with(spec: &Spec, changed: Option<usize>) -> Model {
    let vocab = spec.logits[0].len();
    let mut texts: Vec<_> = (0..vocab).map(|token| format!("▁{token}")).collect();
    texts[0] = "<unk>".to_owned();
    if let Some(changed) = changed {
        texts[changed].push('!');
    }
    let is_other = |key: &str| key != "tokenizer.ggml.model";
    let mut writer = spec
        .metadata(|key, value| is_other(key).then_some(value))
        .kv("tokenizer.ggml.model", Kv::text("llama"))
        .kv(
            "tokenizer.ggml.tokens",
            Kv::texts(texts.iter().map(String::as_str)),
        );
    for (name, shape, data) in spec.data() {
        writer = writer.f32_tensor(name, shape, &data);
    }
    let gguf = Gguf::from_bytes(writer.build()).expect("a sound file");
    let model = Model::builder().threads(2).load(gguf);
    model.unwrap_or_else(|error| panic!("{}: {error}", spec.name))
}

fn model(spec: &Spec) -> Model {
    model_with(spec, None)
}

fn session(model: &Model, positions: usize, speculation: Option<Speculation>) -> Session {
    let mut options = SessionOptions::new().context_length(positions);
    if let Some(speculation) = speculation {
        options = options.speculate(speculation);
    }
    model.session_with(&options).expect("a session")
}

/// What is the same however tokens are guessed.
fn essence(completion: &Completion) -> (&str, &[u32], FinishReason) {
    (
        &completion.text,
        &completion.tokens,
        completion.finish_reason,
    )
}

fn choices() -> Vec<SamplingOptions> {
    let drawn = SamplingOptions {
        temperature: 0.9,
        seed: Some(5),
        ..Default::default()
    };
    vec![
        SamplingOptions::default(),
        SamplingOptions {
            presence_penalty: 0.5,
            repeat_last_n: 8,
            ..Default::default()
        },
        SamplingOptions {
            mirostat: Some(gristmill::MirostatVersion::V2),
            ..drawn.clone()
        },
        SamplingOptions {
            xtc_probability: 0.5,
            dry_multiplier: 0.5,
            dry_sequence_breakers: Vec::new(),
            ..drawn.clone()
        },
        drawn,
    ]
}

/// Generates twice, the second time behind the first text, and says what came, and where the session
/// stands.
fn twice(session: &mut Session, prompt: &[u32], options: &GenerateOptions) -> Vec<Completion> {
    let mut completions = Vec::new();
    for prompt in [prompt, &prompt[..1], &[]] {
        let generation = session.generate_from(prompt, options).expect("room");
        completions.push(generation.finish().expect("a text"));
    }
    completions
}

#[test]
fn texts_are_the_same_with_every_architecture_and_choice() {
    let mut accepted = [0; 3];
    for mut spec in spec::all() {
        let model = model(&spec);
        // Other weights.
        spec.seed += 1;
        let other = self::model(&spec);
        if RECURRENT.iter().any(|name| spec.arch == *name) {
            continue;
        }
        let guessers = [
            Speculation::prompt_lookup(),
            Speculation::draft(&model),
            Speculation::draft(&other),
        ];
        // Something to be found again.
        let prompt = [&spec.tokens[..12], &spec.tokens[..9]].concat();
        for sampling in choices() {
            let options = GenerateOptions::new().max_tokens(40).sampling(sampling);
            let plain = twice(&mut session(&model, 160, None), &prompt, &options);
            for (guesser, accepted) in guessers.iter().zip(&mut accepted) {
                let mut session = session(&model, 160, Some(guesser.clone()));
                let found = twice(&mut session, &prompt, &options);
                for (plain, found) in plain.iter().zip(&found) {
                    assert_eq!(essence(plain), essence(found), "{} {guesser:?}", spec.name);
                    assert_eq!(
                        plain.timings.evaluated_tokens,
                        found.timings.evaluated_tokens
                    );
                    *accepted += found.timings.accepted_tokens;
                }
            }
        }
    }
    // How many, the time that passes take decides.
    let [lookup, same, _] = accepted;
    assert!(lookup > 0 && same > 0, "{accepted:?}");
}

/// Guessers for the teller, by name.
fn guessers(teller: &Model) -> [(&'static str, Speculation); 4] {
    let small = Model::builder().threads(1).open(demo_path());
    [
        ("lookup", Speculation::prompt_lookup()),
        ("one at a time", Speculation::prompt_lookup().max_tokens(1)),
        ("itself", Speculation::draft(teller).max_tokens(31)),
        ("rounded", Speculation::draft(&small.expect("a model"))),
    ]
}

/// A pass of several tokens may sum in another order than one of a single token.
fn assert_near(a: &Session, b: &Session, what: &str) {
    assert_eq!(a.logits().len(), b.logits().len(), "{what}");
    let pairs = a.logits().iter().zip(b.logits());
    let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(error <= 2e-3, "{what}: logits differ by {error}");
}

fn pieces(session: &mut Session, prompt: &str, options: &GenerateOptions) -> Vec<Piece> {
    let generation = session.generate(prompt, options).expect("room");
    generation.map(|piece| piece.expect("a piece")).collect()
}

#[test]
fn stories_come_in_the_same_pieces_and_end_alike() {
    let teller = teller();
    let story = teller.generate(PROMPTS[0], &GenerateOptions::new().max_tokens(400));
    let story = story.expect("a story");
    assert!(matches!(
        story.finish_reason,
        FinishReason::EndOfGeneration(_)
    ));
    let stop = &story.text[story.text.len() / 2..][..9];
    let new = GenerateOptions::new;
    let mut all = vec![
        new().max_tokens(400),
        new().max_tokens(0),
        new().max_tokens(1),
        new().max_tokens(2),
        new().max_tokens(77),
        new().max_tokens(usize::MAX).ignore_end_of_generation(true),
        new().max_tokens(400).stop("never to be seen").stop(stop),
    ];
    for seed in 0..4 {
        let sampling = SamplingOptions {
            temperature: 0.4 + 0.2 * seed as f32,
            seed: Some(seed),
            ..Default::default()
        };
        all.push(new().max_tokens(60).sampling(sampling));
    }
    for (name, guesser) in guessers(&teller) {
        for cache_type in [CacheType::F16, CacheType::F32] {
            let open = |guesser: Option<&Speculation>| {
                let options = SessionOptions::new()
                    .context_length(150)
                    .cache_type(cache_type);
                let mut session = teller.session_with(&options).expect("a session");
                session.speculate(guesser).expect("memory");
                session
            };
            for (index, options) in all.iter().enumerate() {
                for prompt in PROMPTS {
                    let what = format!("{name} {cache_type} {index} {prompt}");
                    let (mut plain, mut guessing) = (open(None), open(Some(&guesser)));
                    let expected = pieces(&mut plain, prompt, options);
                    assert_eq!(pieces(&mut guessing, prompt, options), expected, "{what}");
                    assert_eq!(guessing.tokens(), plain.tokens(), "{what}");
                    assert_near(&guessing, &plain, &what);
                    if plain.position() + 20 < plain.context_length() {
                        let more = new().max_tokens(15);
                        let expected = pieces(&mut plain, " and", &more);
                        assert_eq!(pieces(&mut guessing, " and", &more), expected, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn guesses_are_counted() {
    let teller = teller();
    let options = GenerateOptions::new().max_tokens(64);
    for (name, guesser) in guessers(&teller) {
        let mut session = session(&teller, 400, Some(guesser));
        let generation = session.generate(PROMPTS[0], &options).expect("room");
        let timings = generation.finish().expect("a story").timings;
        let (drafted, accepted) = (timings.drafted_tokens, timings.accepted_tokens);
        assert!(accepted <= drafted, "{name}: {timings:?}");
        assert_eq!(
            (timings.generated_tokens, timings.evaluated_tokens),
            (64, 63)
        );
    }
    let plain = teller.generate(PROMPTS[0], &options).expect("a story");
    assert_eq!(
        (plain.timings.drafted_tokens, plain.timings.accepted_tokens),
        (0, 0)
    );
}

#[test]
fn a_session_that_guesses_can_be_left_copied_saved_and_changed_at_any_token() {
    let teller = teller();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("session");
    let options = GenerateOptions::new().max_tokens(30);
    let plain = |guesser: Option<&Speculation>| session(&teller, 200, guesser.cloned());
    for (name, guesser) in guessers(&teller) {
        for taken in 0..12 {
            let mut sessions = [plain(None), plain(Some(&guesser))];
            for session in &mut sessions {
                let mut generation = session.generate(PROMPTS[1], &options).expect("room");
                generation
                    .by_ref()
                    .take(taken)
                    .for_each(|piece| assert!(piece.is_ok()));
            }
            let [plain, guessing] = &mut sessions;
            assert_eq!(guessing.tokens(), plain.tokens(), "{name} {taken}");
            assert_near(guessing, plain, &format!("{name} {taken}"));
            if taken == 0 {
                continue;
            }
            guessing.save(&path).expect("a file");
            let mut copy = guessing.fork().expect("memory");
            let mut loaded = teller.load_session(&path).expect("a sound file");
            loaded.speculate(Some(&guesser)).expect("memory");
            // Other changes than generating: by hand, in a batch, back and on.
            let mut changed = copy.fork().expect("memory");
            let mut same = plain.fork().expect("memory");
            for session in [&mut changed, &mut same] {
                session
                    .truncate(session.position() - 2)
                    .expect("a position");
                session.feed(&[5, 6]).expect("room");
                teller.batch().step(&mut [(session, 7)]).expect("room");
            }
            let expected = pieces(&mut same, "", &options);
            assert_eq!(
                pieces(&mut changed, "", &options),
                expected,
                "{name} {taken}"
            );
            same.clear();
            changed.clear();
            let expected = pieces(&mut same, PROMPTS[3], &options);
            assert_eq!(
                pieces(&mut changed, PROMPTS[3], &options),
                expected,
                "{name} {taken}"
            );
            let expected = pieces(plain, "", &options);
            for other in [guessing, &mut copy, &mut loaded] {
                assert_eq!(pieces(other, "", &options), expected, "{name} {taken}");
                assert_eq!(other.tokens(), plain.tokens(), "{name} {taken}");
            }
        }
    }
}

#[test]
fn cancelling_between_tokens_leaves_the_session_behind_those_that_were_given() {
    let teller = teller();
    for (name, guesser) in guessers(&teller) {
        let mut sessions = [None, Some(guesser)].map(|guesser| session(&teller, 200, guesser));
        let given = sessions.each_mut().map(|session| {
            let cancel = CancelToken::new();
            let options = GenerateOptions::new().cancel(&cancel);
            let mut generation = session.generate(PROMPTS[1], &options).expect("room");
            let given: Vec<_> = generation.by_ref().take(9).map(Result::unwrap).collect();
            cancel.cancel();
            assert!(generation.next().is_none());
            assert_eq!(generation.finish_reason(), Some(FinishReason::Cancelled));
            given
        });
        assert_eq!(given[0], given[1], "{name}");
        assert_eq!(sessions[0].tokens(), sessions[1].tokens(), "{name}");
        let options = GenerateOptions::new().max_tokens(9);
        let more = sessions
            .each_mut()
            .map(|session| pieces(session, "", &options));
        assert_eq!(more[0], more[1], "{name}");
    }
}

#[test]
fn what_cannot_guess_or_forget_is_refused() {
    let spec = Spec::golden("llama");
    let (target, draft) = (model(&spec), model_with(&spec, Some(77)));
    let options = SessionOptions::new().speculate(Speculation::draft(&draft));
    let error = target
        .session_with(&options)
        .expect_err("another vocabulary")
        .to_string();
    assert!(
        error.contains("token 77 is \" 77\"") && error.contains("where it is \" 77!\""),
        "{error}"
    );
    for spec in spec::all() {
        if RECURRENT.iter().any(|name| spec.arch == *name) {
            let model = model(&spec);
            let options = SessionOptions::new().speculate(Speculation::prompt_lookup());
            let error = model.session_with(&options).expect_err("recurrent layers");
            assert!(error.to_string().contains(&spec.arch), "{error}");
        }
    }
}
