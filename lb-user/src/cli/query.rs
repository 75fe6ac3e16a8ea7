//! Paths of the API with a query.

use std::fmt::Write as _;

/// A path with a query, of parameters that are given.
pub(super) struct Path(String);

impl Path {
    /// Without parameters.
    pub(super) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// The path as it is sent.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Adds a parameter, where it is given.
    pub(super) fn with(mut self, name: &str, value: Option<impl ToString>) -> Self {
        let Some(value) = value else { return self };
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.to_string().bytes() {
            // What RFC 3986 lets stand in a query as it is, of what can be in a value.
            if byte.is_ascii_alphanumeric() || b"-._~/:,".contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                // Into a text: it cannot fail.
                let _ = write!(self.0, "%{byte:02X}");
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_escaped() {
        let path = Path::new("/v1/connections")
            .with("service", Some("a b&c"))
            .with("backend", None::<&str>)
            .with("client", Some("2001:db8::/32"));
        assert_eq!(path.as_str(), "/v1/connections?service=a%20b%26c&client=2001:db8::/32");
    }
}
