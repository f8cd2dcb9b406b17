//! The interpreter against what Jinja2 and Python give, and against hostile templates.

use super::*;

fn render(source: &str) -> Result<Prompt> {
    let messages = [Message::user("Hi"), Message::assistant("Yo")];
    ChatTemplate::new(source)?.render(&messages, &RenderOptions::new())
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (source, expected) in cases {
        match render(source) {
            Ok(prompt) => assert_eq!(prompt.text(), *expected, "{source}"),
            Err(error) => panic!("{source}: {error}"),
        }
    }
}

/// All expected values are Jinja2's, version 3.1 with `trim_blocks`, `lstrip_blocks` and
/// `loopcontrols`.
#[test]
fn expressions_are_jinjas() {
    check(&[
        ("{{ 1 + 2 * 3 ** 2 // 4 % 5 - -1 }}", "6"),
        ("{{ 7 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }}", "3.5 -4 2"),
        (
            "{{ 'a' ~ 1 ~ none ~ true ~ [1, 'x'] ~ {'k': 1.0} }}",
            "a1NoneTrue[1, 'x']{'k': 1.0}",
        ),
        (
            "{{ 1 < 2 < 3 }} {{ 1 in [1] and 'b' not in 'ac' }}",
            "True True",
        ),
        (
            "{{ 'x' if false }}|{{ missing }}|{{ missing or 'y' }}",
            "||y",
        ),
        ("{{ 'a' 'b' * 2 }}", "abab"),
        (
            "{{ not 1 == 2 }} {{ 'n' is string and 3 is not string }}",
            "True True",
        ),
        (
            "{{ 5 is divisibleby 5 }} {{ 3 is odd }} {{ x is defined }}",
            "True True False",
        ),
        (
            "{{ (1, 2)[1] }} {{ [1, 2, 3][-1] }} {{ 'héllo'[1:3] }} {{ [1, 2, 3][::-1] }}",
            "2 3 él [3, 2, 1]",
        ),
        (
            "{{ {'a': 1}.b is defined }} {{ {'a': 1}['a'] }} {{ {'items': 3}['items'] }}",
            "False 1 3",
        ),
        (
            "{{ -1 | abs }} {{ -(1) }} {{ 2.5 | round }} {{ '12' | int + 1 }}",
            "1 -1 2.0 13",
        ),
        (
            "{{ '%s is %d, %.2f%%' % ('a', 3, 0.5) }} {{ '{0} {1} {k}'.format('a', 'b', k='c') }}",
            "a is 3, 0.50% a b c",
        ),
        (
            "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a b c'.split(' ', 1)[-1] }}",
            "['a', 'b', '', 'c'] ['a', 'b'] b c",
        ),
        (
            "{{ 'xxaxx'.strip('x') }} {{ 'abc'.lstrip('ba') }} {{ ' a '.rstrip() }}|",
            "a c  a|",
        ),
        (
            "{{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.find('c') }} {{ 'aXa'.replace('a', 'b', 1) }}",
            "True 2 bXa",
        ),
        (
            "{{ 'a-b c'.title() }} {{ 'a-b c' | title }} {{ 'hELLO' | capitalize }}",
            "A-B C A-B C Hello",
        ),
        (
            "{{ [3, 1, 2] | sort | join(', ') }} {{ ['b', 'A'] | sort }} {{ {'b': 1, 'a': 2} | dictsort }}",
            "1, 2, 3 ['A', 'b'] [('a', 2), ('b', 1)]",
        ),
        (
            "{{ [1, 1, 2] | unique | list }} {{ [1, 2] | sum }} {{ [1, 5, 2] | max }}",
            "[1, 2] 3 5",
        ),
        (
            "{{ messages | map(attribute='role') | join(' ') }}",
            "user assistant",
        ),
        (
            "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
            "1",
        ),
        ("{{ 'a\nb\n\nc' | indent(2) }}", "a\n  b\n\n  c"),
        (
            "{{ {'a': [1, true, none, 'é\"']} | tojson }}",
            "{\"a\": [1, true, null, \"é\\\"\"]}",
        ),
        (
            "{{ {'a': [1], 'b': {}} | tojson(indent=2) }}",
            "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}",
        ),
        ("{{ ('{\"a\": [1, 2]}' | fromjson).a[1] }}", "2"),
        ("{{ '<' | safe + '<' }} {{ '<a>' | e }}", "<&lt; &lt;a&gt;"),
        (
            "{{ range(3) | list }} {{ range(5, 0, -2) | list }}",
            "[0, 1, 2] [5, 3, 1]",
        ),
        (
            "{{ 1e16 }} {{ 0.1 + 0.2 }} {{ 1.0 }}",
            "1e+16 0.30000000000000004 1.0",
        ),
    ]);
}

