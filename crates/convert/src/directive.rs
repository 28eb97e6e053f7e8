//! A row of the tables of directives: what becomes of a directive here, and why.
use crate::remarks::Fate;

/// Directives with the same result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directive {
    pub(super) names: &'static [&'static str],
    /// What happens to it; none: it is carried over, as far as `what` says.
    pub(super) fate: Option<Fate>,
    /// True if the result depends on the content of the line.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the page"))]
    pub(super) depends: bool,
    /// The policy's field, or why there is none.
    pub(super) what: &'static str,
}

/// The line is carried over into fields.
pub(super) const fn carried(names: &'static [&'static str], what: &'static str) -> Directive {
    Directive { names, fate: None, depends: false, what }
}

/// The result depends on the content of the line.
pub(super) const fn depends(names: &'static [&'static str], what: &'static str) -> Directive {
    Directive { names, fate: None, depends: true, what }
}

/// It is not needed here.
pub(super) const fn unneeded(names: &'static [&'static str], what: &'static str) -> Directive {
    Directive { names, fate: Some(Fate::Unneeded), depends: false, what }
}

/// It is not carried over, and that changes the behavior.
pub(super) const fn left_out(names: &'static [&'static str], what: &'static str) -> Directive {
    Directive { names, fate: Some(Fate::LeftOut), depends: false, what }
}
