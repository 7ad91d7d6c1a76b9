//! Which pod and container a process belongs to, by `/proc/PID/cgroup`.
//!
//! Kubelet gives each pod a cgroup with the pod's UID in its name, the runtime gives each container
//! one below it with the container's id; in all hierarchies alike, and also with `hostNetwork`.
//! Only the shape of the names counts, since what stands above differs: `kubepods` of either
//! driver, a nested node's own cgroup before it (kind, minikube), or `/../..` when this process is
//! in a cgroup namespace.

use super::identity::Uid;

/// A process's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pod's UID.
    pub uid: Uid,
    /// The id of the container; `None` for a process in the pod's own cgroup.
    pub container: Option<String>,
    /// The path in the hierarchy of version 2; `None` where the pod has no cgroup there.
    pub unified: Option<String>,
}

/// Reads the file; `None` when the process is of no pod.
///
/// Of pods in a pod (a node that is itself a pod), the outermost counts: that is this node's.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Place> {
    let lines = || {
        bytes
            .split(|&byte| byte == b'\n')
            .filter_map(|line| str::from_utf8(line).ok())
            .filter_map(hierarchy)
    };
    let unified = lines().find(|(controllers, _)| controllers.is_empty());
    let found = |(_, path): (&str, &str)| Some((place(path)?, path.to_owned()));
    if let Some(((uid, container), path)) = unified.and_then(found) {
        return Some(Place {
            uid,
            container,
            unified: Some(path),
        });
    }
    let ((uid, container), _) = lines().find_map(found)?;
    Some(Place {
        uid,
        container,
        unified: None,
    })
}

/// `4:memory:/path`: the controllers (none for version 2) and the path.
fn hierarchy(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    path.starts_with('/').then_some((controllers, path))
}

fn place(path: &str) -> Option<(Uid, Option<String>)> {
    let mut components = path.split('/');
    let uid = components.find_map(pod)?;
    Some((uid, components.next().and_then(container)))
}

/// `pod<uid>` (cgroupfs) or `kubepods-burstable-pod<uid>.slice` (systemd, which takes a hyphen for
/// a level, so that kubelet writes an underscore instead).
fn pod(component: &str) -> Option<Uid> {
    let uid = match component.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => component.strip_prefix("pod")?.to_owned(),
    };
    is_uid(&uid).then(|| Uid::new(&uid))?
}

/// A UUID, or the hash that kubelet gives a static pod.
fn is_uid(text: &str) -> bool {
    let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match text.len() {
        32 => text.bytes().all(hexadecimal),
        36 => text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => hexadecimal(byte),
        }),
        _ => false,
    }
}

/// `<id>` (cgroupfs), `crio-<id>`, `cri-containerd-<id>.scope` (systemd).
fn container(component: &str) -> Option<String> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
    let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    ((32..=64).contains(&id.len()) && id.bytes().all(hexadecimal)).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "5cf5fb22-f4bf-477f-825f-1eadec32a779";
    const ID: &str = "44c9c10a2658d2bdda7a122796b6361a99fe4f421eb26536445ea61555e6dd0e";

    fn of(path: &str) -> Option<(String, Option<String>)> {
        let place = parse(format!("0::{path}\n").as_bytes())?;
        assert_eq!(place.unified.as_deref(), Some(path));
        Some((place.uid.as_str().to_owned(), place.container))
    }

    #[test]
    fn a_real_process_of_a_hybrid_node() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/cri/proc-pid-cgroup.txt"
        );
        let place = parse(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(place.uid.as_str(), UID);
        assert_eq!(place.container.as_deref(), Some(ID));
        assert_eq!(
            place.unified,
            Some(format!("/kubepods/besteffort/pod{UID}/{ID}"))
        );
    }

    #[test]
    fn both_drivers_and_all_classes_of_pods() {
        let expected = Some((UID.to_owned(), Some(ID.to_owned())));
        let low = UID.replace('-', "_");
        let paths = [
            format!("/kubepods/pod{UID}/{ID}"),
            format!("/kubepods/burstable/pod{UID}/{ID}"),
            format!("/kubepods/besteffort/pod{UID}/crio-{ID}"),
            format!("/kubepods.slice/kubepods-pod{low}.slice/cri-containerd-{ID}.scope"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{low}.slice/crio-{ID}.scope"
            ),
            // A container's own sub-groups; a node in a container; a cgroup namespace.
            format!("/kubepods/besteffort/pod{UID}/{ID}/init.scope/x"),
            format!("/docker/{}/kubelet/kubepods/pod{UID}/{ID}", "0".repeat(64)),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{low}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/../../pod{UID}/{ID}"),
        ];
        for path in paths {
            assert_eq!(of(&path), expected, "{path}");
        }
        let inner = "0".repeat(64);
        let nested = format!("/kubepods/pod{UID}/{ID}/kubelet/kubepods/pod{inner}/{inner}");
        assert_eq!(of(&nested), expected, "the outermost counts");
    }

    #[test]
    fn a_static_pod_and_a_pod_without_its_container() {
        let hash = "0123456789abcdef0123456789abcdef";
        assert_eq!(
            of(&format!("/kubepods/burstable/pod{hash}")),
            Some((hash.to_owned(), None))
        );
        assert_eq!(
            of(&format!("/kubepods/pod{UID}/short")),
            Some((UID.to_owned(), None))
        );
    }

    #[test]
    fn version_1_alone_has_no_path_of_version_2() {
        let text = format!("4:memory:/kubepods/pod{UID}/{ID}\n0::/system.slice/x.service\n");
        let place = parse(text.as_bytes()).unwrap();
        assert_eq!((place.uid.as_str(), place.unified), (UID, None));
    }

    #[test]
    fn others_are_of_no_pod() {
        let paths = [
            "/",
            "/system.slice/containerd.service",
            "/podman/libpod-0123",
            "/kubepods/podx",
            "/kubepods/besteffort",
            "/kubepods.slice/kubepods-pod.slice",
            "/user.slice/pod-5cf5fb22.slice",
        ];
        for path in paths {
            assert_eq!(of(path), None, "{path}");
        }
        for text in ["", "\n", "::", "0:", "0::relative/pod", "\0\0"] {
            assert_eq!(parse(text.as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_read_is_what_was_written(uid in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", id in "[0-9a-f]{64}", systemd: bool, above in "(/[a-z]{1,5}){0,3}") {
            let path = if systemd {
                format!("{above}/kubepods-pod{}.slice/cri-containerd-{id}.scope", uid.replace('-', "_"))
            } else {
                format!("{above}/pod{uid}/{id}")
            };
            prop_assert_eq!(of(&path), Some((uid, Some(id))));
        }
    }
}