#[test]
fn statements_are_jinjas() {
    check(&[
        (
            "{% for x in [1, 2, 3] %}{{ loop.index }}{{ x }}{% if loop.last %}!{% endif %}{% endfor %}",
            "112233!",
        ),
        ("{% for x in [] %}a{% else %}b{% endfor %}", "b"),
        (
            "{% for x in range(9) if x is even %}{{ x }}{% if x == 4 %}{% break %}{% endif %}{% endfor %}",
            "024",
        ),
        (
            "{% for x in range(4) %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
            "023",
        ),
        (
            "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}",
            "a1",
        ),
        (
            "{% set x = 1 %}{% for y in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}",
            "21",
        ),
        (
            "{% set ns = namespace(x=1) %}{% for y in [1] %}{% set ns.x = 2 %}{% endfor %}{{ ns.x }}",
            "2",
        ),
        ("{% if true %}{% set x = 3 %}{% endif %}{{ x }}", "3"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x }}", "a1"),
        ("{% set x | upper %}a{% endset %}{{ x }}", "A"),
        (
            "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, b=3) }}",
            "12 13",
        ),
        (
            "{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
            "3210",
        ),
        (
            "{% macro m() %}[{{ caller('x') }}]{% endmacro %}{% call(a) m() %}{{ a }}!{% endcall %}",
            "[x!]",
        ),
        (
            "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}",
            "12",
        ),
        ("{% filter upper %}ab{% endfilter %}", "AB"),
        (
            "{% generation %}a{% endgeneration %}{% raw %}{{ b }}{% endraw %}",
            "a{{ b }}",
        ),
        (
            "{% for x in [1, 2] %}\n  {%- if true %}\n  a\n  {% endif %}\n{% endfor %}",
            "  a\n  a\n",
        ),
        ("{% set a, b = 1, 2 %}{{ b }}{{ a }}", "21"),
    ]);
}

#[test]
fn what_python_refuses_is_an_error_with_its_line() {
    for source in [
        "{{ 'a' + 1 }}",
        "{{ none + 'a' }}",
        "{{ missing.field }}",
        "{{ none.field() }}",
        "{% for x in none %}{% endfor %}",
        "{{ 1 // 0 }}",
        "{{ messages.append(1) }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ ['a', 1] | sort }}",
        "{{ missing() }}",
        "{{ 'a' | nonsense }}",
        "{% if %}{% endif %}",
        "{% for x in y %}",
        "{% include 'x' %}",
        "{{ 'a }}",
        "{{ (1 }}",
        "{# ",
        "{% endif %}",
    ] {
        let found = render(&format!("\n{source}"));
        let Err(Error::Template { place, .. }) = &found else {
            panic!("{source}: {found:?}");
        };
        assert_eq!(place, "chat template: line 2", "{source}");
    }
    let refused = render("{{ raise_exception('no ' ~ 1) }}");
    assert!(matches!(refused, Err(Error::Conversation { message, .. }) if message == "no 1"));
}

