//! Queries of API paths.

use std::fmt::Write;

/// A path with query parameters, encoded.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    path: String,
    begun: bool,
}

impl Query {
    /// A path without parameters yet.
    pub(crate) fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), begun: false }
    }

    /// Adds a parameter.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.path.push(if self.begun { '&' } else { '?' });
        self.begun = true;
        self.path.push_str(name);
        self.path.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~/:".contains(&byte) {
                self.path.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(self.path, "%{byte:02X}");
            }
        }
        self
    }

    /// Adds a parameter if there is a value.
    pub(crate) fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The whole.
    pub(crate) fn build(self) -> String {
        self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded() {
        let path = Query::new("/api/v1/pods")
            .with("labelSelector", "app=a,version in (v1)")
            .with_some("x", None)
            .with("watch", "1")
            .build();
        assert_eq!(path, "/api/v1/pods?labelSelector=app%3Da%2Cversion%20in%20%28v1%29&watch=1");
    }
}
