//! Source text to tokens, with Jinja's rules for the whitespace around tags as Hugging Face sets
//! them: `trim_blocks` and `lstrip_blocks`.

use super::Fault;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags.
    Data(String),
    BlockBegin,
    BlockEnd,
    PrintBegin,
    PrintEnd,
    Name(String),
    String(String),
    Int(i64),
    Float(f64),
    Operator(&'static str),
}

/// Bytes of a name, so that looking it up is one step.
const MAX_NAME: usize = 255;

/// Longer ones first.
const OPERATORS: [&str; 25] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",",
];

/// What opened with its first two bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tag {
    Block,
    Print,
    Comment,
}

pub(super) struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: u32,
    tokens: Vec<(u32, Token)>,
    /// The text so far ends with a line break, or there is none.
    at_line_start: bool,
}

/// The tokens with their lines, which count from 1; or the line of what is wrong.
pub(super) fn lex(source: &str) -> Result<Vec<(u32, Token)>, (u32, Fault)> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut lexer = Lexer {
        source: source.strip_suffix('\n').unwrap_or(&source),
        at: 0,
        line: 1,
        tokens: Vec::new(),
        at_line_start: true,
    };
    match lexer.run() {
        Ok(()) => Ok(lexer.tokens),
        Err(fault) => Err((lexer.line, fault)),
    }
}

impl<'s> Lexer<'s> {
    fn run(&mut self) -> Result<(), Fault> {
        while self.at < self.source.len() {
            let Some((start, tag)) = next_tag(self.rest()) else {
                self.data(self.source.len(), false, false);
                break;
            };
            let start = self.at + start;
            let sign = self.source.as_bytes().get(start + 2).copied();
            let strips_line = tag != Tag::Print && sign != Some(b'+');
            self.data(start, sign == Some(b'-'), strips_line);
            self.advance(2 + usize::from(matches!(sign, Some(b'-' | b'+'))));
            match tag {
                Tag::Comment => self.comment()?,
                Tag::Block if self.raw()? => {}
                Tag::Block => self.tag(Token::BlockBegin, Token::BlockEnd, "%}")?,
                Tag::Print => self.tag(Token::PrintBegin, Token::PrintEnd, "}}")?,
            }
        }
        Ok(())
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn advance(&mut self, bytes: usize) -> &'s str {
        let passed = &self.source[self.at..self.at + bytes];
        self.line += passed.matches('\n').count() as u32;
        self.at += bytes;
        passed
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((self.line, token));
    }

    /// Text up to a tag (or to the end), less the whitespace that the tag takes.
    fn data(&mut self, end: usize, strips: bool, strips_line: bool) {
        let line = self.line;
        let at_line_start = self.at_line_start;
        let mut text = self.advance(end - self.at);
        if strips {
            text = text.trim_end();
        } else if strips_line {
            let start = text.rfind('\n').map(|at| at + 1);
            let start = start.or(at_line_start.then_some(0));
            if let Some(start) = start.filter(|&at| text[at..].trim().is_empty()) {
                text = &text[..start];
            }
        }
        if !text.is_empty() {
            self.tokens.push((line, Token::Data(text.to_owned())));
        }
    }

    /// Passes the end of a tag that stands here with its sign, and the whitespace it takes.
    fn close(&mut self, end: &str) -> bool {
        let rest = self.rest();
        let (sign, bytes) = match rest.strip_prefix(['-', '+']) {
            Some(after) if after.starts_with(end) => (rest.as_bytes()[0], end.len() + 1),
            _ if rest.starts_with(end) => (b' ', end.len()),
            _ => return false,
        };
        if sign == b'+' && end == "}}" {
            return false;
        }
        self.advance(bytes);
        let rest = self.rest();
        let spaces = match sign {
            b'-' => rest.len() - rest.trim_start().len(),
            b' ' if end != "}}" => usize::from(rest.starts_with('\n')),
            _ => 0,
        };
        self.at_line_start = self.advance(spaces).ends_with('\n');
        true
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let Some(end) = self.rest().find("#}") else {
            return Err(Fault::new("a comment without an end"));
        };
        let signed = self.rest()[..end].ends_with(['-', '+']);
        self.advance(end - usize::from(signed));
        self.close("#}");
        Ok(())
    }

    /// The whole of a `raw` block, if one begins here.
    fn raw(&mut self) -> Result<bool, Fault> {
        let Some(after) = self.rest().trim_start().strip_prefix("raw") else {
            return Ok(false);
        };
        if !after
            .trim_start()
            .trim_start_matches(['-', '+'])
            .starts_with("%}")
        {
            return Ok(false);
        }
        let bytes = self.rest().len() - after.trim_start().len();
        self.advance(bytes);
        self.close("%}");
        let mut from = self.at;
        while let Some(start) = self.source[from..].find("{%").map(|at| from + at) {
            let after = &self.source[start + 2..];
            let inside = after.trim_start_matches(['-', '+']).trim_start();
            if let Some(end) = inside.strip_prefix("endraw") {
                self.data(start, after.starts_with('-'), !after.starts_with('+'));
                self.advance(self.rest().len() - end.trim_start().len());
                return match self.close("%}") {
                    true => Ok(true),
                    false => Err(Fault::new("expected %} after endraw")),
                };
            }
            from = start + 2;
        }
        Err(Fault::new("raw without endraw"))
    }