/// Whatever a template does with input, the bytes of it stay input. The template writes no capital
/// letter and no umlaut; the input is nothing else.
#[test]
fn input_stays_input() {
    let messages = [Message::user("ÄB Cd\nÖ")];
    for source in [
        "{{ t }}",
        "x{{ t | trim }}y",
        "{{ t | tojson }}",
        "{{ messages | tojson(indent=1) }}",
        "{{ messages[0] }}",
        "{{ [t, t] | join('-') }}",
        "{{ t.split('b')[0] ~ t[1:] ~ t[::-1] ~ t[0] }}",
        "{{ t.replace(' ', 'x') + 'x'.replace('x', t) }}",
        "{{ t.upper() }}{{ t.swapcase() }}{{ t | title }}{{ t.title() }}",
        "{{ t | indent(2) }}{{ t | e }}{{ t | safe + '<' }}",
        "{{ '%s %r' % (t, t) }}{{ '{} {a}'.format(t, a=t) }}{{ '%s' | format(t) }}",
        "{% for c in t %}{{ c }}{% endfor %}{{ t | list | join }}{{ t | reverse }}",
        "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(t) }}{% set x %}{{ t }}{% endset %}{{ x }}",
        "{% filter trim %}{{ t }}{% endfilter %}{{ t * 2 }}{{ {t: t} }}{{ {t: 1} | items | list }}",
        "{{ t.partition(' ') }}{{ t.rsplit(none, 1) }}{{ t.splitlines() }}{{ t.ljust(20) }}",
        "{{ (t | tojson | fromjson) ~ {'a': t}.get('a') ~ [t] | first ~ [t] | sort | last }}",
        "{% set ns = namespace(a=t) %}{{ ns.a }}{{ t or 'x' }}{{ t if t else 'x' }}{{ v }}",
        "{{ t | default('x') | string | replace('x', 'y') }}{{ [[t]] | string }}",
    ] {
        let source = format!("{{% set t = messages[0].content %}}{source}");
        let options = RenderOptions::new().variable("v", "Ü");
        let prompt = ChatTemplate::new(&source)
            .unwrap()
            .render(&messages, &options);
        let prompt = prompt.unwrap_or_else(|error| panic!("{source}: {error}"));
        let is_input = |at: usize| prompt.input().iter().any(|range| range.contains(&at));
        let mut count = 0;
        // `repr` writes one `N` of its own; there is none here.
        for (at, _) in prompt
            .text()
            .char_indices()
            .filter(|(_, c)| c.is_uppercase())
        {
            assert!(is_input(at), "{source}: byte {at} of {:?}", prompt.text());
            count += 1;
        }
        assert!(count > 0, "{source}");
    }
}

#[test]
fn what_the_template_writes_is_not_input() {
    let prompt = ChatTemplate::named("chatml").unwrap();
    let prompt = prompt.render(&[Message::user("<|im_end|>")], &RenderOptions::new());
    let prompt = prompt.unwrap();
    let start = "<|im_start|>user\n".len();
    let range = start..start + "<|im_end|>".len();
    assert_eq!(prompt.input(), std::slice::from_ref(&range));
}

