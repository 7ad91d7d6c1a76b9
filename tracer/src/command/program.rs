//! Finding the program to run, as a shell does.
//!
//! Before anything is attached, so that a typing error is answered at once.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::error::Error;

/// Where programs are when `PATH` is not set, as the C library has it.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The file to run for `program`: itself when it has a slash, else the first of that name in `path`
/// that can be run.
pub(super) fn look_up(program: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, Error> {
    if program.as_bytes().contains(&b'/') {
        let file = PathBuf::from(program);
        return match hindrance(&file) {
            Ok(None) => Ok(file),
            Ok(Some(reason)) => Err(Error::NotExecutable { path: file, reason }),
            Err(_) => Err(not_found(program)),
        };
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH)).as_bytes();
    let mut found = None;
    for directory in path.split(|&byte| byte == b':') {
        // An empty one is the current directory; the program found there needs a slash.
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let file = Path::new(OsStr::from_bytes(directory)).join(program);
        match hindrance(&file) {
            Ok(None) => return Ok(file),
            Ok(Some(reason)) => _ = found.get_or_insert((file, reason)),
            Err(_) => {}
        }
    }
    Err(match found {
        Some((path, reason)) if !program.is_empty() => Error::NotExecutable { path, reason },
        _ => not_found(program),
    })
}

fn not_found(program: &OsStr) -> Error {
    Error::NotFound {
        program: program.to_owned(),
    }
}

/// What keeps a file that exists from being run.
fn hindrance(file: &Path) -> io::Result<Option<&'static str>> {
    let metadata = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(Some("permission denied on the way to it"));
        }
        result => result?,
    };
    Ok(if metadata.is_dir() {
        Some("it is a directory")
    } else if access(file, Access::EXEC_OK).is_err() {
        Some("it is not executable; `chmod +x` makes it so")
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::fs::PermissionsExt};

    use super::*;

    fn error(program: &str, path: &OsStr) -> (String, u8) {
        let error = look_up(OsStr::new(program), Some(path)).unwrap_err();
        (error.to_string(), error.exit_code())
    }

    /// A directory that begins `PATH`, with `tool` executable or not.
    fn directory(mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tool");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        directory
    }

    #[test]
    fn the_first_that_can_be_run_is_found() {
        let (not, first, second) = (directory(0o644), directory(0o755), directory(0o755));
        let mut path = OsString::from("/nonexistent");
        for directory in [&not, &first, &second] {
            path.push(":");
            path.push(directory.path());
        }
        let found = look_up(OsStr::new("tool"), Some(&path)).unwrap();
        assert_eq!(found, first.path().join("tool"));
        let absolute = first.path().join("tool");
        assert_eq!(
            look_up(absolute.as_os_str(), Some(&path)).unwrap(),
            absolute
        );
        assert!(look_up(OsStr::new("sh"), None).is_ok());
    }

    #[test]
    fn what_cannot_be_run_is_told_from_what_does_not_exist() {
        let not = directory(0o644);
        let path = not.path().as_os_str();
        let said = format!(
            "cannot run {}/tool: it is not executable; `chmod +x` makes it so",
            path.display()
        );
        assert_eq!(error("tool", path), (said.clone(), 126));
        let absolute = format!("{}/tool", path.display());
        assert_eq!(error(&absolute, path), (said, 126));
        let said = "cannot run foo: not found in PATH".to_owned();
        assert_eq!(error("foo", path), (said, 127));
        assert_eq!(error("", path).1, 127);
        let said = "cannot run ./foo: there is no such file".to_owned();
        assert_eq!(error("./foo", path), (said, 127));
        let said = "cannot run /etc: it is a directory".to_owned();
        assert_eq!(error("/etc", path), (said, 126));
    }
}
