//! The host's end of a guest's hand (guest/hand): a script in, its exit code and what it printed out. Works without a
//! network, so also on a node that cannot join.
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, bail, ensure};

/// The socket behind a machine's port.
pub(crate) struct Channel {
    socket: PathBuf,
}

/// Tells the answer to a request from one to a request that was given up.
static LAST: AtomicU32 = AtomicU32::new(0);

impl Channel {
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Runs a shell script to its end, for so many seconds at most; its exit code and what it printed.
    pub(crate) fn run(&self, script: &str, seconds: u64) -> anyhow::Result<(i32, String)> {
        self.ask(&format!("run {{}} {seconds} {}", script.len()), script.as_bytes(), seconds)
    }

    /// Writes a file.
    pub(crate) fn put(&self, path: &str, contents: &[u8], mode: &str) -> anyhow::Result<()> {
        let (code, _) = self.ask(&format!("put {{}} {mode} {} {path}", contents.len()), contents, 30)?;
        ensure!(code == 0, "{path} could not be written");
        Ok(())
    }

    fn ask(&self, head: &str, body: &[u8], seconds: u64) -> anyhow::Result<(i32, String)> {
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("no machine at {}", self.socket.display()))?;
        // A busy machine emulates its guests slowly.
        stream.set_read_timeout(Some(Duration::from_secs(seconds + 60)))?;
        let mut writer = &stream;
        writer.write_all(format!("{}\n", head.replace("{}", &number.to_string())).as_bytes())?;
        writer.write_all(body)?;
        let mut reader = BufReader::new(&stream);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).context("the machine's hand does not answer")?;
            ensure!(!line.is_empty(), "the machine's hand is gone");
            let words: Vec<_> = line.split_whitespace().collect();
            let [.., "done", answered, code, length] = words[..] else { continue };
            let mut output = vec![0; length.parse().context("a length")?];
            reader.read_exact(&mut output)?;
            match answered.parse::<u32>() {
                Ok(answered) if answered == number => {
                    return Ok((code.parse()?, String::from_utf8_lossy(&output).into_owned()));
                }
                Ok(_) => {}
                Err(_) => bail!("the machine's hand says {}", line.trim()),
            }
        }
    }
}