/// Templates that loop, grow or nest without end. Each ends by a limit, and soon: the time is what
/// the limit of steps takes.
#[test]
fn hostile_templates_end_by_a_limit() {
    let grow = "{% set ns = namespace(x='aaaaaaaa', l=[1]) %}{% for i in range(99999) %}";
    let deep_text = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    let deep_not = format!("{{{{ {} 1 }}}}", "not ".repeat(100_000));
    let chain = format!("{{{{ 1{} }}}}", " + 1".repeat(100_000));
    let dots = format!("{{{{ a{} }}}}", ".b".repeat(100_000));
    let blocks = "{% if true %}".repeat(100_000);
    let name = "a".repeat(1 << 19);
    let parameters: String = (0..50_000).map(|n| format!("a{n},")).collect();
    let many = "{% set s = 'aB<' * 30000 %}{% for i in range(99999) %}";
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ range(1000000000) | list }}",
        "{{ 'a' * 1000000000000 }}",
        "{{ [1] * 1000000000000 }}",
        "{{ 'a'.ljust(1000000000000) }}",
        "{{ 'a' | indent(1000000000000, true) }}",
        "{{ [1] | tojson(indent=1000000000000) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
        &format!("{grow}{{% set ns.x = ns.x + ns.x %}}{{% endfor %}}"),
        &format!("{grow}{{% set ns.x = ns.x.replace('a', 'aa') %}}{{% endfor %}}"),
        &format!("{grow}{{% set ns.l = [ns.l] %}}{{% endfor %}}"),
        &format!("{grow}{{% set ns.l = ns.l + ns.l %}}{{% endfor %}}"),
        &format!("{grow}{{% set ns.l = [ns.l, ns.l] %}}{{{{ ns.l }}}}{{% endfor %}}"),
        &format!(
            "{grow}{{% set ns.l = [ns.l, ns.l] %}}{{% if ns.l == [ns.l] %}}{{% endif %}}{{% endfor %}}"
        ),
        &format!("{grow}{{{{ 'x' * 10000 }}}}{{% endfor %}}"),
        &format!("{grow}{{% set ns.y = ns.y ~ namespace(a=ns) %}}{{% endfor %}}"),
        &format!("{{% for i in range(99999) %}}{{{{ {name} }}}}{{% endfor %}}"),
        &format!("{{% for i in range(99999) %}}{{{{ i['{name}'] }}}}{{% endfor %}}"),
        &format!("{{% for i in range(99999) %}}{{{{ i | attr('{name}') }}}}{{% endfor %}}"),
        &format!("{{% macro m({parameters}) %}}{{% endmacro %}}"),
        &format!(
            "{{% set l = range(50001) %}}{{% for i in l %}}{{% set {parameters}x = l %}}{{% endfor %}}"
        ),
        &format!("{many}{{{{ s.strip(s) }}}}{{% endfor %}}"),
        &format!("{many}{{% set x = s.upper() %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s | title %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s | tojson %}}{{% endfor %}}"),
        &format!("{many}{{% set x = [s] | string %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s | e %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s.split('B') %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s.split() %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s.splitlines() %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s[::-1] %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s[1:] %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s | list %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s.count('aB<aB<c') %}}{{% endfor %}}"),
        &format!("{many}{{% set x = 'c' in s %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s | length %}}{{% endfor %}}"),
        &format!("{many}{{% set x = s == s ~ 'a' %}}{{% endfor %}}"),
        &format!("{many}{{% set x = '{{}}'.format(s) %}}{{% endfor %}}"),
        &deep_text,
        &deep_not,
        &chain,
        &dots,
        &blocks,
        &"a".repeat(MAX_SOURCE + 1),
    ] {
        let start = std::time::Instant::now();
        let found = render(source);
        println!("{:?} for {source:.60}", start.elapsed());
        assert!(
            matches!(found, Err(Error::Limit { .. })),
            "{source:.80}: {found:.200?}"
        );
    }
}

#[test]
fn a_small_stack_suffices() {
    let nested = format!("{{{{ {}1{} }}}}", "[".repeat(45), "]".repeat(45));
    let deep = "{% macro m() %}{% if true %}{{ [[(m() ~ 1) + 'x']] | string }}{% endif %}{% endmacro %}{{ m() }}";
    let run = move || {
        assert!(render(&nested).is_ok());
        assert!(matches!(render(deep), Err(Error::Limit { .. })));
        let blocks = "{% if true %}".repeat(100_000);
        assert!(matches!(render(&blocks), Err(Error::Limit { .. })));
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run);
    thread.unwrap().join().unwrap();
}

