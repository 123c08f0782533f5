//! What the person types, one line at a time, without holding anything else up.

use std::io::{BufRead, IsTerminal};

use tokio::sync::mpsc;

// A person types one line, waits, and types the next.
const LINES: usize = 1;

/// What the person types.
pub struct Input {
    allowed: bool,
    forbidden: bool,
    lines: Option<mpsc::Receiver<String>>,
}

impl Input {
    /// Standard input of the process: asked only on a terminal, and never with `--no-input`.
    pub fn of_process(no_input: bool) -> Self {
        Self {
            allowed: !no_input && std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
            forbidden: no_input,
            lines: None,
        }
    }

    /// A person may be asked.
    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The person said that nobody may be asked.
    pub fn is_forbidden(&self) -> bool {
        self.forbidden
    }

    /// The next line. `None`: there are no more. Cancel safe.
    pub async fn line(&mut self) -> Option<String> {
        let lines = self.lines.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(LINES);
            // A thread of its own, never joined: reading a terminal cannot be called off.
            let _reader = std::thread::Builder::new()
                .name("input".to_owned())
                .spawn(move || {
                    for line in std::io::stdin().lock().lines() {
                        let Ok(line) = line else { return };
                        if sender.blocking_send(line).is_err() {
                            return;
                        }
                    }
                });
            receiver
        });
        lines.recv().await
    }
}
