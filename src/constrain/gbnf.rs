//! GBNF, llama.cpp's notation for grammars, in Lark's syntax.
//!
//! A rule that does not contain itself is a regular expression: it becomes a terminal, and so does what
//! lies between the names of other rules. All else becomes a rule. Where a terminal ends is up to the
//! longest match, as in a programming language; so a rule that contains itself derives some texts
//! less than with llama.cpp, where one terminal may end with what the next one begins with.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Times that something can be asked to repeat, as in llama.cpp.
const MAX_REPEATS: u32 = 2000;
/// The rule that derives the whole text.
const ROOT: &str = "root";

/// The same grammar in Lark's syntax.
///
/// # Errors
///
/// Says where it is no GBNF and what is wrong.
pub(super) fn to_lark(grammar: &str) -> Result<String, String> {
    let rules = Parser::new(grammar).grammar()?;
    let mut lark = Writer {
        is_regular: regular(&rules),
        text: String::new(),
        terminals: Vec::new(),
    };
    let root = rules.iter().position(|rule| rule.name == ROOT);
    let root = root.ok_or_else(|| format!("no rule `{ROOT}`"))?;
    let _ = writeln!(lark.text, "start: {}", lark.name(root));
    for (index, rule) in rules.iter().enumerate() {
        let body = if lark.is_regular[index] {
            lark.terminal(&rule.body)
        } else {
            lark.rule(&rule.body)
        };
        let _ = writeln!(lark.text, "{}: {body}", lark.name(index));
    }
    for (index, body) in std::mem::take(&mut lark.terminals).iter().enumerate() {
        let _ = writeln!(lark.text, "T{index}: {body}");
    }
    Ok(lark.text)
}

struct Rule {
    name: String,
    body: Expression,
}

enum Expression {
    Text(String),
    /// A set of characters, as a regular expression.
    Class(String),
    /// A rule, by its index.
    Rule(usize),
    Sequence(Vec<Expression>),
    Choice(Vec<Expression>),
    /// At least so often, and at most.
    Repeat(Box<Expression>, u32, Option<u32>),
}

impl Expression {
    fn any_rule(&self, is_wanted: &mut impl FnMut(usize) -> bool) -> bool {
        match self {
            Expression::Text(_) | Expression::Class(_) => false,
            Expression::Rule(index) => is_wanted(*index),
            Expression::Sequence(parts) | Expression::Choice(parts) => {
                parts.iter().any(|part| part.any_rule(is_wanted))
            }
            Expression::Repeat(part, ..) => part.any_rule(is_wanted),
        }
    }
}

/// Which rules cannot come to themselves again: those that only name such ones.
fn regular(rules: &[Rule]) -> Vec<bool> {
    let mut is_regular = vec![false; rules.len()];
    // For each rule, those that name it; for each, how many names it still waits for.
    let mut users = vec![Vec::new(); rules.len()];
    let mut waits = vec![0_usize; rules.len()];
    for (index, rule) in rules.iter().enumerate() {
        rule.body.any_rule(&mut |named| {
            users[named].push(index);
            waits[index] += 1;
            false
        });
    }
    let mut ready: Vec<usize> = (0..rules.len()).filter(|&rule| waits[rule] == 0).collect();
    while let Some(rule) = ready.pop() {
        is_regular[rule] = true;
        for &user in &users[rule] {
            waits[user] -= 1;
            if waits[user] == 0 {
                ready.push(user);
            }
        }
    }
    is_regular
}

struct Writer {
    is_regular: Vec<bool>,
    text: String,
    /// Bodies of terminals that have no name in the grammar.
    terminals: Vec<String>,
}

impl Writer {
    fn name(&self, rule: usize) -> String {
        let kind = if self.is_regular[rule] { 'R' } else { 'r' };
        format!("{kind}{rule}")
    }

    fn is_terminal(&self, expression: &Expression) -> bool {
        !expression.any_rule(&mut |rule| !self.is_regular[rule])
    }

