//! What a pod is called: namespace and name, and the UID that tells it from its successors.
//!
//! The forms are those that the API server enforces, so what passes is plain ASCII: it cannot act
//! on a terminal, break out of a path or be taken for something else.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The namespace that a name without one means, as for `kubectl` without `--namespace`.
const DEFAULT: &str = "default";
/// The longest name of a namespace (a DNS label) and of a pod (a DNS subdomain), in bytes.
const LABEL: usize = 63;
const SUBDOMAIN: usize = 253;
/// The longest UID, in bytes: a UUID has 36, the hash of a static pod's manifest 32.
const UID: usize = 64;
/// The longest id of a container, in bytes.
const CONTAINER_ID: usize = 128;

/// A pod's namespace and name. Displays as `kube-system/coredns-5d78c9869d-2xk7p`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodName {
    namespace: String,
    name: String,
}

/// Why a text does not name a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodNameError {
    /// The form of the whole.
    #[error("a pod is named NAMESPACE/NAME, or NAME for one in the namespace `default`")]
    Form,
    /// A namespace that cannot exist.
    #[error(
        "a namespace's name has lower case letters, digits and `-`, at most 63, and begins and \
         ends with a letter or digit"
    )]
    Namespace,
    /// A name that cannot exist.
    #[error(
        "a pod's name has lower case letters, digits, `-` and `.`, at most 253, and begins and \
         ends with a letter or digit"
    )]
    Name,
}

impl PodName {
    /// The pod of that namespace and name.
    ///
    /// # Errors
    /// When Kubernetes would not accept one of both.
    pub fn new(namespace: &str, name: &str) -> Result<Self, PodNameError> {
        if !is_name(namespace, LABEL, false) {
            return Err(PodNameError::Namespace);
        }
        if !is_name(name, SUBDOMAIN, true) {
            return Err(PodNameError::Name);
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The pod that a person means: `NAMESPACE/NAME`, or `NAME` in the namespace `default`.
    ///
    /// # Errors
    /// When the text has another form.
    pub fn parse(text: &str) -> Result<Self, PodNameError> {
        match text.split_once('/') {
            None if text.is_empty() => Err(PodNameError::Form),
            None => Self::new(DEFAULT, text),
            Some((namespace, name)) if namespace.is_empty() || name.is_empty() => {
                Err(PodNameError::Form)
            }
            Some((_, name)) if name.contains('/') => Err(PodNameError::Form),
            Some((namespace, name)) => Self::new(namespace, name),
        }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name in its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl TryFrom<String> for PodName {
    type Error = PodNameError;

    fn try_from(text: String) -> Result<Self, PodNameError> {
        Self::parse(&text)
    }
}

impl From<PodName> for String {
    fn from(name: PodName) -> Self {
        name.to_string()
    }
}

/// The form of RFC 1123: labels of lower case letters, digits and hyphens.
fn is_name(text: &str, longest: usize, dots: bool) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= longest
        && if dots {
            text.split('.').all(label)
        } else {
            label(text)
        }
}

/// What the API server, or kubelet for a static pod, gave a pod to tell it from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid(String);

impl Uid {
    /// A UID; `None` when the text is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let valid = !text.is_empty() && text.len() <= UID && text.bytes().all(fits);
        valid.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Uid {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::new(&text).ok_or("not a pod's UID")
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> Self {
        uid.0
    }
}

/// Whether the text can be a container's or sandbox's id (libcni's `ValidateContainerID`).
pub(super) fn is_container_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.len() <= CONTAINER_ID
        && text.bytes().all(fits)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_without_a_namespace_is_in_default() {
        let pod = PodName::parse("web-0").unwrap();
        assert_eq!((pod.namespace(), pod.name()), ("default", "web-0"));
        let pod = PodName::parse("kube-system/kube-proxy-node1.example.org").unwrap();
        assert_eq!(pod.namespace(), "kube-system");
        assert_eq!(pod.to_string(), "kube-system/kube-proxy-node1.example.org");
    }

    #[test]
    fn what_kubernetes_would_not_accept_is_no_name() {
        use PodNameError::{Form, Name, Namespace};
        let cases = [
            ("", Form),
            ("/", Form),
            ("a/", Form),
            ("/b", Form),
            ("a/b/c", Form),
            ("A/b", Namespace),
            ("a.b/c", Namespace),
            ("a/B", Name),
            ("a/b_c", Name),
            ("a/-b", Name),
            ("a/b..c", Name),
            ("a/b\u{1b}[2J", Name),
            ("..", Name),
        ];
        for (text, error) in cases {
            assert_eq!(PodName::parse(text), Err(error), "{text:?}");
        }
        assert!(PodName::new(&"a".repeat(64), "b").is_err());
        assert!(PodName::new("a", &"b".repeat(254)).is_err());
    }

    #[test]
    fn ids_have_no_way_out_of_a_directory() {
        assert!(is_container_id("tl3f2a-pod-a1") && is_container_id(&"0a".repeat(32)));
        for hostile in ["", ".", "..", "a/b", "../a", "a\0", "-a"] {
            assert!(!is_container_id(hostile), "{hostile:?}");
        }
        assert_eq!(Uid::new("a/b"), None);
        assert_eq!(Uid::new(&"a".repeat(65)), None);
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_parsed_to_the_same(text in "[a-z0-9./-]{1,20}") {
            if let Ok(name) = PodName::parse(&text) {
                prop_assert_eq!(PodName::parse(&name.to_string()), Ok(name));
            }
        }
    }
}
