//! Asks QEMU itself, by its monitor protocol (QMP): what the hardware clock shows.
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::{calendar, truth};

/// The hardware clock in whole seconds since 1970.
pub(crate) fn rtc(socket: &Path) -> anyhow::Result<i64> {
    let answer = ask(
        socket,
        &json!({"execute": "qom-get", "arguments": {"path": "/machine", "property": "rtc-time"}}),
    )?;
    let field = |name: &str| answer[name].as_i64().with_context(|| format!("no {name} in {answer}"));
    Ok(calendar::seconds(
        (field("tm_year")? + 1900, field("tm_mon")? + 1, field("tm_mday")?),
        (field("tm_hour")?, field("tm_min")?, field("tm_sec")?),
    ))
}

/// The hardware clock minus the host's clock, nanoseconds. Reads until the second changes, so the error is a few
/// milliseconds.
pub(crate) fn rtc_offset(socket: &Path) -> anyhow::Result<i64> {
    let begun = Instant::now();
    let first = rtc(socket)?;
    loop {
        let second = rtc(socket)?;
        if second != first {
            return Ok(second * 1_000_000_000 - truth::nanoseconds()?);
        }
        if begun.elapsed() > Duration::from_secs(3) {
            bail!("the hardware clock stands still ({})", socket.display());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// A command without arguments, such as `stop`, `cont` and `system_reset`.
pub(crate) fn order(socket: &Path, command: &str) -> anyhow::Result<()> {
    ask(socket, &json!({"execute": command})).map(drop)
}

/// Connects or disconnects the cable of the network card `card`.
pub(crate) fn set_link(socket: &Path, card: &str, up: bool) -> anyhow::Result<()> {
    ask(socket, &json!({"execute": "set_link", "arguments": {"name": card, "up": up}})).map(drop)
}

/// Sends one command. Returns its `return`.
fn ask(socket: &Path, command: &Value) -> anyhow::Result<Value> {
    let stream =
        UnixStream::connect(socket).with_context(|| format!("cannot reach QEMU at {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    read(&mut reader)?; // the greeting
    let mut last = Value::Null;
    for request in [&json!({"execute": "qmp_capabilities"}), command] {
        writer.write_all(format!("{request}\n").as_bytes())?;
        last = read(&mut reader)?;
        while last.get("event").is_some() {
            last = read(&mut reader)?;
        }
    }
    match last.get("return") {
        Some(value) => Ok(value.clone()),
        None => bail!("QEMU: {last}"),
    }
}

fn read(reader: &mut impl BufRead) -> anyhow::Result<Value> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
