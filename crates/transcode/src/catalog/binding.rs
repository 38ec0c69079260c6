//! The HTTP rules of methods, resolved.

use crate::rule::HttpRule;
use crate::schema::{Kind, Shape};
use crate::template::Variable;

/// Index of a method in its [`Catalog`](super::Catalog).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MethodId(pub(super) usize);

/// What the HTTP request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyRule {
    /// There is none.
    None,
    /// The whole request message.
    Whole,
    /// The field with this index.
    Field(usize),
}

/// A variable of a template, resolved.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) variable: Variable,
    /// Field numbers from the request message to the bound field.
    pub(crate) numbers: Box<[u32]>,
    pub(crate) kind: Kind,
    pub(crate) presence: Shape,
}

/// One HTTP rule of a method, resolved.
#[derive(Debug)]
pub struct Binding {
    /// The RPC.
    pub method: MethodId,
    /// The rule as declared.
    pub rule: HttpRule,
    /// What the body is.
    pub body: BodyRule,
    /// Index of the reply's field that is the response body.
    pub response_body: Option<usize>,
    pub(crate) variables: Box<[Bound]>,
    /// Number of the update mask to fill from the body.
    pub(crate) mask: Option<u32>,
    /// Field numbers of the etag that `If-Match` sets.
    pub(crate) etag: Option<Box<[u32]>>,
}