    /// What a rule derives that names rules which are no terminals.
    fn rule(&mut self, expression: &Expression) -> String {
        if self.is_terminal(expression) {
            return self.named(expression);
        }
        match expression {
            Expression::Rule(rule) => self.name(*rule),
            Expression::Choice(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.rule(part)).collect();
                format!("({})", parts.join(" | "))
            }
            Expression::Repeat(part, least, most) => {
                let part = self.rule(part);
                repeat(&part, *least, *most)
            }
            Expression::Sequence(parts) => self.rule_sequence(parts),
            Expression::Text(_) | Expression::Class(_) => self.named(expression),
        }
    }

    /// Terminals that follow one another become one.
    fn rule_sequence(&mut self, parts: &[Expression]) -> String {
        let both = |a: &Expression, b: &Expression| self.is_terminal(a) && self.is_terminal(b);
        let runs: Vec<&[Expression]> = parts.chunk_by(both).collect();
        let mut written = Vec::new();
        for run in runs {
            match run {
                [single] => written.push(self.rule(single)),
                run => {
                    let bodies: Vec<_> = run.iter().map(|part| self.terminal(part)).collect();
                    written.push(self.add(bodies.join(" ")));
                }
            }
        }
        format!("({})", written.join(" "))
    }

    /// A terminal's name, made for it where it has none.
    fn named(&mut self, expression: &Expression) -> String {
        match expression {
            Expression::Rule(rule) => self.name(*rule),
            other => {
                let body = self.terminal(other);
                self.add(body)
            }
        }
    }

    fn add(&mut self, body: String) -> String {
        self.terminals.push(body);
        format!("T{}", self.terminals.len() - 1)
    }

    fn terminal(&self, expression: &Expression) -> String {
        let all = |parts: &[Expression], between| {
            let parts: Vec<_> = parts.iter().map(|part| self.terminal(part)).collect();
            format!("({})", parts.join(between))
        };
        match expression {
            Expression::Text(text) => quoted(text),
            Expression::Class(class) => format!("/{class}/"),
            Expression::Rule(rule) => self.name(*rule),
            Expression::Sequence(parts) if parts.is_empty() => quoted(""),
            Expression::Sequence(parts) => all(parts, " "),
            Expression::Choice(parts) => all(parts, " | "),
            Expression::Repeat(part, least, most) => repeat(&self.terminal(part), *least, *most),
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn repeat(part: &str, least: u32, most: Option<u32>) -> String {
    match (least, most) {
        (0, None) => format!("({part})*"),
        (1, None) => format!("({part})+"),
        (0, Some(1)) => format!("({part})?"),
        // `{0}` is none of Lark's.
        (_, Some(0)) => quoted(""),
        (least, Some(most)) => format!("({part}){{{least},{most}}}"),
        (least, None) => format!("({part}){{{least},}}"),
    }
}

struct Parser<'a> {
    grammar: &'a str,
    at: usize,
    rules: Vec<Option<Rule>>,
    names: HashMap<&'a str, usize>,
}

impl<'a> Parser<'a> {
    fn new(grammar: &'a str) -> Parser<'a> {
        Parser {
            grammar,
            at: 0,
            rules: Vec::new(),
            names: HashMap::new(),
        }
    }

    fn grammar(mut self) -> Result<Vec<Rule>, String> {
        self.skip_space(true);
        while self.peek().is_some() {
            let name = self.name()?;
            self.skip_space(false);
            self.expect("::=")?;
            self.skip_space(true);
            let body = self.choice(false)?;
            let index = self.index(name);
            self.rules[index] = Some(Rule {
                name: name.to_owned(),
                body,
            });
            match self.peek() {
                None | Some('\n' | '\r') => self.skip_space(true),
                Some(_) => return self.fail("the end of the line"),
            }
        }
        let named = |(index, rule): (usize, Option<Rule>)| {
            let name = || self.names.iter().find(|&(_, &of)| of == index);
            rule.ok_or_else(|| format!("no rule `{}`", name().map_or("", |(name, _)| name)))
        };
        self.rules.into_iter().enumerate().map(named).collect()
    }

    /// The place of a rule, whether it has come already or not.
    fn index(&mut self, name: &'a str) -> usize {
        let next = self.rules.len();
        let index = *self.names.entry(name).or_insert(next);
        if index == next {
            self.rules.push(None);
        }
        index
    }

    fn choice(&mut self, in_brackets: bool) -> Result<Expression, String> {
        let mut parts = vec![self.sequence(in_brackets)?];
        while self.take('|') {
            self.skip_space(true);
            parts.push(self.sequence(in_brackets)?);
        }
        Ok(single(parts, Expression::Choice))
    }

    fn sequence(&mut self, in_brackets: bool) -> Result<Expression, String> {
        let mut parts = Vec::new();
        loop {
            let part = match self.peek() {
                Some('"') => self.text()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.at += 1;
                    Expression::Class(r"[\x{0}-\x{10FFFF}]".into())
                }
                Some('(') => {
                    self.at += 1;
                    self.skip_space(true);
                    let inner = self.choice(true)?;
                    self.expect(")")?;
                    inner
                }
                Some(character) if is_of_name(character) => {
                    let name = self.name()?;
                    Expression::Rule(self.index(name))
                }
                Some('<' | '!') => return self.fail("characters: tokens are not supported"),
                _ => break,
            };
            parts.push(self.repeated(part, in_brackets)?);
        }
        Ok(single(parts, Expression::Sequence))
    }

    fn repeated(&mut self, part: Expression, in_brackets: bool) -> Result<Expression, String> {
        self.skip_space(in_brackets);
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => self.times()?,
            _ => return Ok(part),
        };
        self.at += 1;
        self.skip_space(in_brackets);
        if matches!(self.peek(), Some('*' | '+' | '?' | '{')) {
            return self.fail("one repetition: put brackets around it");
        }
        if most.is_some_and(|most| most < least) {
            return self.fail("a repetition from less to more");
        }
        Ok(Expression::Repeat(Box::new(part), least, most))
    }

    /// `{2}`, `{2,}`, `{,3}` or `{2,3}`, up to the bracket.
    fn times(&mut self) -> Result<(u32, Option<u32>), String> {
        self.at += 1;
        self.skip_space(false);
        let least = self.number()?;
        self.skip_space(false);
        let mut most = least;
        if self.take(',') {
            self.skip_space(false);
            most = self.number()?;
            self.skip_space(false);
        } else if least.is_none() {
            return self.fail("a number");
        }
        match self.peek() {
            Some('}') => Ok((least.unwrap_or(0), most)),
            _ => self.fail("`}`"),
        }
    }

    fn number(&mut self) -> Result<Option<u32>, String> {
        let rest = &self.grammar[self.at..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Ok(None);
        }
        let number = rest[..digits].parse().ok();
        match number.filter(|&number| number <= MAX_REPEATS) {
            None => self.fail(&format!("a number up to {MAX_REPEATS}")),
            number => {
                self.at += digits;
                Ok(number)
            }
        }
    }

    fn text(&mut self) -> Result<Expression, String> {
        self.at += 1;
        let mut text = String::new();
        while !self.take('"') {
            text.push(self.character()?);
        }
        Ok(Expression::Text(text))
    }

    fn class(&mut self) -> Result<Expression, String> {
        self.at += 1;
        let mut class = String::from(if self.take('^') { "[^" } else { "[" });
        let empty = class.len();
        while !self.take(']') {
            let first = self.character()?;
            let is_range =
                self.peek() == Some('-') && !self.grammar[self.at + 1..].starts_with(']');
            let last = if is_range {
                self.at += 1;
                self.character()?
            } else {
                first
            };
            if last < first {
                return self.fail("a range from a lower character to a higher one");
            }
            let _ = write!(class, r"\x{{{:X}}}-\x{{{:X}}}", first as u32, last as u32);
        }
        if class.len() == empty {
            return self.fail("a character in the brackets");
        }
        class.push(']');
        Ok(Expression::Class(class))
    }

    /// A character of a text or a class, perhaps behind a backslash.
    fn character(&mut self) -> Result<char, String> {
        let next = |parser: &mut Self| match parser.peek() {
            None | Some('\n' | '\r') => parser.fail("a character"),
            Some(character) => {
                parser.at += character.len_utf8();
                Ok(character)
            }
        };
        let character = next(self)?;
        if character != '\\' {
            return Ok(character);
        }
        match next(self)? {
            't' => Ok('\t'),
            'r' => Ok('\r'),
            'n' => Ok('\n'),
            'x' => self.hex(2),
            'u' => self.hex(4),
            'U' => self.hex(8),
            itself @ ('\\' | '"' | '[' | ']' | '-' | '^') => Ok(itself),
            _ => self.fail(r#"one of t r n x u U \ " [ ] - ^ behind a backslash"#),
        }
    }

    fn hex(&mut self, digits: usize) -> Result<char, String> {
        let code = self.grammar.get(self.at..self.at + digits);
        let code = code.filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
        match code.and_then(char::from_u32) {
            Some(character) => {
                self.at += digits;
                Ok(character)
            }
            None => self.fail(&format!("a character's number in {digits} digits")),
        }
    }

    fn name(&mut self) -> Result<&'a str, String> {
        let rest = &self.grammar[self.at..];
        let length = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
        if length == 0 {
            return self.fail("the name of a rule");
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// Goes over spaces and comments, and over line breaks if they mean nothing.
    fn skip_space(&mut self, over_lines: bool) {
        while let Some(character) = self.peek() {
            match character {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if over_lines => self.at += 1,
                '#' => {
                    let rest = &self.grammar[self.at..];
                    self.at += rest.find(['\r', '\n']).unwrap_or(rest.len());
                }
                _ => break,
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.grammar[self.at..].chars().next()
    }

    fn take(&mut self, character: char) -> bool {
        let found = self.peek() == Some(character);
        self.at += if found { character.len_utf8() } else { 0 };
        found
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        if !self.grammar[self.at..].starts_with(text) {
            return self.fail(&format!("`{text}`"));
        }
        self.at += text.len();
        Ok(())
    }

    fn fail<T>(&self, expected: &str) -> Result<T, String> {
        let before = &self.grammar[..self.at];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(character) => format!("{character:?}"),
        };
        Err(format!(
            "line {line}, column {column}: expected {expected}, found {found}"
        ))
    }
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '-' || character == '_'
}

fn single(mut parts: Vec<Expression>, of: impl Fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.len() {
        1 => parts.remove(0),
        _ => of(parts),
    }
}
