//! From a prompt to text, with the demo model.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use gristmill::tokenizer::{DecodeOptions, EncodeOptions};
use gristmill::{
    CancelToken, Candidates, Completion, Error, FinishReason, GenerateOptions, Model, Sampler,
    SamplingOptions, Session, SessionOptions,
};
use rayon::prelude::*;

const PROMPT: &str = "Once upon a time";

fn demo_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo-model/demo.gguf")
}

fn model() -> Model {
    Model::builder().threads(1).open(demo_path()).unwrap()
}

fn session(model: &Model, positions: usize) -> Session {
    model
        .session_with(&SessionOptions::new().context_length(positions))
        .unwrap()
}

fn max_tokens(tokens: usize) -> GenerateOptions {
    GenerateOptions::new().max_tokens(tokens)
}

fn run(session: &mut Session, prompt: &str, options: &GenerateOptions) -> Completion {
    session.generate(prompt, options).unwrap().finish().unwrap()
}

fn prompt_tokens(model: &Model) -> Vec<u32> {
    model
        .tokenizer()
        .encode(PROMPT, EncodeOptions::default())
        .unwrap()
}

/// Some long text: `count` times the prompt.
fn long_prompt(count: usize) -> String {
    [PROMPT].repeat(count).join(" ")
}

/// The loop by hand: feed, take the greatest logit, decode all at the end.
fn greedy_by_hand(model: &Model, count: usize) -> (Vec<u32>, String) {
    let mut session = session(model, 512);
    let mut tokens = Vec::new();
    session.feed(&prompt_tokens(model)).unwrap();
    while tokens.len() < count {
        let logits = session.logits();
        let greatest = logits.iter().copied().reduce(f32::max).unwrap();
        let token = logits.iter().position(|&logit| logit == greatest).unwrap() as u32;
        if model.tokenizer().is_end_of_generation(token) {
            break;
        }
        tokens.push(token);
        session.feed(&[token]).unwrap();
    }
    let text = model
        .tokenizer()
        .decode(&tokens, DecodeOptions::default())
        .unwrap();
    (tokens, text)
}

#[test]
fn the_demo_model_tells_a_story_to_its_end() {
    let model = model();
    let story = model.generate(PROMPT, &max_tokens(400)).unwrap();
    assert!(
        matches!(story.finish_reason, FinishReason::EndOfGeneration(_)),
        "{story:?}"
    );
    let words: Vec<&str> = story.text.split_whitespace().collect();
    assert!(words.len() > 50, "{}", story.text);
    let is_letter = |c: char| c.is_ascii_alphabetic() || c.is_ascii_punctuation();
    assert!(
        words
            .iter()
            .all(|word| word.len() < 20 && word.chars().all(is_letter)),
        "{words:?}"
    );
    assert!(
        story.text.trim_end().ends_with(['.', '!', '?', '"']),
        "{}",
        story.text
    );
    assert_eq!((story.tokens, story.text), greedy_by_hand(&model, 400));
}

#[test]
fn pieces_make_up_the_text_and_the_tokens() {
    let model = model();
    let (tokens, text) = greedy_by_hand(&model, 60);
    let mut session = model.session().unwrap();
    let options = max_tokens(60);
    let mut generation = session.generate(PROMPT, &options).unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = generation.next() {
        pieces.push(piece.unwrap());
        assert_eq!(
            generation.finish_reason().is_some(),
            pieces.concat_tokens().len() == 60
        );
    }
    assert!(generation.next().is_none());
    assert_eq!(generation.finish_reason(), Some(FinishReason::MaxTokens));
    let timings = generation.timings();
    assert_eq!(timings.prompt_tokens, prompt_tokens(&model).len());
    assert_eq!(
        (timings.generated_tokens, timings.evaluated_tokens),
        (60, 59)
    );
    assert!(!timings.prompt_duration.is_zero() && !timings.generation_duration.is_zero());
    assert!(pieces.len() > 30);
    assert_eq!(pieces.concat_tokens(), tokens);
    assert_eq!(
        pieces
            .iter()
            .map(|piece| piece.text.as_str())
            .collect::<String>(),
        text
    );
}

trait ConcatTokens {
    fn concat_tokens(&self) -> Vec<u32>;
}

impl ConcatTokens for Vec<gristmill::Piece> {
    fn concat_tokens(&self) -> Vec<u32> {
        self.iter()
            .flat_map(|piece| piece.tokens.iter().copied())
            .collect()
    }
}