    fn tag(&mut self, begin: Token, end: Token, closing: &str) -> Result<(), Fault> {
        self.push(begin);
        let mut open: Vec<&str> = Vec::new();
        loop {
            let spaces = self.rest().len() - self.rest().trim_start().len();
            self.advance(spaces);
            if open.is_empty() && self.close(closing) {
                self.push(end);
                return Ok(());
            }
            let token = self.token()?;
            match token {
                Token::Operator(operator @ ("(" | "[" | "{")) => open.push(operator),
                Token::Operator(operator @ (")" | "]" | "}")) => {
                    let opening = match operator {
                        ")" => "(",
                        "]" => "[",
                        _ => "{",
                    };
                    if open.pop() != Some(opening) {
                        return Err(Fault::new(format!("an unexpected {operator}")));
                    }
                }
                _ => {}
            }
            self.push(token);
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Err(Fault::new("a tag without an end"));
        };
        match first {
            '"' | '\'' => self.string(first),
            '0'..='9' => self.number(),
            c if c == '_' || c.is_alphabetic() => {
                let is_part = |c: char| c == '_' || c.is_alphanumeric();
                let bytes = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                if bytes > MAX_NAME {
                    return Err(Fault::Limit {
                        what: "bytes of a name",
                        limit: MAX_NAME as u64,
                    });
                }
                Ok(Token::Name(self.advance(bytes).to_owned()))
            }
            _ => {
                let found = OPERATORS.iter().find(|&&op| rest.starts_with(op));
                let operator =
                    found.ok_or_else(|| Fault::new(format!("an unexpected {first:?}")))?;
                self.advance(operator.len());
                Ok(Token::Operator(operator))
            }
        }
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| {
            let is_digit = |b: &&u8| b.is_ascii_digit() || **b == b'_';
            from + bytes[from..].iter().take_while(is_digit).count()
        };
        let whole = digits(0);
        let mut end = whole;
        let after_dot = self
            .tokens
            .last()
            .is_some_and(|(_, t)| *t == Token::Operator("."));
        let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        if !after_dot && bytes.get(end) == Some(&b'.') && is_digit(end + 1) {
            end = digits(end + 1);
        }
        if !after_dot && matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if is_digit(end + 1 + sign) {
                end = digits(end + 1 + sign);
            }
        }
        let text = self.advance(end).replace('_', "");
        let token = if end == whole {
            text.parse().ok().map(Token::Int)
        } else {
            text.parse().ok().map(Token::Float)
        };
        token.ok_or_else(|| Fault::new(format!("the number {text} is too large")))
    }

    fn string(&mut self, quote: char) -> Result<Token, Fault> {
        let mut text = String::new();
        let rest = &self.rest()[1..];
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => escape(&mut text, &mut chars),
                c if c == quote => {
                    self.advance(at + 2);
                    return Ok(Token::String(text));
                }
                c => text.push(c),
            }
        }
        Err(Fault::new("a string without an end"))
    }
}

/// The first tag of a text.
fn next_tag(text: &str) -> Option<(usize, Tag)> {
    let bytes = text.as_bytes();
    (0..bytes.len().saturating_sub(1)).find_map(|at| {
        let tag = match &bytes[at..at + 2] {
            b"{%" => Tag::Block,
            b"{{" => Tag::Print,
            b"{#" => Tag::Comment,
            _ => return None,
        };
        Some((at, tag))
    })
}

/// What follows a backslash, as Python reads it; what it does not know stays as it is.
fn escape(text: &mut String, chars: &mut std::str::CharIndices<'_>) {
    let Some((_, c)) = chars.next() else {
        text.push('\\');
        return;
    };
    let digits = match c {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    let simple = match c {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'v' => Some('\u{b}'),
        'a' => Some('\u{7}'),
        '0' => Some('\0'),
        '\\' | '\'' | '"' => Some(c),
        _ => None,
    };
    if let Some(c) = simple {
        text.push(c);
    } else if c == '\n' {
    } else if let Some(code) = hexadecimal(chars.as_str(), digits) {
        text.push(code);
        chars.nth(digits - 1);
    } else {
        text.extend(['\\', c]);
    }
}

fn hexadecimal(text: &str, digits: usize) -> Option<char> {
    let code = text.get(..digits).filter(|code| !code.is_empty())?;
    char::from_u32(u32::from_str_radix(code, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(source: &str) -> String {
        let tokens = lex(source).unwrap_or_else(|_| panic!("{source}"));
        let text = tokens.iter().map(|(_, token)| match token {
            Token::Data(text) => text.as_str(),
            _ => "",
        });
        text.collect::<Vec<_>>().join("|")
    }

    /// Expected values are what Jinja2 3.1 gives with `trim_blocks` and `lstrip_blocks`.
    #[test]
    fn whitespace_around_tags_goes_as_in_jinja() {
        for (source, expected) in [
            ("a\n  {% if x %}\n  b", "a\n||||  b"),
            ("a\n  {%+ if x +%}\n  b", "a\n  ||||\n  b"),
            ("a \n {%- if x -%}\n  b", "a||||b"),
            ("a\n  {{ x }}\n  b\n", "a\n  |||\n  b"),
            ("a  {# c #}\nb", "a  |b"),
            ("  {# c #}\n  {% if x %}c", "|||c"),
            ("a {{- x -}} b", "a|||b"),
            ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ] {
            let found = data(source);
            let parts = |text: &str| {
                text.split('|')
                    .filter(|p| !p.is_empty())
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            assert_eq!(parts(&found), parts(expected), "{source:?}");
        }
    }

    #[test]
    fn strings_and_numbers_are_pythons() {
        let tokens = lex(r#"{{ 'a\n\'\u00e9\d' 1_000 2.5e1 }}"#).unwrap_or_else(|_| panic!());
        let tokens: Vec<Token> = tokens.into_iter().map(|(_, token)| token).collect();
        assert_eq!(
            tokens[1..4],
            [
                Token::String("a\n'é\\d".into()),
                Token::Int(1000),
                Token::Float(25.0)
            ]
        );
    }
}
