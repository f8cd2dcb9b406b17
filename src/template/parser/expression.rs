//! Expressions, from the loosest operator to the tightest.

use std::sync::Arc;

use super::{MAX_DEPTH, Parser, check_named, too_deep};
use crate::template::lexer::Token;
use crate::template::syntax::*;
use crate::template::{Fault, Outcome};

impl Parser {
    /// An expression, or several as a tuple.
    pub(super) fn tuple(&mut self) -> Outcome<Expr> {
        self.tuple_of(Parser::expr)
    }

    pub(super) fn tuple_of(&mut self, item: fn(&mut Parser) -> Outcome<Expr>) -> Outcome<Expr> {
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

    pub(super) fn expr(&mut self) -> Outcome<Expr> {
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

    pub(super) fn or(&mut self) -> Outcome<Expr> {
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

    pub(super) fn filter(&mut self) -> Outcome<Filter> {
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
