//! `[verify]`.

use super::{Section, Shape, values};
use crate::config::{Verify, diagnostic::Sink};

const VERIFY: Shape = Shape {
    header: "[verify]",
    keys: &["connections", "max_over_fair", "max_variation", "min_p", "survive"],
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
