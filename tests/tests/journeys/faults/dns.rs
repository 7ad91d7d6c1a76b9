//! Name servers that do not know, or do not answer; and the searches of commands that are well.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::server::dns::{BARE, BROKEN, DELAY, LATE, MUTE, NOWHERE};
use tracer_tests::trace::json::{Flow, Lookup};
use tracer_tests::trace::process::{self, Ended};

use super::{Expected, is_diagnosed, own};

/// The search path of a pod.
const SEARCH: [&str; 3] = [
    "default.svc.cluster.local",
    "svc.cluster.local",
    "cluster.local",
];

/// A pod's resolv.conf.
pub(super) fn resolver(lab: &Lab) -> anyhow::Result<PathBuf> {
    let server = lab.service("kube-dns").cluster_ip;
    let file = lab.directory().join("resolv.conf");
    let search = SEARCH.join(" ");
    let text = format!("nameserver {server}\nsearch {search}\noptions ndots:5\n");
    std::fs::write(&file, text).context("cannot write resolv.conf")?;
    Ok(file)
}

/// Traces a shell's line in pod `a1`, which resolves names as a pod does.
fn run(lab: &Lab, options: &[&str], line: &str) -> anyhow::Result<Ended> {
    let file = resolver(lab)?;
    // The command has a mount namespace of its own.
    let script = format!("mount --bind {} /etc/resolv.conf && {line}", file.display());
    let arguments = [
        &["run"],
        options,
        &["--pod", "a1", "--", "sh", "-c", &script],
    ]
    .concat();
    process::command_in(lab, arguments)?.output()?.try_into()
}

fn flows(lab: &Lab, line: &str) -> anyhow::Result<Vec<Flow>> {
    let trace = run(lab, &["--json"], line)?.trace()?;
    own(lab, trace.flows)
}

/// One of the flows has that diagnosis, and the others have none.
fn one_is_diagnosed(flows: &[Flow], expected: &Expected<'_>) -> anyhow::Result<()> {
    let wrong: Vec<&Flow> = flows
        .iter()
        .filter(|flow| flow.diagnosis.is_some())
        .collect();
    let [flow] = wrong[..] else {
        anyhow::bail!("{flows:#?}");
    };
    is_diagnosed(flow, expected)
}

#[test]
fn a_name_that_no_search_path_finds_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let name = format!("api.{NOWHERE}");
    let found = flows(&lab, &format!("curl -sS http://{name}/"))?;
    let first = format!("{name}.{}", SEARCH[0]);
    let expected = Expected {
        layer: "dns",
        cause: "name-not-found",
        culprit: &name,
        said: &[
            "none of the 4 names",
            &first,
            "NXDOMAIN",
            "kube-system/kube-dns",
            "dig @",
        ],
    };
    one_is_diagnosed(&found, &expected)?;
    // All of them stand in the journey, each with what was said and how long that took.
    let answers = found.iter().flat_map(|flow| &flow.answers);
    let mut names: Vec<&str> = answers
        .inspect(|answer| assert!(answer.took_ns.is_some() && answer.sent == 1, "{answer:?}"))
        .filter(|answer| answer.r#type == "A" && answer.code == "NXDOMAIN")
        .map(|answer| answer.name.as_str())
        .collect();
    // A resolver may ask several questions by one socket, which are one flow.
    names.sort_unstable();
    names.dedup();
    let ends = SEARCH.iter().map(|end| format!("{name}.{end}"));
    let mut expected: Vec<String> = ends.chain([name.clone()]).collect();
    expected.sort_unstable();
    ensure!(names == expected, "{names:?}");
    lab.down()
}

/// Three names of four are not there, and nothing is wrong.
#[test]
fn a_search_path_stands_in_the_journey_of_the_command() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let called = lab.service("web-node1").cluster_ip;
    let name = format!("{}.{BARE}", called.to_string().replace('.', "-"));
    let line = format!("curl -sS http://{name}/");
    let found = flows(&lab, &line)?;
    for flow in &found {
        ensure!(flow.diagnosis.is_none(), "{flow:#?}");
    }
    let call = found.iter().find(|flow| flow.proto == "tcp");
    let call = call.context("no call")?;
    ensure!(
        call.destination.asked.as_deref() == Some(&name),
        "{call:#?}"
    );
    let Some(Lookup {
        server,
        tried,
        took_ns: Some(took),
    }) = &call.destination.lookup
    else {
        anyhow::bail!("{call:#?}");
    };
    let expected: Vec<String> = SEARCH.iter().map(|end| format!("{name}.{end}")).collect();
    ensure!(*tried == expected, "{tried:?}");
    ensure!(
        server.ip() == lab.service("kube-dns").cluster_ip,
        "{server}"
    );
    ensure!(*took > 0 && *took < call.first_ns, "{took}");
    let text = run(&lab, &["--summary"], &line)?.stdout;
    let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = format!("asked for as {name} (after 3 other names)");
    ensure!(plain.contains(&said), "{said}: {text}");
    lab.down()
}

#[test]
fn a_name_server_that_fails_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let server = lab.service("kube-dns").cluster_ip;
    let dig = |name: &str| flows(&lab, &format!("dig @{server} +tries=1 +time=9 {name}.test"));
    let name = format!("{BROKEN}.test");
    let expected = Expected {
        layer: "dns",
        cause: "name-server-failed",
        culprit: "5353",
        said: &["SERVFAIL", &name, "could not find out"],
    };
    one_is_diagnosed(&dig(BROKEN)?, &expected)?;
    let expected = Expected {
        layer: "dns",
        cause: "slow-answer",
        culprit: "5353",
        said: &["the name server", "took 1.6", &format!("{LATE}.test")],
    };
    ensure!(DELAY.as_millis() == 1600);
    one_is_diagnosed(&dig(LATE)?, &expected)?;
    let well = dig("web")?;
    ensure!(
        well.iter().all(|flow| flow.diagnosis.is_none()),
        "{well:#?}"
    );
    lab.down()
}

/// A resolver asks for both kinds of addresses at once, and one of the two gets no answer.
#[test]
fn a_question_of_two_that_gets_no_answer_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let called = lab.service("web-node1").cluster_ip;
    let name = format!("{}.{MUTE}", called.to_string().replace('.', "-"));
    let found = flows(&lab, &format!("curl -sS --max-time 3 http://{name}./"))?;
    let expected = Expected {
        layer: "dns",
        cause: "question-unanswered",
        culprit: "5353",
        said: &["gets a question and does not answer it", "1 other question"],
    };
    one_is_diagnosed(&found, &expected)?;
    ensure!(found.iter().any(|flow| flow.unanswered == 1), "{found:#?}");
    lab.down()
}
