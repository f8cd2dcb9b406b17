//! A parsed template.

use std::sync::Arc;

/// Statements that are rendered one after the other.
pub(super) type Body = Vec<Statement>;

#[derive(Debug)]
pub(super) struct Statement {
    pub(super) line: u32,
    pub(super) kind: StatementKind,
}

#[derive(Debug)]
pub(super) enum StatementKind {
    Data(String),
    Print(Expr),
    If {
        /// Conditions in order, each with what is rendered where it is the first that holds.
        arms: Vec<(Expr, Body)>,
        otherwise: Body,
    },
    For(Box<For>),
    Set(Target, Expr),
    SetBlock(Target, Vec<Filter>, Body),
    With(Vec<(Target, Expr)>, Body),
    FilterBlock(Vec<Filter>, Body),
    /// Defines the macro with this number.
    Macro(usize),
    /// Calls a macro, with another one as `caller`.
    Call(usize, Expr),
    /// `generation` and other blocks that only mark their body.
    Group(Body),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) over: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) body: Body,
    pub(super) otherwise: Body,
}

/// What a value is assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    /// An attribute of a namespace.
    Attribute(Arc<str>, Arc<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Arc<str>,
    pub(super) parameters: Vec<(Arc<str>, Option<Expr>)>,
    pub(super) body: Body,
}

/// A filter or a test with its arguments.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: Arc<str>,
    pub(super) arguments: Arguments,
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Arc<str>, Expr)>,
}

#[derive(Debug)]
pub(super) struct Expr {
    /// Levels of expressions from here down.
    pub(super) depth: u32,
    pub(super) kind: Box<ExprKind>,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    Name(Arc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Expr, Arc<str>),
    Item(Expr, Expr),
    Slice(Expr, [Option<Expr>; 3]),
    Call(Expr, Arguments),
    Filter(Expr, Filter),
    /// The flag turns the result around.
    Test(Expr, Filter, bool),
    Not(Expr),
    Negative(Expr),
    Positive(Expr),
    And(Expr, Expr),
    Or(Expr, Expr),
    Binary(Expr, Operator, Expr),
    /// `a < b < c`: each with the one before it.
    Compare(Expr, Vec<(Comparison, Expr)>),
    Concat(Vec<Expr>),
    /// Value, condition, value otherwise.
    If(Expr, Expr, Option<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}
