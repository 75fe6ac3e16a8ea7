//! `[verify]`.

use super::{Form, Is, Means, Section, Shape, key, values};
use crate::config::{Verify, diagnostic::Sink};

pub(super) const VERIFY: Shape = Shape {
    header: "[verify]",
    keys: &[
        key(
            "connections",
            Form::Integer(LEAST_CONNECTIONS, Verify::MOST_CONNECTIONS),
            Is("100000"),
            "synthetic connections to each service",
        ),
        key(
            "max_over_fair",
            Form::Decimal(1.0, 100.0),
            Is("1.1"),
            "a backend's share over its fair share, at the most",
        ),
        key(
            "max_variation",
            Form::Decimal(0.0, 100.0),
            Means("any"),
            "the coefficient of variation of the shares over the fair ones, at the most",
        ),
        key(
            "min_p",
            Form::Decimal(0.0, 1.0),
            Means("any"),
            "the chi-square test's p, at the least",
        ),
        key(
            "survive",
            Form::Integer(0, 1),
            Is("1"),
            "how many backends of a service may fail without the others being overloaded",
        ),
    ],
    later: &[],
};

/// Fewer say nothing.
const LEAST_CONNECTIONS: u32 = 100;

/// `[verify]` of the document, or its defaults.
pub(super) fn decode(sink: &mut Sink<'_, '_>, root: &Section<'_, '_>) -> Verify {
    let mut verify = Verify::default();
    let Some(section) = root.table(sink, "verify", &VERIFY, None) else { return verify };
    verify.connections = section.value_or(
        sink,
        "connections",
        |v| values::integer(v, LEAST_CONNECTIONS, Verify::MOST_CONNECTIONS),
        verify.connections,
    );
    verify.max_over_fair = section.value_or(
        sink,
        "max_over_fair",
        |v| values::decimal(v, 1.0, 100.0),
        verify.max_over_fair,
    );
    let mut optional = |key, most| {
        let value = section.value(sink, key, |v| values::decimal(v, 0.0, most));
        value.map(toml::Spanned::into_inner)
    };
    verify.max_variation = optional("max_variation", 100.0);
    verify.min_p = optional("min_p", 1.0);
    let survive = section.value(sink, "survive", |v| values::integer(v, 0, 1));
    if let Some(survive) = survive.and_then(|value| u8::try_from(value.into_inner()).ok()) {
        verify.survive = survive;
    }
    verify
}
