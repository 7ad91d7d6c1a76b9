//! Where the tracer itself runs: what it does with what it finds there.

use std::os::unix::process::CommandExt;

use super::{role::Tracer, *};

/// Hides the cgroups, then runs the rest.
const HIDE: &str = "umount -R -l /sys/fs/cgroup && exec \"$0\" \"$@\"";

/// Enters the cgroup `$1` of the kind `$2`, then runs the rest.
const ENTER: &str = "leaf=$0; [ \"$1\" = domain ] || echo \"$1\" > \"$leaf/cgroup.type\" || exit; \
                     shift; echo 0 > \"$leaf/cgroup.procs\" && exec \"$@\"";

/// A cgroup for a tracer to be in, removed with the test.
struct Outer(PathBuf);

impl Outer {
    fn new(name: &str) -> Self {
        let path = own_cgroup().join(format!("tracer-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Starts a tracer there; its cgroup and its command.
    fn run(&self, kind: &str) -> (Tracer, PathBuf, Survivor) {
        let path = self.0.to_str().unwrap();
        let words = ["sh", "-c", ENTER, path, kind];
        let script = "exec sleep 1000 >/dev/null 2>&1";
        let mut tracer = Tracer::start_by(&words, "run", script).unwrap();
        let cgroup = PathBuf::from(tracer.hear("cgroup "));
        let command = Survivor::new(&tracer.hear("command "));
        (tracer, cgroup, command)
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        wait_until("its processes have ended", || {
            match fs::remove_dir(&self.0) {
                Err(error) => error.kind() == io::ErrorKind::NotFound,
                Ok(()) => true,
            }
        });
    }
}

#[test]
fn the_commands_cgroup_is_inside_the_tracers() {
    if !root() {
        return;
    }
    let outer = Outer::new("nested");
    let (mut tracer, cgroup, command) = outer.run("domain");
    assert_eq!(cgroup.parent(), Some(outer.0.as_path()));
    tracer.signal(Signal::KILL);
    tracer.wait();
    wait_until("the cgroup is gone", || !cgroup.exists());
    let name = outer.0.file_name().unwrap().to_str().unwrap();
    let now = cgroup_of(&command.number()).unwrap();
    assert!(now.ends_with(name), "back in the tracer's: {now}");
    assert!(command.lives());
}

/// In a threaded cgroup there can be none for processes, nor can they be moved there.
#[test]
fn from_a_threaded_cgroup_it_goes_to_the_top() {
    if !root() {
        return;
    }
    let outer = Outer::new("threaded");
    let (mut tracer, cgroup, command) = outer.run("threaded");
    assert_ne!(cgroup.parent(), Some(outer.0.as_path()));
    tracer.signal(Signal::KILL);
    tracer.wait();
    wait_until("the cgroup is gone", || !cgroup.exists());
    assert!(command.lives());
}

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
    tracer.hear_out();
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
    let mut command = Tracer::command(&[], "fail", "exit 0").unwrap();
    command.uid(NOBODY).gid(NOBODY);
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