#[test]
fn named_templates_write_the_published_formats() {
    let messages = [
        Message::system("S"),
        Message::user("U"),
        Message::assistant("A"),
        Message::user("V"),
    ];
    for (name, expected) in [
        (
            "chatml",
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "llama2",
            "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]",
        ),
        (
            "llama3",
            "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "gemma",
            "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("mistral", "<s>[INST] S\n\nU [/INST] A</s>[INST] V [/INST]"),
        (
            "phi3",
            "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nV<|end|>\n<|assistant|>\n",
        ),
        (
            "zephyr",
            "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n",
        ),
    ] {
        let template = ChatTemplate::named(name)
            .unwrap()
            .with_tokens(Some("<s>"), Some("</s>"));
        let prompt = template.render(&messages, &RenderOptions::new()).unwrap();
        assert_eq!(prompt.text(), expected, "{name}");
    }
    assert!(matches!(
        ChatTemplate::named("x"),
        Err(Error::Argument { .. })
    ));
}

#[test]
fn a_role_must_be_a_word() {
    for text in [
        r#"{"role": "a|><|b"}"#,
        r#"{"role": ""}"#,
        r#"{"content": ""}"#,
        "[]",
    ] {
        assert!(Message::from_json(text.parse().unwrap()).is_err(), "{text}");
    }
    let message = Message::from_json(r#"{"content": "x", "role": "tool"}"#.parse().unwrap());
    assert_eq!(message.unwrap(), Message::tool("x"));
    // A field of this name does not become the role.
    let message = Message::user("x").with("role", "system");
    let prompt = ChatTemplate::named("phi3")
        .unwrap()
        .render(&[message], &RenderOptions::new());
    assert!(prompt.unwrap().text().starts_with("<|user|>"));
}

/// Values of every kind, as a template writes them.
const VALUES: [&str; 17] = [
    "'é b\\nÄc'",
    "''",
    "'-1'",
    "'{}%s'",
    "-1",
    "0",
    "9223372036854775807",
    "1.5",
    "none",
    "true",
    "[1, 'é']",
    "()",
    "{'é': 1}",
    "missing",
    "namespace()",
    "messages",
    "raise_exception",
];

const FILTERS: &str = "default length first last list reverse items dictsort sort unique min max sum \
    map select reject selectattr rejectattr groupby int float abs round tojson fromjson attr join \
    string trim upper lower capitalize title safe escape forceescape replace indent format wordcount";

const TESTS: &str = "defined none boolean true integer float number string mapping sequence iterable \
    callable escaped sameas upper odd divisibleby eq ne lt le gt ge in";

/// What ends in a value or in an error, and never in a panic: every operator, filter, test, method
/// and function with values of every kind.
#[test]
fn no_value_is_too_odd() {
    let words = |text: &'static str| text.split_whitespace();
    let methods = methods::NAMES.iter().copied();
    let methods = methods.chain(words("items keys values get copy index count cycle x"));
    let mut calls: Vec<String> = Vec::new();
    calls.extend(words(FILTERS).map(|name| format!("V | {name}")));
    calls.extend(words(TESTS).map(|name| format!("V is {name}")));
    calls.extend(methods.map(|name| format!("V.{name}")));
    calls.extend(functions::NAMES.map(|name| format!("[V] ~ {name}")));
    let mut sources: Vec<String> = Vec::new();
    for value in VALUES {
        for call in &calls {
            let call = call.replace('V', &format!("({value})"));
            sources.push(format!("{{{{ {call}() }}}}"));
            for a in VALUES {
                sources.push(format!("{{{{ {call}({a}) }}}}"));
                let few = VALUES.iter().step_by(3);
                sources.extend(few.map(|b| format!("{{{{ {call}({a}, {b}) }}}}")));
            }
        }
        for other in VALUES {
            for operator in "+ - * / // % ** ~ < <= == in not~in and or".split(' ') {
                let operator = operator.replace("not~in", "not in");
                sources.push(format!("{{{{ ({value}) {operator} ({other}) }}}}"));
            }
            for form in [
                "V[W]",
                "V[W:]",
                "V[:W]",
                "V[::W]",
                "-V",
                "V.x",
                "'%.400f %d' % V",
            ] {
                let form = form.replace('V', &format!("({value})")).replace('W', other);
                sources.push(format!("{{{{ {form} }}}}"));
            }
        }
        sources.push(format!(
            "{{% for a, b in {value} %}}{{{{ loop.nextitem }}}}{{% endfor %}}"
        ));
    }
    let (mut values, mut errors) = (0, 0);
    for source in &sources {
        match render(source) {
            Ok(_) => values += 1,
            Err(_) => errors += 1,
        }
    }
    assert!(values > 5000 && errors > 5000, "{values}, {errors}");
}

proptest::proptest! {
    #[test]
    fn no_source_is_too_odd(parts in proptest::collection::vec(0..FRAGMENTS.len(), 0..24)) {
        let source: String = parts.into_iter().map(|part| FRAGMENTS[part]).collect();
        let _ = render(&source);
        let _ = render(&format!("{{{{ {source} }}}}"));
        let _ = render(&format!("{{% {source} %}}x{{% endif %}}"));
    }
}

const FRAGMENTS: [&str; 48] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "-",
    "+",
    "if ",
    "else ",
    "elif ",
    "endif",
    "for ",
    "x ",
    " in ",
    "messages ",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "|",
    "tojson",
    ".",
    "split",
    "'a'",
    "\"é\"",
    "1",
    "2.5",
    "1e",
    ":",
    ",",
    "%",
    "**",
    "~",
    "=",
    "==",
    "set ",
    "macro ",
    "raw",
    "endraw",
    " is ",
    " not ",
    "\n",
    "\\",
    "é",
    "call ",
];
