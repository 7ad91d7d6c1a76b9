//! `cargo xtask demo`: from a fresh clone to a printed journey, in one command.

use std::process::{Command, ExitCode};

use tracer_tests::lab::{Config, Lab};

use crate::{interrupt, packages, process};

/// Installs what is missing, builds, raises a lab, traces one curl in it and takes it down. The
/// exit status is the traced command's.
///
/// # Errors
/// When a step before the traced command fails, or the lab cannot be taken down.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    packages::install_for_lab()?;
    println!("building the tracer");
    let tracer = process::build_tracer(None)?;
    process::build_lab_server()?;
    // From here on Ctrl-C is for the tracer: this process has a lab to take down.
    interrupt::outlive()?;
    println!("raising a cluster of two nodes in network namespaces");
    let lab = Lab::up(&Config::default())?;
    let (client, service) = (lab.pod("a1"), lab.service("web-node1"));
    println!(
        "pod {} calls the Service {}, whose endpoint is pod b1\n",
        client.name,
        service.full_name()
    );
    let url = format!("http://{}/", service.cluster_ip);
    let mut command = Command::new(tracer);
    command.args(["run", "--netns", &client.netns, "--", "curl", "-sS", &url]);
    println!(
        "$ {}",
        process::line(&command).replace(&process::root().display().to_string(), ".")
    );
    let status = process::status(&mut command)?;
    lab.down()?;
    Ok(code(status))
}

fn code(status: std::process::ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
