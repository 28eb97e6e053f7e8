//! A terminal for pictures: keys arrive without Enter, and at the end everything is as it was before. Exists only if both
//! standard input and standard output are a terminal.
use std::{
    io::{self, IsTerminal, Read},
    thread,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use crate::output;

/// The second screen, without a cursor, and without broken lines.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const END: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The keys q, Ctrl-C and Ctrl-D.
const QUIT: [u8; 4] = [b'q', b'Q', 3, 4];

/// The terminal. Dropping it restores its settings.
pub(super) struct Terminal {
    before: Termios,
    keys: mpsc::Receiver<u8>,
}

impl Terminal {
    /// Takes the terminal; none if there is none.
    pub(super) fn open() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut now = before.clone();
        now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Now, &now)?;
        let (sender, keys) = mpsc::channel(16);
        let terminal = Self { before, keys };
        output::write(BEGIN)?;
        // It ends with the process: a read of a terminal cannot be interrupted.
        thread::Builder::new().name("keys".to_owned()).spawn(move || {
            for octet in io::stdin().lock().bytes() {
                if !octet.is_ok_and(|octet| sender.blocking_send(octet).is_ok()) {
                    return;
                }
            }
        })?;
        Ok(Some(terminal))
    }

    /// Replaces the picture, line by line, so that it does not flicker.
    pub(super) fn show(&self, picture: &str) -> io::Result<()> {
        let lines: Vec<_> = picture.lines().map(|line| format!("{line}\x1b[K")).collect();
        output::write(&format!("\x1b[H{}\x1b[J", lines.join("\n")))
    }

    /// Returns when the user wants to end, or the terminal is gone.
    pub(super) async fn quit(&mut self) {
        while let Some(key) = self.keys.recv().await {
            if QUIT.contains(&key) {
                return;
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = output::write(END);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