#[test]
fn the_number_of_threads_does_not_change_the_text() {
    let two = Model::builder().threads(2).open(demo_path()).unwrap();
    let sampling = SamplingOptions {
        temperature: 0.9,
        seed: Some(3),
        ..Default::default()
    };
    for options in [max_tokens(80), max_tokens(80).sampling(sampling)] {
        let one = model().generate(PROMPT, &options).unwrap();
        let two = two.generate(PROMPT, &options).unwrap();
        assert_eq!((one.tokens, one.text), (two.tokens, two.text));
    }
}

/// A thread that waits for rayon does other tasks of its pool meanwhile, and one that came back to the
/// model in the middle of a pass would wait for itself.
#[test]
fn a_model_can_be_used_from_the_tasks_of_a_thread_pool() {
    let model = Model::builder().threads(2).open(demo_path()).unwrap();
    let texts: Vec<_> = (0..32)
        .into_par_iter()
        .with_max_len(1)
        .map(|_| model.generate(PROMPT, &max_tokens(16)).unwrap().text)
        .collect();
    assert!(texts.iter().all(|text| *text == texts[0]));
}

#[test]
fn a_seed_gives_the_same_text_and_another_seed_another() {
    let model = model();
    let text = |seed| {
        let sampling = SamplingOptions {
            temperature: 1.0,
            seed,
            ..Default::default()
        };
        model
            .generate(PROMPT, &max_tokens(60).sampling(sampling))
            .unwrap()
            .text
    };
    assert_eq!(text(Some(1)), text(Some(1)));
    assert_ne!(text(Some(1)), text(Some(2)));
}

#[test]
fn the_text_ends_before_a_stop_string_wherever_it_lies() {
    let model = model();
    let (_, text) = greedy_by_hand(&model, 60);
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    for (place, window) in starts.windows(8).enumerate().step_by(7) {
        let stop = &text[window[0]..window[1 + place % 7]];
        let options = max_tokens(60).stop("never to be seen").stop(stop);
        let completion = model.generate(PROMPT, &options).unwrap();
        assert_eq!(
            completion.finish_reason,
            FinishReason::StopString(1),
            "{stop:?}"
        );
        assert_eq!(
            completion.text,
            text[..text.find(stop).unwrap()],
            "{stop:?}"
        );
    }
}

#[test]
fn what_was_held_back_is_given_out_at_the_end() {
    let model = model();
    let (_, text) = greedy_by_hand(&model, 20);
    let stop = format!("{}#", &text[text.len() - 5..]);
    let completion = model.generate(PROMPT, &max_tokens(20).stop(stop)).unwrap();
    assert_eq!(completion.finish_reason, FinishReason::MaxTokens);
    assert_eq!(completion.text, text);
}

#[test]
fn no_tokens_can_be_asked_for() {
    let model = model();
    let mut session = model.session().unwrap();
    let completion = run(&mut session, PROMPT, &max_tokens(0));
    assert_eq!(completion.finish_reason, FinishReason::MaxTokens);
    assert_eq!((completion.text.as_str(), completion.tokens.len()), ("", 0));
    assert_eq!(session.position(), prompt_tokens(&model).len());
    assert_eq!(session.logits().len(), model.vocab_size());
}

