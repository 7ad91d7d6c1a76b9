//! Where the tracer itself runs: what it does with what it finds there.

use std::os::unix::process::CommandExt;

use super::{role::Tracer, *};

/// Hides the cgroups, then runs the rest.
const HIDE: &str = "umount -R -l /sys/fs/cgroup && exec \"$0\" \"$@\"";

/// As `ip netns exec` does it.
#[test]
fn cgroups_that_are_hidden_are_reached_through_the_parent() {
    if !root() {
        return;
    }
    let words = ["unshare", "--mount", "sh", "-c", HIDE];
    let mut tracer = Tracer::start_by(&words, "run", "exit 3").unwrap();
    let cgroup = tracer.hear("cgroup ");
    assert!(
        cgroup.starts_with(&format!("/proc/{}/root/", std::process::id())),
        "{cgroup}"
    );
    assert_eq!(tracer.hear("ended "), "3");
    assert!(Path::new(&cgroup).exists());
    tracer.go_on();
    assert_eq!(tracer.wait().code(), Some(3));
    assert!(!Path::new(&cgroup).exists());
}

#[test]
fn without_cgroups_it_says_how_to_get_them() {
    if !root() {
        return;
    }
    let words = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        HIDE,
    ];
    let mut tracer = Tracer::start_by(&words, "fail", "exit 0").unwrap();
    let error = tracer.hear("error ");
    assert!(
        error.contains("mount -t cgroup2 none /sys/fs/cgroup/unified"),
        "{error}"
    );
}

#[test]
fn without_permission_it_says_what_is_missing() {
    /// `nobody`
    const NOBODY: u32 = 65534;
    if !root() {
        return;
    }
    let mut command = Tracer::command(&[]).unwrap();
    command.uid(NOBODY).gid(NOBODY);
    command.env("TRACER_COMMAND_TEST_ROLE", "fail");
    command.env("TRACER_COMMAND_TEST_SCRIPT", "exit 0");
    let mut tracer = match Tracer::spawn(&mut command) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            println!("skipped: the user nobody cannot run the test program");
            return;
        }
        result => result.unwrap(),
    };
    let error = tracer.hear("error ");
    tracer.hear_out();
    assert!(error.contains("Permission denied"), "{error}");
    assert!(error.contains("run as root"), "{error}");
}
