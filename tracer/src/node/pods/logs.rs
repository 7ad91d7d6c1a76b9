//! What the names of kubelet's log directories say: `/var/log/pods/NAMESPACE_NAME_UID`.
//!
//! Kubelet makes the directory when it starts the pod, whatever the runtime, so a UID found
//! elsewhere becomes a name here. A directory stays for a while after its pod: it tells what a pod
//! is called, not that there is one.

use super::identity::{PodName, Uid};

/// A pod that has, or had, logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirectory {
    /// The pod.
    pub pod: PodName,
    /// Its UID.
    pub uid: Uid,
}

/// Reads a directory's name (`BuildPodLogsDirectory`, kubelet 1.14 to 1.36); `None` when it is
/// no pod's. None of the three parts can have an underscore.
#[must_use]
pub fn parse(name: &str) -> Option<LogDirectory> {
    let mut parts = name.split('_');
    let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some(LogDirectory {
        pod: PodName::new(namespace, pod).ok()?,
        uid: Uid::new(uid)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_directory_is_named_after_its_pod() {
        let logs = parse("default_nginx-7c5ddbdf54-x8k2p_4990d984-10d7-4903-89be-5be14e76c05a");
        let logs = logs.unwrap();
        assert_eq!(logs.pod.to_string(), "default/nginx-7c5ddbdf54-x8k2p");
        assert_eq!(logs.uid.as_str(), "4990d984-10d7-4903-89be-5be14e76c05a");
        // A static pod's UID is a hash.
        assert!(parse("kube-system_etcd-node1_0123456789abcdef0123456789abcdef").is_some());
    }

    #[test]
    fn other_directories_are_none() {
        for name in [
            "", "a", "a_b", "a_b_c_d", "a__c", "A_b_c", "a_b_", "a_b_c/d", "__",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(namespace in "[a-z]{1,9}", pod in "[a-z0-9]{1,9}", uid in "[0-9a-f]{1,32}") {
            let logs = parse(&format!("{namespace}_{pod}_{uid}")).unwrap();
            prop_assert_eq!(logs.pod, PodName::new(&namespace, &pod).unwrap());
            prop_assert_eq!(logs.uid.as_str(), uid);
        }

        #[test]
        fn any_name_is_read_or_none(name in any::<String>()) {
            let _ = parse(&name);
        }
    }
}
