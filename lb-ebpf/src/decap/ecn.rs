//! The congestion mark of a packet that leaves a tunnel (RFC 6040, section 4.2).

/// Not capable of the marks.
const NOT_ECT: u8 = 0b00;
/// Capable, codepoint ECT(1).
const ECT1: u8 = 0b01;
/// Capable, codepoint ECT(0).
const ECT0: u8 = 0b10;
/// Congestion was met.
const CE: u8 = 0b11;

/// The bits of a TOS or traffic class octet that hold the mark.
pub const MASK: u8 = 0b11;

/// The mark that a packet leaves the tunnel with: figure 4 of RFC 6040. `None` where it has to be
/// dropped, as the sender would not understand that congestion was met.
#[inline(always)]
#[must_use]
pub const fn combine(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CE) => Some(CE),
        (ECT0, ECT1) => Some(ECT1),
        (inner, _) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_rfc_6040() {
        // Rows: the inner packet's mark. Columns: the outer one's, in the figure's order.
        let outer = [NOT_ECT, ECT0, ECT1, CE];
        let figure = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT0, [Some(ECT0), Some(ECT0), Some(ECT1), Some(CE)]),
            (ECT1, [Some(ECT1), Some(ECT1), Some(ECT1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, row) in figure {
            assert_eq!(outer.map(|outer| combine(inner, outer)), row, "inner {inner:02b}");
        }
    }
}
