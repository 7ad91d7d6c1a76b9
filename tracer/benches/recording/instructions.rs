//! Instructions of a function, counted by valgrind: a figure that no busy machine changes.

use std::{error::Error, io::ErrorKind, process::Command};

/// Runs this program again with these arguments, and counts the instructions of the function, by a pattern of
/// its name, and of what it calls. `None` where there is no valgrind.
pub(crate) fn count(function: &str, arguments: &[&str]) -> Result<Option<u64>, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={function}"))
        .arg(std::env::current_exe()?)
        .args(arguments)
        .output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let mut lines = said.lines();
    let collected = lines.find_map(|line| line.split_once("Collected : "));
    let (_, number) = collected.ok_or_else(|| format!("valgrind counted nothing: {said}"))?;
    Ok(Some(number.trim().parse()?))
}
