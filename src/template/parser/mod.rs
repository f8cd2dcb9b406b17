//! Tokens to a tree, with Jinja2's grammar.

mod expression;

use std::sync::Arc;

use super::lexer::{Token, lex};
use super::syntax::*;
use super::{Fault, Outcome};

/// Statements and brackets inside of each other, and levels of an expression. Published templates
/// have some twenty; each level takes stack here and when the tree is evaluated or dropped.
const MAX_DEPTH: u32 = 100;

/// Parameters of a macro and named arguments of a call: each is looked for among the others.
const MAX_NAMED: usize = 255;

/// A parsed template: its statements, and the macros they define by number.
pub(super) struct Parsed {
    pub(super) body: Body,
    pub(super) macros: Vec<Macro>,
}

/// Parses a template; or gives the line of what is wrong with it.
pub(super) fn parse(source: &str) -> Result<Parsed, (u32, Fault)> {
    let mut parser = Parser {
        tokens: lex(source)?.into_iter().peekable(),
        line: 1,
        depth: 0,
        macros: Vec::new(),
    };
    let body = parser.body(&[]);
    match body {
        Ok((body, _)) => Ok(Parsed {
            body,
            macros: parser.macros,
        }),
        Err(fault) => Err((parser.line, fault)),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<(u32, Token)>>,
    line: u32,
    depth: u32,
    macros: Vec<Macro>,
}

impl Parser {
    fn peek(&mut self) -> Option<&Token> {
        self.tokens.peek().map(|(_, token)| token)
    }

    fn next(&mut self) -> Option<Token> {
        let (line, token) = self.tokens.next()?;
        self.line = line;
        Some(token)
    }

    fn operator(&mut self) -> Option<&'static str> {
        match self.peek() {
            Some(Token::Operator(operator)) => Some(operator),
            _ => None,
        }
    }

    fn takes(&mut self, operator: &str) -> bool {
        let found = self.operator() == Some(operator);
        if found {
            self.next();
        }
        found
    }

    fn is_name(&mut self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if found == name)
    }

    fn takes_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        if found {
            self.next();
        }
        found
    }

    fn unexpected<T>(&mut self, expected: &str) -> Outcome<T> {
        let found = match self.next() {
            Some(Token::Name(name)) => name,
            Some(Token::String(text)) => format!("{text:?}"),
            Some(Token::Int(number)) => number.to_string(),
            Some(Token::Float(number)) => number.to_string(),
            Some(Token::Operator(operator)) => operator.to_owned(),
            Some(Token::BlockEnd | Token::PrintEnd) => "the end of the tag".to_owned(),
            Some(_) => "text".to_owned(),
            None => "the end of the template".to_owned(),
        };
        Err(Fault::new(format!("expected {expected}, found {found}")))
    }

    fn expect(&mut self, operator: &str) -> Outcome<()> {
        match self.takes(operator) {
            true => Ok(()),
            false => self.unexpected(operator),
        }
    }

    fn expect_name(&mut self, name: &str) -> Outcome<()> {
        match self.takes_name(name) {
            true => Ok(()),
            false => self.unexpected(name),
        }
    }

    fn name(&mut self) -> Outcome<Arc<str>> {
        match self.peek() {
            Some(Token::Name(_)) => {}
            _ => return self.unexpected("a name"),
        }
        match self.next() {
            Some(Token::Name(name)) => Ok(name.into()),
            _ => unreachable!("it was peeked at"),
        }
    }

    fn end_of_tag(&mut self) -> Outcome<()> {
        match self.peek() {
            Some(Token::BlockEnd) => {
                self.next();
                Ok(())
            }
            _ => self.unexpected("the end of the tag"),
        }
    }

    /// Runs `parse` one level deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Parser) -> Outcome<T>) -> Outcome<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let result = parse(self)?;
        self.depth -= 1;
        Ok(result)
    }

    /// Statements up to a block with one of these names, which is passed with its name but not
    /// its end; or up to the end of the template.
    fn body(&mut self, ends: &[&str]) -> Outcome<(Body, String)> {
        self.nested(|parser| {
            let mut body = Body::new();
            while let Some(token) = parser.next() {
                let line = parser.line;
                let kind = match token {
                    Token::Data(text) => StatementKind::Data(text),
                    Token::PrintBegin => parser.print()?,
                    _ => {
                        let name = parser.name()?;
                        if ends.contains(&&*name) {
                            return Ok((body, name.to_string()));
                        }
                        parser.statement(&name)?
                    }
                };
                body.push(Statement { line, kind });
            }
            match ends {
                [] => Ok((body, String::new())),
                _ => parser.unexpected(ends[ends.len() - 1]),
            }
        })
    }

    /// The rest of a block: statements up to its end.
    fn block(&mut self, end: &str) -> Outcome<Body> {
        self.end_of_tag()?;
        let (body, _) = self.body(&[end])?;
        self.end_of_tag()?;
        Ok(body)
    }

    fn print(&mut self) -> Outcome<StatementKind> {
        let value = self.tuple()?;
        match self.next() {
            Some(Token::PrintEnd) => Ok(StatementKind::Print(value)),
            _ => Err(Fault::new("expected the end of the tag")),
        }
    }

    fn statement(&mut self, name: &str) -> Outcome<StatementKind> {
        let kind = match name {
            "if" => return self.if_block(),
            "for" => return self.for_block(),
            "set" => return self.set(),
            "macro" => return self.macro_block(),
            "call" => return self.call_block(),
            "with" => return self.with_block(),
            "filter" => {
                let filters = self.filters_of_block()?;
                return Ok(StatementKind::FilterBlock(
                    filters,
                    self.block("endfilter")?,
                ));
            }
            "generation" => return Ok(StatementKind::Group(self.block("endgeneration")?)),
            "break" => StatementKind::Break,
            "continue" => StatementKind::Continue,
            _ => return Err(Fault::new(format!("the tag {name} is not known here"))),
        };
        self.end_of_tag()?;
        Ok(kind)
    }

    fn if_block(&mut self) -> Outcome<StatementKind> {
        let mut arms = Vec::new();
        let mut otherwise = Body::new();
        loop {
            let condition = self.expr()?;
            self.end_of_tag()?;
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            arms.push((condition, body));
            if end == "else" {
                otherwise = self.block("endif")?;
                break;
            }
            if end == "endif" {
                self.end_of_tag()?;
                break;
            }
        }
        Ok(StatementKind::If { arms, otherwise })
    }

    fn for_block(&mut self) -> Outcome<StatementKind> {
        let target = self.target()?;
        self.expect_name("in")?;
        let over = self.tuple_of(Parser::or)?;
        let condition = match self.takes_name("if") {
            true => Some(self.expr()?),
            false => None,
        };
        self.takes_name("recursive");
        self.end_of_tag()?;
        let (body, end) = self.body(&["else", "endfor"])?;
        let otherwise = match &*end {
            "else" => self.block("endfor")?,
            _ => {
                self.end_of_tag()?;
                Body::new()
            }
        };
        Ok(StatementKind::For(Box::new(For {
            target,
            over,
            condition,
            body,
            otherwise,
        })))
    }

    fn set(&mut self) -> Outcome<StatementKind> {
        let target = self.target()?;
        if self.takes("=") {
            let value = self.tuple()?;
            self.end_of_tag()?;
            return Ok(StatementKind::Set(target, value));
        }
        let filters = match self.takes("|") {
            true => self.filters_of_block()?,
            false => Vec::new(),
        };
        Ok(StatementKind::SetBlock(
            target,
            filters,
            self.block("endset")?,
        ))
    }

    fn filters_of_block(&mut self) -> Outcome<Vec<Filter>> {
        let mut filters = vec![self.filter()?];
        while self.takes("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    fn with_block(&mut self) -> Outcome<StatementKind> {
        let mut values = Vec::new();
        while self.peek() != Some(&Token::BlockEnd) {
            if !values.is_empty() {
                self.expect(",")?;
            }
            let target = self.target_item()?;
            self.expect("=")?;
            values.push((target, self.expr()?));
        }
        Ok(StatementKind::With(values, self.block("endwith")?))
    }

    fn macro_block(&mut self) -> Outcome<StatementKind> {
        let name = self.name()?;
        self.expect("(")?;
        let parameters = self.parameters()?;
        let body = self.block("endmacro")?;
        Ok(StatementKind::Macro(self.add_macro(name, parameters, body)))
    }

    fn call_block(&mut self) -> Outcome<StatementKind> {
        let parameters = match self.takes("(") {
            true => self.parameters()?,
            false => Vec::new(),
        };
        let call = self.expr()?;
        if !matches!(*call.kind, ExprKind::Call(..)) {
            return Err(Fault::new("expected a call"));
        }
        let body = self.block("endcall")?;
        let number = self.add_macro("caller".into(), parameters, body);
        Ok(StatementKind::Call(number, call))
    }

    fn add_macro(
        &mut self,
        name: Arc<str>,
        parameters: Vec<(Arc<str>, Option<Expr>)>,
        body: Body,
    ) -> usize {
        self.macros.push(Macro {
            name,
            parameters,
            body,
        });
        self.macros.len() - 1
    }

    fn parameters(&mut self) -> Outcome<Vec<(Arc<str>, Option<Expr>)>> {
        let mut parameters = Vec::new();
        while !self.takes(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
            }
            let name = self.name()?;
            let default = match self.takes("=") {
                true => Some(self.expr()?),
                false => None,
            };
            parameters.push((name, default));
            check_named(parameters.len())?;
        }
        Ok(parameters)
    }

    fn target(&mut self) -> Outcome<Target> {
        let first = self.target_item()?;
        if self.operator() != Some(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.takes(",") {
            targets.push(self.target_item()?);
        }
        Ok(Target::Tuple(targets))
    }

    fn target_item(&mut self) -> Outcome<Target> {
        if self.takes("(") {
            let target = self.nested(Parser::target)?;
            self.expect(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        match self.takes(".") {
            true => Ok(Target::Attribute(name, self.name()?)),
            false => Ok(Target::Name(name)),
        }
    }
}

fn check_named(count: usize) -> Outcome<()> {
    match count <= MAX_NAMED {
        true => Ok(()),
        false => Err(Fault::Limit {
            what: "named arguments",
            limit: MAX_NAMED as u64,
        }),
    }
}

fn too_deep() -> Fault {
    Fault::Limit {
        what: "levels of nesting",
        limit: u64::from(MAX_DEPTH),
    }
}
