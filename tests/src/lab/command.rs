//! Running the system's tools, with errors that say what failed.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

/// In the environment of every process that a lab starts: the lab's id. By it a process is found
/// that was started by an owner killed since, and is not in its namespace yet.
pub(super) const LAB_VARIABLE: &str = "TRACER_LAB";

/// A command for the lab that the network namespace belongs to.
pub(super) fn of_lab(netns: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    let id = netns.split_once('-').map_or(netns, |(id, _)| id);
    command.env(LAB_VARIABLE, id);
    command
}

/// A command that runs `program` in the named network namespace.
///
/// Through `nsenter`, which only changes the network namespace: `ip netns exec` would also unshare
/// the mounts, which nothing here needs. `nsenter` replaces itself by the program, so the child's
/// pid is the program's.
pub(super) fn in_netns(netns: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = of_lab(netns, "nsenter");
    command
        .arg(format!("--net=/run/netns/{netns}"))
        .arg("--")
        .arg(program);
    command
}

/// Runs the command with `input` on its stdin and returns its stdout.
///
/// # Errors
/// When it cannot be started or exits with a non-zero status: the command line, its stderr and,
/// where it wrote to that only, its stdout.
pub(super) fn run(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let output = output(command, input)?;
    if !output.status.success() {
        let mut said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if said.is_empty() {
            // CNI plugins report errors as JSON on stdout.
            said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        }
        bail!("`{}` failed ({}): {said}", line(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote something other than text", line(command)))
}

/// Runs the command with `input` on its stdin, whatever its status.
fn output(command: &mut Command, input: &str) -> anyhow::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`: is it installed?", line(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // All these tools read their whole input before they write, so this cannot block for
        // good; one that ends early has said why on stderr, which says more than our EPIPE.
        let _ = stdin.write_all(input.as_bytes());
    }
    child
        .wait_with_output()
        .with_context(|| format!("cannot wait for `{}`", line(command)))
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs `ip` commands, one a line, in the named network namespace.
pub(super) fn ip_batch(netns: &str, lines: &str) -> anyhow::Result<()> {
    let mut command = of_lab(netns, "ip");
    command.args(["-netns", netns, "-batch", "-"]);
    run(&mut command, lines)
        .map(drop)
        .with_context(|| format!("`ip` commands in {netns}:\n{}", lines.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_failed_and_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing >&2; exit 3"]);
        let error = run(&mut command, "").unwrap_err().to_string();
        assert!(
            error.contains("sh -c") && error.contains("no such thing"),
            "{error}"
        );
        assert!(error.contains('3'), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program"), "").unwrap_err();
        assert!(error.to_string().contains("no-such-program"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(run(&mut Command::new("cat"), "hello").unwrap(), "hello");
    }
}
