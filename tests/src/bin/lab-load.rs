//! Load for the benchmarks, see [`tracer_tests::load`]:
//!
//! ```text
//! lab-load serve PORT PROCESSOR PROCESSOR      (that answers, that counts datagrams)
//! lab-load ask|connect PROCESSOR ADDRESS:PORT SECONDS [PAUSE]
//! lab-load send PROCESSOR ADDRESS:PORT SECONDS
//! lab-load flood PROCESSOR ADDRESS:PORT SECONDS [PORTS ADDRESSES]
//! ```
//!
//! Clients print what they did as one line of JSON.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use tracer_tests::load::{self, Spread};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", port, answering, counting] => {
            return load::serve(read(port)?, read(answering)?, read(counting)?);
        }
        ["ask" | "connect", processor, server, time, ..] if words.len() <= 5 => {
            let (processor, server) = (read(processor)?, read(server)?);
            let pause = words.get(4).map_or(Ok(Duration::ZERO), |it| seconds(it))?;
            let client = if words[0] == "ask" {
                load::ask
            } else {
                load::connect
            };
            client(processor, server, seconds(time)?, pause)
        }
        ["send", processor, server, time] => {
            load::send(read(processor)?, read(server)?, seconds(time)?)
        }
        ["flood", processor, server, time] => {
            let spread = Spread::ONE;
            load::flood(read(processor)?, read(server)?, seconds(time)?, spread)
        }
        ["flood", processor, server, time, ports, addresses] => {
            let (ports, addresses) = (read(ports)?, read(addresses)?);
            let spread = Spread { ports, addresses };
            load::flood(read(processor)?, read(server)?, seconds(time)?, spread)
        }
        _ => anyhow::bail!("usage: see the head of tests/src/bin/lab-load.rs"),
    }?;
    println!("{}", serde_json::to_string(&done)?);
    Ok(())
}

fn read<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: &str,
) -> anyhow::Result<T> {
    text.parse()
        .with_context(|| format!("cannot read {text:?}"))
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(read(text)?).with_context(|| format!("no time: {text}"))
}
