//! `[verify]`: what `evenkeel verify` sends, and what it lets pass. How it is judged is not known here.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::NotAValue;

/// What a configuration is held to by `evenkeel verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verify {
    /// Connections sent to each service while all its backends are up.
    pub connections: u32,
    /// A backend's share over its fair share, at the most; from 1.
    pub max_over_fair: Decimal,
    /// The coefficient of variation of the shares over the fair ones, at the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_variation: Option<Decimal>,
    /// The chi-square test's p, at the least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<Decimal>,
    /// How many backends of a service may fail without the others being overloaded: 0 or 1.
    pub survive: u8,
}

/// A number that is not negative, with six decimals.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(u32);

impl Verify {
    /// The most connections to a service.
    pub const MOST_CONNECTIONS: u32 = 10_000_000;
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            connections: 100_000,
            max_over_fair: Decimal(1_100_000),
            max_variation: None,
            min_p: None,
            survive: 1,
        }
    }
}

impl Decimal {
    const SCALE: f64 = 1_000_000.0;

    /// The number nearest to `value`; `None` where it is out of range.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        let scaled = (value * Self::SCALE).round();
        let fits = (0.0..=f64::from(u32::MAX)).contains(&scaled);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        fits.then_some(Self(scaled as u32))
    }

    /// Its value.
    #[must_use]
    pub fn get(self) -> f64 {
        f64::from(self.0) / Self::SCALE
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Decimal {
    type Err = NotAValue;

    fn from_str(text: &str) -> Result<Self, NotAValue> {
        let number = text.parse().ok().and_then(Self::new);
        number.ok_or_else(|| NotAValue(format!("{text:?} is not a number from 0 to 4294")))
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.get())
    }
}