#[test]
fn a_full_context_ends_the_text() {
    let model = model();
    let prompt = prompt_tokens(&model).len();
    let mut session = session(&model, prompt + 5);
    let completion = run(&mut session, PROMPT, &max_tokens(100));
    assert_eq!(completion.finish_reason, FinishReason::ContextFull);
    // The last one needs no position.
    assert_eq!(completion.tokens, greedy_by_hand(&model, 6).0);
    assert_eq!(session.position(), session.context_length());
    let full = session.generate("", &max_tokens(1)).map(|_| ());
    let (capacity, needed) = (prompt + 5, prompt + 6);
    assert!(
        matches!(full, Err(Error::ContextFull { capacity: c, needed: n })
            if (c, n) == (capacity, needed)),
        "{full:?}"
    );
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_before_anything_is_evaluated() {
    let model = model();
    let prompt = prompt_tokens(&model).len();
    let mut session = session(&model, prompt);
    let refused = session
        .generate(&long_prompt(2), &max_tokens(1))
        .map(|_| ());
    assert!(
        matches!(refused, Err(Error::ContextFull { .. })),
        "{refused:?}"
    );
    assert_eq!(session.position(), 0);
    assert_eq!(
        run(&mut session, PROMPT, &max_tokens(9)).tokens,
        greedy_by_hand(&model, 1).0
    );
    let refused = model.generate(&long_prompt(400), &max_tokens(1));
    assert!(
        matches!(refused, Err(Error::ContextFull { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_session_goes_on_where_it_was_left() {
    let model = model();
    let (tokens, _) = greedy_by_hand(&model, 40);
    let mut session = model.session().unwrap();

    let mut left = session.generate(PROMPT, &max_tokens(100)).unwrap();
    let mut read = Vec::new();
    for piece in left.by_ref().take(3) {
        read.extend(piece.unwrap().tokens);
    }
    drop(left);
    read.extend(run(&mut session, "", &max_tokens(10)).tokens);
    read.extend(run(&mut session, "", &max_tokens(10)).tokens);
    assert_eq!(read, tokens[..read.len()]);

    // A prompt comes after what was generated, and no second beginning of a text before it.
    let prompt = " and a bird";
    let more = model.tokenizer();
    let more = more.encode(
        prompt,
        EncodeOptions {
            add_special: false,
            parse_special: false,
        },
    );
    let all = [prompt_tokens(&model), read, more.unwrap()].concat();
    let continued = run(&mut session, prompt, &max_tokens(10));
    let mut fresh = model.session().unwrap();
    let expected = fresh
        .generate_from(&all, &max_tokens(10))
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(continued.tokens, expected.tokens);
    assert_eq!(session.position(), fresh.position());
}

#[test]
fn whoever_feeds_or_forgets_tokens_says_what_the_text_is() {
    let model = model();
    let prompt = prompt_tokens(&model);
    let (tokens, _) = greedy_by_hand(&model, 20);
    let mut session = model.session().unwrap();

    run(&mut session, PROMPT, &max_tokens(5));
    session.feed(&tokens[4..7]).unwrap();
    assert_eq!(run(&mut session, "", &max_tokens(13)).tokens, tokens[7..]);

    session.truncate(1).unwrap();
    let rest = session
        .generate_from(&prompt[1..], &max_tokens(20))
        .unwrap();
    assert_eq!(rest.finish().unwrap().tokens, tokens);

    session.clear();
    assert_eq!(run(&mut session, PROMPT, &max_tokens(20)).tokens, tokens);
}

#[test]
fn cancelling_inside_a_long_prompt_leaves_a_usable_session() {
    let model = model();
    let mut session = session(&model, 16_000);
    let cancel = CancelToken::new();
    let (to_canceller, at_canceller) = mpsc::channel::<mpsc::Sender<()>>();
    let canceller = std::thread::spawn({
        let cancel = cancel.clone();
        move || {
            let done = at_canceller.recv().unwrap();
            cancel.cancel();
            done.send(()).unwrap();
        }
    });
    let options = max_tokens(10).cancel(&cancel).progress(move |done, total| {
        if done == 0 {
            return;
        }
        assert!(
            done < total / 2,
            "cancelled, but {done} of {total} were evaluated"
        );
        let (to_us, at_us) = mpsc::channel();
        to_canceller.send(to_us).unwrap();
        at_us.recv().unwrap();
    });
    let prompt = long_prompt(2_000);
    let mut generation = session.generate(&prompt, &options).unwrap();
    assert!(generation.next().is_none());
    assert_eq!(generation.finish_reason(), Some(FinishReason::Cancelled));
    canceller.join().unwrap();
    let position = session.position();
    assert!(position > 0 && position < 4_000, "{position}");

    // Nothing can be chosen without logits; with them everything is as it was.
    assert!(matches!(
        session.generate("", &max_tokens(1)).map(|_| ()),
        Err(Error::Argument { name: "prompt", .. })
    ));
    session.clear();
    assert_eq!(
        run(&mut session, PROMPT, &max_tokens(10)).tokens,
        greedy_by_hand(&model, 10).0
    );
}

#[test]
fn cancelling_between_two_tokens_ends_the_text() {
    let model = model();
    let cancel = CancelToken::new();
    let mut session = model.session().unwrap();
    let options = max_tokens(100).cancel(&cancel);
    let mut generation = session.generate(PROMPT, &options).unwrap();
    let mut tokens = generation.next().unwrap().unwrap().tokens;
    cancel.cancel();
    assert!(generation.next().is_none());
    assert_eq!(generation.finish_reason(), Some(FinishReason::Cancelled));
    drop(generation);
    tokens.extend(run(&mut session, "", &max_tokens(5)).tokens);
    assert_eq!(tokens, greedy_by_hand(&model, tokens.len()).0);

    // Also where there is nothing to evaluate.
    session.feed(&tokens[..1]).unwrap();
    let nothing = run(&mut session, "", &options);
    assert_eq!(nothing.finish_reason, FinishReason::Cancelled);
    assert!(nothing.tokens.is_empty());
}

#[test]
fn the_progress_of_a_long_prompt_is_reported() {
    let model = model();
    let mut session = session(&model, 4_000);
    let (sender, reports) = mpsc::channel();
    let options = max_tokens(1).progress(move |done, total| sender.send((done, total)).unwrap());
    let completion = run(&mut session, &long_prompt(200), &options);
    drop(options);
    let reports: Vec<_> = reports.iter().collect();
    let total = completion.timings.prompt_tokens;
    assert!(reports.len() > 2, "{reports:?}");
    assert_eq!(reports.first(), Some(&(0, total)));
    assert!(reports.is_sorted() && reports.iter().all(|report| report.1 == total));
    assert_eq!(reports.last(), Some(&(total, total)));
}

#[test]
fn the_end_of_the_text_can_be_ignored() {
    let model = model();
    let story = model.generate(PROMPT, &max_tokens(400)).unwrap();
    assert!(
        matches!(story.finish_reason, FinishReason::EndOfGeneration(_)),
        "{story:?}"
    );
    let length = story.tokens.len();
    let options = max_tokens(length + 10).ignore_end_of_generation(true);
    let longer = run(&mut model.session().unwrap(), PROMPT, &options);
    assert_eq!(longer.finish_reason, FinishReason::MaxTokens);
    assert_eq!(longer.tokens[..length], story.tokens);
    let tokenizer = model.tokenizer();
    assert!(
        !longer
            .tokens
            .iter()
            .any(|&token| tokenizer.is_end_of_generation(token))
    );
}

#[test]
fn an_empty_prompt_needs_something_before_it() {
    let model = model();
    assert!(model.tokenizer().adds_bos());
    assert!(!model.generate("", &max_tokens(10)).unwrap().text.is_empty());
    let refused = model.generate("", &max_tokens(10).add_special(false));
    assert!(
        matches!(refused, Err(Error::Argument { name: "prompt", .. })),
        "{refused:?}"
    );
}

#[test]
fn special_tokens_in_a_prompt_are_found_if_asked_for() {
    let model = model();
    let end = model.tokenizer().eos().unwrap();
    let text = model.tokenizer().token_text(end).unwrap().into_owned();
    let tokens = |options: GenerateOptions| {
        let options = options.max_tokens(0).add_special(false);
        model
            .generate(&text, &options)
            .unwrap()
            .timings
            .prompt_tokens
    };
    assert_eq!(tokens(GenerateOptions::new().parse_special(true)), 1);
    assert!(tokens(GenerateOptions::new()) > 1);
}

/// Only what the sampler chose and what it was told, in turn.
#[test]
fn a_sampler_of_ones_own_sees_the_prompt_and_the_text() {
    struct Only {
        allowed: Vec<u32>,
        seen: Arc<Mutex<Vec<u32>>>,
    }
    impl Sampler for Only {
        fn apply(&mut self, candidates: &mut Candidates) {
            candidates.retain(|candidate| self.allowed.contains(&candidate.token));
        }
        fn accept(&mut self, token: u32) {
            self.seen.lock().unwrap().push(token);
        }
    }
    let model = model();
    let encode = |text| model.tokenizer().encode(text, Default::default()).unwrap();
    let prompt = encode(PROMPT);
    let allowed = encode("the cat sat");
    let seen = Arc::default();
    let options = max_tokens(30).ignore_end_of_generation(true).sampler({
        let (allowed, seen) = (allowed.clone(), Arc::clone(&seen));
        move || Only {
            allowed: allowed.clone(),
            seen: Arc::clone(&seen),
        }
    });
    let completion = model.generate(PROMPT, &options).unwrap();
    assert_eq!(completion.tokens.len(), 30);
    assert!(
        completion
            .tokens
            .iter()
            .all(|token| allowed.contains(token))
    );
    assert_eq!(*seen.lock().unwrap(), [prompt, completion.tokens].concat());
    let none = max_tokens(30).sampler(|| Only {
        allowed: Vec::new(),
        seen: Arc::default(),
    });
    let completion = model.generate(PROMPT, &none).unwrap();
    assert_eq!(completion.finish_reason, FinishReason::NoCandidate);
    assert_eq!(completion.text, "");
}

#[test]
fn forced_tokens_begin_the_text_and_penalties_see_the_prompt() {
    let model = model();
    let plain = model.generate(PROMPT, &max_tokens(20)).unwrap();
    let forced = vec![plain.tokens[3], plain.tokens[1]];
    let sampling = SamplingOptions {
        forced: forced.clone(),
        banned: vec![plain.tokens[0]],
        ..Default::default()
    };
    let options = max_tokens(20).sampling(sampling);
    let completion = model.generate(PROMPT, &options).unwrap();
    assert_eq!(completion.tokens[..2], forced);
    assert!(!completion.tokens.contains(&plain.tokens[0]));
    // With such a penalty no token of the prompt or the text comes again.
    let sampling = SamplingOptions {
        presence_penalty: 1e9,
        repeat_last_n: usize::MAX,
        ..Default::default()
    };
    let options = max_tokens(40)
        .ignore_end_of_generation(true)
        .sampling(sampling);
    let prompt = model
        .tokenizer()
        .encode(PROMPT, Default::default())
        .unwrap();
    let completion = model.generate(PROMPT, &options).unwrap();
    let mut tokens = completion.tokens.clone();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 40);
    assert!(tokens.iter().all(|token| !prompt.contains(token)));
}

/// The sum over the vocabulary of the exponentials is computed here in double precision.
#[test]
fn log_probabilities_are_those_of_the_logits_before_each_token() {
    let model = model();
    let sampling = SamplingOptions {
        temperature: 1.3,
        seed: Some(2),
        ..Default::default()
    };
    let options = max_tokens(25).sampling(sampling).logprobs(3);
    let mut session = model.session().unwrap();
    let pieces: Vec<_> = session
        .generate(PROMPT, &options)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let tokens = pieces.concat_tokens();
    let logprobs: Vec<_> = pieces.iter().flat_map(|piece| &piece.logprobs).collect();
    assert!(
        pieces
            .iter()
            .all(|piece| piece.logprobs.len() == piece.tokens.len())
    );
    assert_eq!(logprobs.len(), tokens.len());

    session.clear();
    session
        .feed(
            &model
                .tokenizer()
                .encode(PROMPT, Default::default())
                .unwrap(),
        )
        .unwrap();
    for (token, logprobs) in tokens.into_iter().zip(logprobs) {
        let logits: Vec<f64> = session.logits().iter().copied().map(f64::from).collect();
        let mass: f64 = logits.iter().map(|logit| logit.exp()).sum();
        assert_eq!(logprobs.chosen.token, token);
        assert_eq!(logprobs.top.len(), 3);
        for logprob in logprobs.top.iter().chain([&logprobs.chosen]) {
            let expected = logits[logprob.token as usize] - mass.ln();
            assert!((f64::from(logprob.logprob) - expected).abs() < 1e-4);
        }
        let mut order: Vec<f64> = logits.iter().map(|logit| logit - mass.ln()).collect();
        order.sort_by(|a, b| b.total_cmp(a));
        for (logprob, expected) in logprobs.top.iter().zip(order) {
            assert!((f64::from(logprob.logprob) - expected).abs() < 1e-4);
        }
        session.feed(&[token]).unwrap();
    }
    let completion = model.generate(PROMPT, &options).unwrap();
    assert_eq!(completion.logprobs.len(), completion.tokens.len());
    let without = model.generate(PROMPT, &max_tokens(5)).unwrap();
    assert!(without.logprobs.is_empty());
}

#[test]
fn options_out_of_range_are_refused_before_anything_is_evaluated() {
    let model = model();
    let mut session = model.session().unwrap();
    let sampling = SamplingOptions {
        top_p: 1.5,
        ..Default::default()
    };
    let unknown = SamplingOptions {
        banned: vec![u32::MAX],
        ..Default::default()
    };
    for (options, option) in [
        (GenerateOptions::new().sampling(sampling), "top_p"),
        (GenerateOptions::new().sampling(unknown), "banned"),
        (GenerateOptions::new().stop(""), "stop"),
    ] {
        let refused = session.generate(PROMPT, &options).map(|_| ());
        assert!(
            matches!(&refused, Err(Error::Argument { name, .. }) if *name == option),
            "{refused:?}"
        );
    }
    let refused = session
        .generate_from(&[u32::MAX], &max_tokens(1))
        .map(|_| ());
    assert!(
        matches!(refused, Err(Error::Argument { name: "tokens", .. })),
        "{refused:?}"
    );
    assert_eq!(session.position(), 0);
}
