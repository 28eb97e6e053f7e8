//! Runs scripts in a guest by its program `guest/hand`: a script in; its exit code and its output out. It needs no
//! network, so it works on a node that cannot join.
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

/// A number for each request. An answer with another number belongs to a request that has timed out.
static LAST: AtomicU32 = AtomicU32::new(0);

impl Channel {
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Runs a shell script for at most this many seconds. Returns its exit code and its output.
    pub(crate) fn run(&self, script: &str, seconds: u64) -> anyhow::Result<(i32, String)> {
        self.ask(&format!("run {{}} {seconds} {}", script.len()), script.as_bytes(), seconds)
    }

    /// Writes a file.
    pub(crate) fn put(&self, path: &str, contents: &[u8], mode: &str) -> anyhow::Result<()> {
        let (code, _) = self.ask(&format!("put {{}} {mode} {} {path}", contents.len()), contents, 60)?;
        ensure!(code == 0, "{path} could not be written");
        Ok(())
    }

    fn ask(&self, head: &str, body: &[u8], seconds: u64) -> anyhow::Result<(i32, String)> {
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("no machine at {}", self.socket.display()))?;
        // A busy host emulates its guests slowly.
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener, thread};

    use super::*;

    /// Sends one request to a guest that answers `answer`, in which `#` stands for the request's number.
    fn asked(name: &str, answer: &'static str) -> anyhow::Result<(i32, String)> {
        let path = std::env::temp_dir().join(format!("e2e-channel-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let machine = thread::spawn(move || {
            let mut reader = BufReader::new(listener.accept().unwrap().0);
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let words: Vec<_> = line.split_whitespace().collect();
            let ["run", number, "7", length] = words[..] else { panic!("{line}") };
            reader.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
            reader.get_mut().write_all(answer.replace('#', number).as_bytes()).unwrap();
        });
        let result = Channel::at(path.clone()).run("echo 'one\ntwo'; exit 3", 7);
        machine.join().unwrap();
        fs::remove_file(&path).unwrap();
        result
    }

    #[test]
    fn output_comes_back_whole() {
        assert_eq!(asked("whole", "done # 3 8\none\ntwo\n").unwrap(), (3, "one\ntwo\n".to_owned()));
        assert_eq!(asked("empty", "done # 0 0\n").unwrap(), (0, String::new()));
    }

    #[test]
    fn an_answer_to_an_earlier_request_is_passed_over() {
        let late = "tail of it\ndone 0 0 4\nlatedone # 1 3\nnew";
        assert_eq!(asked("late", late).unwrap(), (1, "new".to_owned()));
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        assert!(asked("short", "done # 0 9\nshort").is_err());
        assert!(asked("words", "done # zero 0\n").is_err());
        assert!(asked("gone", "").is_err());
    }
}
