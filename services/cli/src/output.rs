//! The one place that prints. Results go to standard output, everything else to standard error.
//! Text that came from elsewhere is shown without its control characters, so that no server and
//! no repository can drive the terminal.

mod paint;
mod table;

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use prost_reflect::prost::{Message, Name};

use crate::error::Error;

pub use paint::{Paint, Painter, of_stage_end, of_verdict, of_workflow};
pub use table::Table;

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How results are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where results go, and how.
pub struct Output {
    form: Form,
    quiet: bool,
    painter: Painter,
    terminal: bool,
    results: Mutex<Box<dyn Write + Send>>,
    notes: Mutex<Box<dyn Write + Send>>,
}

impl Output {
    /// Standard output and standard error of the process.
    pub fn of_process(form: Form, quiet: bool, color: Color, no_color: bool) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let painted = match color {
            Color::Auto => terminal && !no_color,
            Color::Always => true,
            Color::Never => false,
        };
        Self {
            form,
            quiet,
            painter: Painter::new(painted && form == Form::Text),
            terminal,
            results: Mutex::new(Box::new(std::io::stdout())),
            notes: Mutex::new(Box::new(std::io::stderr())),
        }
    }

    /// Results are JSON.
    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// Nothing but results and errors.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A person sees both streams.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Colours.
    pub fn painter(&self) -> Painter {
        self.painter
    }

    /// A line of result.
    pub fn line(&self, line: impl AsRef<str>) -> Result<(), Error> {
        write_line(&self.results, line.as_ref()).map_err(Error::Output)
    }

    /// A message as one line of JSON.
    pub fn message<M: Message + Name>(&self, message: &M) -> Result<(), Error> {
        self.line(contracts::json::to_line(message)?)
    }

    /// Bytes, as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results
            .write_all(bytes)
            .and_then(|()| results.flush())
            .map_err(Error::Output)
    }

    /// A line beside the results, for people only; nothing when quiet.
    pub fn note(&self, line: impl AsRef<str>) {
        if !self.quiet {
            self.notice(line);
        }
    }

    /// A line beside the results that is also said when quiet.
    pub fn notice(&self, line: impl AsRef<str>) {
        // Nothing can be done about a standard error that does not take it.
        let _ = write_line(&self.notes, line.as_ref());
    }

    /// Text without a line end, for a question.
    pub fn ask(&self, text: impl AsRef<str>) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = notes
            .write_all(text.as_ref().as_bytes())
            .and_then(|()| notes.flush());
    }

    /// Why it did not work.
    pub fn error(&self, error: &Error) {
        if !error.is_silent() {
            let label = self.painter.paint(Paint::Bad, "error:");
            self.notice(format!("{label} {}", clean_text(&error.to_string())));
        }
    }
}

fn write_line(to: &Mutex<Box<dyn Write + Send>>, line: &str) -> std::io::Result<()> {
    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
    // One write, so that lines of two processes do not mix.
    to.write_all(format!("{line}\n").as_bytes())?;
    to.flush()
}

/// Foreign text for one line: control characters and line ends become spaces.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if is_harmful(c) || c == '\n' || c == '\t' {
                ' '
            } else {
                c
            }
        })
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Foreign text of several lines: control characters but line ends and tabs are taken out.
pub fn clean_text(text: &str) -> String {
    text.chars().filter(|c| !is_harmful(*c)).collect()
}

/// Text cut to so many characters.
pub fn cut(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(characters.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

// Control characters, and those that turn the direction of text around.
fn is_harmful(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        let hostile = "ok\u{1b}]0;owned\u{7}\u{1b}[2J\r\nnext\u{202e}evil\u{9b}31m";
        for shown in [clean(hostile), clean_text(hostile)] {
            assert!(
                !shown.chars().any(|c| c != '\n' && is_harmful(c)),
                "{shown:?}"
            );
        }
        assert!(!clean(hostile).contains('\n'));
        assert!(clean_text(hostile).contains('\n'));
    }

    #[test]
    fn text_is_cut_by_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
