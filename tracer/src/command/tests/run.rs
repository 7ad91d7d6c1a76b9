//! Running to the end: where the command is, what comes back, what is left.

use std::os::unix::fs::MetadataExt;

use super::*;

#[tokio::test]
async fn the_status_is_the_commands() {
    if !root() {
        return;
    }
    let nothing = Path::new("");
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$", 128 + 15),
        ("kill -KILL $$", 128 + 9),
    ] {
        let result = run(shell(script, nothing)).await.unwrap();
        assert_eq!(result, (code, 0), "{script}");
    }
}

#[tokio::test]
async fn the_command_is_in_its_cgroup_from_the_start() {
    if !root() {
        return;
    }
    let (_directory, out) = scratch().unwrap();
    let prepared = Prepared::new(shell("cat /proc/self/cgroup > \"$1\"", &out)).unwrap();
    let path = prepared.leaf.path().to_owned();
    assert_eq!(prepared.cgroup_id(), fs::metadata(&path).unwrap().ino());
    assert_eq!(prepared.cgroup_id(), id_in_handle(&path));
    assert!(prepared.netns().is_none());
    let mut running = prepared.start().unwrap();
    running.wait().await.unwrap();
    assert!(path.exists(), "until it is closed");
    assert_eq!(running.close().unwrap(), 0);
    assert!(!path.exists());
    let seen = fs::read_to_string(&out).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(
        seen.lines()
            .any(|line| line.starts_with("0::") && line.ends_with(name)),
        "{seen}"
    );
}

/// The id in the file handle, which is how `bpf_get_current_cgroup_id` and others name a cgroup.
fn id_in_handle(path: &Path) -> u64 {
    #[repr(C)]
    struct Handle {
        length: u32,
        kind: i32,
        id: u64,
    }
    let mut handle = Handle {
        length: 8,
        kind: 0,
        id: 0,
    };
    let mut mount = 0;
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a file_handle with room for the 8 bytes that it announces.
    let result = unsafe {
        libc::name_to_handle_at(
            libc::AT_FDCWD,
            path.as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            0,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    /// `FILEID_KERNFS`
    const KERNFS: i32 = 0xfe;
    assert_eq!(handle.kind, KERNFS);
    handle.id
}

#[tokio::test]
async fn the_command_gets_its_words_and_name() {
    if !root() {
        return;
    }
    let (_directory, out) = scratch().unwrap();
    let script = "tr '\\0' '|' < /proc/$$/cmdline > \"$1\"";
    run(shell(script, &out)).await.unwrap();
    let seen = fs::read_to_string(&out).unwrap();
    assert_eq!(seen, format!("sh|-c|{script}|sh|{}|", out.display()));
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_and_leaves_nothing() {
    if !root() {
        return;
    }
    let (directory, _) = scratch().unwrap();
    let script = directory.path().join("script");
    // Written by another process: a file that a fork of this one has open would be "busy".
    let write = "printf '#!/nonexistent/interpreter\\n' > \"$1\" && chmod +x \"$1\"";
    assert_eq!(run(shell(write, &script)).await.unwrap(), (0, 0));
    let missing = |word: &str| Options {
        command: vec![word.into()],
        ..Options::default()
    };
    let error = run(missing("no-such-program")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot run no-such-program: not found in PATH"
    );
    assert_eq!(error.exit_code(), 127);
    // This one only exec finds out.
    let prepared = Prepared::new(missing(script.to_str().unwrap())).unwrap();
    let path = prepared.leaf.path().to_owned();
    let error = prepared.start().unwrap_err();
    assert!(
        error.to_string().contains("interpreter in its first line"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 126);
    assert!(!path.exists());
    assert!(matches!(
        run(Options::default()).await,
        Err(Error::NoCommand)
    ));
}

#[tokio::test]
async fn an_environment_that_cannot_be_entered_is_named() {
    if !root() {
        return;
    }
    let mut prepared = Prepared::new(shell("exit 0", Path::new(""))).unwrap();
    let path = prepared.leaf.path().to_owned();
    prepared.netns = Some(crate::node::find::Found {
        inode: 0,
        file: fs::File::open("/dev/null").unwrap(),
    });
    let error = prepared.start().unwrap_err().to_string();
    assert!(
        error.contains("cannot enter the network namespace"),
        "{error}"
    );
    assert!(error.contains("CAP_SYS_ADMIN"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_background_process_lives_on_and_the_cgroup_is_gone() {
    if !root() {
        return;
    }
    let (_directory, out) = scratch().unwrap();
    let script = "sleep 1000 >/dev/null 2>&1 & echo $! > \"$1\"";
    let mut running = Prepared::new(shell(script, &out)).unwrap().start().unwrap();
    let path = running.leaf.path().to_owned();
    running.wait().await.unwrap();
    let survivor = Survivor::new(&fs::read_to_string(&out).unwrap());
    assert!(!survivor.is_back());
    assert_eq!(running.close().unwrap(), 1);
    assert!(survivor.lives() && survivor.is_back());
    assert!(!path.exists());
}

#[tokio::test]
async fn cgroups_that_the_command_made_go_as_well() {
    if !root() {
        return;
    }
    let (_directory, out) = scratch().unwrap();
    let script = "sleep 1000 >/dev/null 2>&1 & echo $! > \"$1\"; read -r leaf < \"$1.leaf\"
        mkdir -p \"$leaf/a/b\" \"$leaf/c\" && echo $! > \"$leaf/a/b/cgroup.procs\"";
    let prepared = Prepared::new(shell(script, &out)).unwrap();
    let path = prepared.leaf.path().to_owned();
    fs::write(out.with_extension("leaf"), format!("{}\n", path.display())).unwrap();
    let mut running = prepared.start().unwrap();
    assert_eq!(exit_code(running.wait().await.unwrap()), 0);
    let survivor = Survivor::new(&fs::read_to_string(&out).unwrap());
    assert!(cgroup_of(&survivor.number()).unwrap().ends_with("/a/b"));
    assert_eq!(running.close().unwrap(), 1);
    assert!(survivor.lives() && survivor.is_back());
    assert!(!path.exists());
}

#[tokio::test]
async fn many_processes_are_moved() {
    if !root() {
        return;
    }
    let (_directory, out) = scratch().unwrap();
    // More than one reading of the list holds.
    let script = "i=0; while [ $i -lt 1000 ]; do sleep 1000 >/dev/null 2>&1 & echo $!; \
                  i=$((i+1)); done > \"$1\"";
    let mut running = Prepared::new(shell(script, &out)).unwrap().start().unwrap();
    let path = running.leaf.path().to_owned();
    running.wait().await.unwrap();
    let list = fs::read_to_string(&out).unwrap();
    let survivors: Vec<Survivor> = list.lines().map(Survivor::new).collect();
    assert_eq!(survivors.len(), 1000);
    assert_eq!(running.close().unwrap(), 1000);
    assert!(survivors.iter().all(Survivor::is_back));
    assert!(!path.exists());
}

#[tokio::test]
async fn dropped_while_it_runs_the_command_goes_on() {
    if !root() {
        return;
    }
    let running = Prepared::new(shell("exec sleep 1000", Path::new("")))
        .unwrap()
        .start()
        .unwrap();
    let path = running.leaf.path().to_owned();
    let survivor = Survivor::new(&running.pid().unwrap().to_string());
    drop(running);
    assert!(survivor.lives() && survivor.is_back());
    assert!(!path.exists());
}
