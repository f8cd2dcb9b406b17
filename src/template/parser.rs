//! Tokens to a tree, with Jinja2's grammar.

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

    /// An expression, or several as a tuple.
    fn tuple(&mut self) -> Outcome<Expr> {
        self.tuple_of(Parser::expr)
    }

    fn tuple_of(&mut self, item: fn(&mut Parser) -> Outcome<Expr>) -> Outcome<Expr> {
        let first = item(self)?;
        if self.operator() != Some(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.takes(",") {
            if self.ends_expression() {
                break;
            }
            items.push(item(self)?);
        }
        node(ExprKind::Tuple(items))
    }

    fn ends_expression(&mut self) -> bool {
        match self.peek() {
            Some(Token::BlockEnd | Token::PrintEnd) | None => true,
            Some(Token::Operator(operator)) => matches!(*operator, ")" | "]" | "}" | "="),
            _ => false,
        }
    }

    fn expr(&mut self) -> Outcome<Expr> {
        self.nested(|parser| {
            let mut value = parser.or()?;
            while parser.takes_name("if") {
                let condition = parser.or()?;
                let otherwise = match parser.takes_name("else") {
                    true => Some(parser.expr()?),
                    false => None,
                };
                value = node(ExprKind::If(value, condition, otherwise))?;
            }
            Ok(value)
        })
    }

    fn or(&mut self) -> Outcome<Expr> {
        let mut left = self.and()?;
        while self.takes_name("or") {
            left = node(ExprKind::Or(left, self.and()?))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Outcome<Expr> {
        let mut left = self.not()?;
        while self.takes_name("and") {
            left = node(ExprKind::And(left, self.not()?))?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Outcome<Expr> {
        if self.takes_name("not") {
            return node(ExprKind::Not(self.nested(Parser::not)?));
        }
        self.compare()
    }

    fn compare(&mut self) -> Outcome<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let comparison = match self.operator() {
                Some("==") => Comparison::Equal,
                Some("!=") => Comparison::NotEqual,
                Some("<") => Comparison::Less,
                Some("<=") => Comparison::LessEqual,
                Some(">") => Comparison::Greater,
                Some(">=") => Comparison::GreaterEqual,
                _ if self.is_name("in") => Comparison::In,
                _ if self.is_name("not") => Comparison::NotIn,
                _ => break,
            };
            self.next();
            if comparison == Comparison::NotIn {
                self.expect_name("in")?;
            }
            rest.push((comparison, self.sum()?));
        }
        match rest.is_empty() {
            true => Ok(first),
            false => node(ExprKind::Compare(first, rest)),
        }
    }

    fn sum(&mut self) -> Outcome<Expr> {
        let operators = [("+", Operator::Add), ("-", Operator::Subtract)];
        self.binary(&operators, Parser::concat)
    }

    fn concat(&mut self) -> Outcome<Expr> {
        let first = self.product()?;
        if self.operator() != Some("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.takes("~") {
            parts.push(self.product()?);
        }
        node(ExprKind::Concat(parts))
    }

    fn product(&mut self) -> Outcome<Expr> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Remainder),
        ];
        self.binary(&operators, |parser| {
            parser.binary(&[("**", Operator::Power)], |parser| parser.unary(true))
        })
    }

    fn binary(
        &mut self,
        operators: &[(&str, Operator)],
        operand: impl Fn(&mut Parser) -> Outcome<Expr>,
    ) -> Outcome<Expr> {
        let mut left = operand(self)?;
        while let Some(found) = self.operator() {
            let Some(&(_, operator)) = operators.iter().find(|(name, _)| *name == found) else {
                break;
            };
            self.next();
            left = node(ExprKind::Binary(left, operator, operand(self)?))?;
        }
        Ok(left)
    }

    fn unary(&mut self, with_filters: bool) -> Outcome<Expr> {
        let mut value = if self.takes("-") {
            node(ExprKind::Negative(self.nested(|p| p.unary(false))?))?
        } else if self.takes("+") {
            node(ExprKind::Positive(self.nested(|p| p.unary(false))?))?
        } else {
            self.primary()?
        };
        value = self.postfix(value)?;
        if !with_filters {
            return Ok(value);
        }
        loop {
            value = if self.takes("|") {
                let filter = self.filter()?;
                node(ExprKind::Filter(value, filter))?
            } else if self.takes_name("is") {
                self.test(value)?
            } else if self.operator() == Some("(") {
                self.postfix(value)?
            } else {
                return Ok(value);
            };
        }
    }

    fn primary(&mut self) -> Outcome<Expr> {
        match self.peek() {
            Some(Token::Operator("(")) => return self.parenthesis(),
            Some(Token::Operator("[")) => {
                self.next();
                return node(ExprKind::List(self.items("]")?));
            }
            Some(Token::Operator("{")) => return self.dict(),
            Some(Token::Name(_) | Token::String(_) | Token::Int(_) | Token::Float(_)) => {}
            _ => return self.unexpected("a value"),
        }
        let kind = match self.next() {
            Some(Token::Name(name)) => match &*name {
                "true" | "True" => ExprKind::Bool(true),
                "false" | "False" => ExprKind::Bool(false),
                "none" | "None" => ExprKind::None,
                _ => ExprKind::Name(name.into()),
            },
            Some(Token::Int(number)) => ExprKind::Int(number),
            Some(Token::Float(number)) => ExprKind::Float(number),
            Some(Token::String(mut text)) => {
                while let Some(Token::String(more)) = self.peek() {
                    text.push_str(more);
                    self.next();
                }
                ExprKind::String(text)
            }
            _ => unreachable!("it was peeked at"),
        };
        node(kind)
    }

    fn parenthesis(&mut self) -> Outcome<Expr> {
        self.next();
        if self.takes(")") {
            return node(ExprKind::Tuple(Vec::new()));
        }
        let value = self.tuple()?;
        self.expect(")")?;
        Ok(value)
    }

    /// Expressions up to a closing bracket.
    fn items(&mut self, end: &str) -> Outcome<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.takes(end) {
            if !items.is_empty() {
                self.expect(",")?;
                if self.takes(end) {
                    break;
                }
            }
            items.push(self.expr()?);
        }
        Ok(items)
    }

    fn dict(&mut self) -> Outcome<Expr> {
        self.next();
        let mut entries = Vec::new();
        while !self.takes("}") {
            if !entries.is_empty() {
                self.expect(",")?;
                if self.takes("}") {
                    break;
                }
            }
            let key = self.expr()?;
            self.expect(":")?;
            entries.push((key, self.expr()?));
        }
        node(ExprKind::Dict(entries))
    }

    fn postfix(&mut self, mut value: Expr) -> Outcome<Expr> {
        loop {
            value = match self.operator() {
                Some(".") => {
                    self.next();
                    match self.peek() {
                        Some(&Token::Int(index)) => {
                            self.next();
                            node(ExprKind::Item(value, node(ExprKind::Int(index))?))?
                        }
                        _ => node(ExprKind::Attribute(value, self.name()?))?,
                    }
                }
                Some("[") => {
                    self.next();
                    self.subscript(value)?
                }
                Some("(") => {
                    self.next();
                    let arguments = self.arguments()?;
                    node(ExprKind::Call(value, arguments))?
                }
                _ => return Ok(value),
            };
        }
    }

    fn subscript(&mut self, value: Expr) -> Outcome<Expr> {
        let mut bounds = [None, None, None];
        let mut place = 0;
        loop {
            match self.operator() {
                Some("]") => break,
                Some(":") if place < 2 => {
                    self.next();
                    place += 1;
                }
                _ if bounds[place].is_some() => return self.unexpected("]"),
                _ => bounds[place] = Some(self.tuple()?),
            }
        }
        self.expect("]")?;
        match (place, bounds) {
            (0, [Some(index), _, _]) => node(ExprKind::Item(value, index)),
            (0, _) => Err(Fault::new("expected an index")),
            (_, bounds) => node(ExprKind::Slice(value, bounds)),
        }
    }

    /// Arguments up to the closing bracket.
    fn arguments(&mut self) -> Outcome<Arguments> {
        let mut arguments = Arguments::default();
        let mut is_first = true;
        while !self.takes(")") {
            if !std::mem::take(&mut is_first) {
                self.expect(",")?;
                if self.takes(")") {
                    break;
                }
            }
            let value = self.expr()?;
            match *value.kind {
                ExprKind::Name(ref name) if self.operator() == Some("=") => {
                    let name = Arc::clone(name);
                    self.next();
                    arguments.named.push((name, self.expr()?));
                    check_named(arguments.named.len())?;
                }
                _ => arguments.positional.push(value),
            }
        }
        Ok(arguments)
    }

    fn filter(&mut self) -> Outcome<Filter> {
        let name = self.name()?;
        let arguments = match self.takes("(") {
            true => self.arguments()?,
            false => Arguments::default(),
        };
        Ok(Filter { name, arguments })
    }

    /// A test, whose single argument needs no brackets.
    fn test(&mut self, value: Expr) -> Outcome<Expr> {
        let is_negated = self.takes_name("not");
        let mut test = self.filter()?;
        let has_argument = match self.peek() {
            Some(Token::Name(name)) => !matches!(
                &**name,
                "and" | "or" | "not" | "else" | "if" | "in" | "is" | "recursive"
            ),
            Some(Token::String(_) | Token::Int(_) | Token::Float(_)) => true,
            Some(Token::Operator(operator)) => matches!(*operator, "[" | "{"),
            _ => false,
        };
        if has_argument && test.arguments.positional.is_empty() {
            let argument = self.primary()?;
            test.arguments.positional.push(self.postfix(argument)?);
        }
        node(ExprKind::Test(value, test, is_negated))
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

/// A node of the tree, if it does not get too deep by it.
fn node(kind: ExprKind) -> Outcome<Expr> {
    let depth = 1 + deepest(&kind);
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    Ok(Expr {
        depth,
        kind: Box::new(kind),
    })
}

fn deepest(kind: &ExprKind) -> u32 {
    let all = |items: &[Expr]| items.iter().map(|item| item.depth).max().unwrap_or(0);
    let of = |arguments: &Arguments| {
        let named = arguments.named.iter().map(|(_, value)| value.depth).max();
        all(&arguments.positional).max(named.unwrap_or(0))
    };
    match kind {
        ExprKind::None
        | ExprKind::Bool(_)
        | ExprKind::Int(_)
        | ExprKind::Float(_)
        | ExprKind::String(_)
        | ExprKind::Name(_) => 0,
        ExprKind::List(items) | ExprKind::Tuple(items) | ExprKind::Concat(items) => all(items),
        ExprKind::Dict(entries) => {
            let of = |(key, value): &(Expr, Expr)| key.depth.max(value.depth);
            entries.iter().map(of).max().unwrap_or(0)
        }
        ExprKind::Attribute(value, _)
        | ExprKind::Not(value)
        | ExprKind::Negative(value)
        | ExprKind::Positive(value) => value.depth,
        ExprKind::Item(a, b)
        | ExprKind::And(a, b)
        | ExprKind::Or(a, b)
        | ExprKind::Binary(a, _, b) => a.depth.max(b.depth),
        ExprKind::Slice(value, bounds) => {
            let bounds = bounds.iter().flatten().map(|bound| bound.depth).max();
            value.depth.max(bounds.unwrap_or(0))
        }
        ExprKind::Call(value, arguments) => value.depth.max(of(arguments)),
        ExprKind::Filter(value, filter) | ExprKind::Test(value, filter, _) => {
            value.depth.max(of(&filter.arguments))
        }
        ExprKind::Compare(first, rest) => {
            let rest = rest.iter().map(|(_, value)| value.depth).max();
            first.depth.max(rest.unwrap_or(0))
        }
        ExprKind::If(value, condition, otherwise) => {
            let otherwise = otherwise.as_ref().map_or(0, |value| value.depth);
            value.depth.max(condition.depth).max(otherwise)
        }
    }
}
