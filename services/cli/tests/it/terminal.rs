//! The command on a terminal: bars, questions, colours, and Ctrl-C while a question is open.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use contracts::id::{ClarificationId, DecisionId};
use contracts::orchestrator::workflow_event::Payload;
use contracts::orchestrator::{
    Clarification, ClarificationAnswered, ClarificationAsked, Decision, WorkflowState,
};
use contracts::task::{AnswerKind, DecisionRequest, Resolution, Verdict};
use nix::pty::{Winsize, openpty};
use testkit::loopback::LoopbackServer;
use tokio::process::Child;

use crate::command::agentic;
use crate::scripted::{Scripted, Story, resolved};

const PATIENCE: Duration = Duration::from_mins(1);

/// The command on a pseudo-terminal.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    _home: tempfile::TempDir,
}

impl Terminal {
    fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let size = Winsize {
            ws_row: 40,
            ws_col: 140,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None)?;
        let home = tempfile::tempdir()?;
        let mut command = agentic(home.path());
        command
            .args(arguments)
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .stdin(Stdio::from(pty.slave.try_clone()?))
            .stdout(Stdio::from(pty.slave.try_clone()?))
            .stderr(Stdio::from(pty.slave));
        let child = command.spawn()?;
        let keyboard = File::from(pty.master.try_clone()?);
        let mut master = File::from(pty.master);
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // Reading fails when the last process on the terminal has ended.
            while let Ok(count @ 1..) = master.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            keyboard,
            screen,
            seen: String::new(),
            _home: home,
        })
    }

    // Reads on until the text was shown; forgets what was before.
    async fn shows(&mut self, text: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return Ok(());
            }
            match self.screen.recv_timeout(Duration::from_millis(10)) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {
                    tokio::task::yield_now().await;
                }
                Err(_) => bail!("{text:?} was not shown: {:?}", self.seen),
            }
        }
    }

    fn types(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.keyboard, "{line}")?)
    }

    fn interrupt(&self) -> Result<()> {
        let pid = i32::try_from(self.child.id().context("it has ended")?)?;
        Ok(nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGINT,
        )?)
    }

    async fn end(mut self) -> Result<(i32, String)> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .context("the command hangs")??;
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_secs(5)) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        Ok((status.code().context("killed")?, self.seen))
    }
}

fn waiting() -> (Scripted, String) {
    let id = DecisionId::new().to_string();
    let scripted = Scripted::new(Story::waiting(&id));
    scripted.know().decisions.push(Decision {
        decision_id: id.clone(),
        request: Some(DecisionRequest::default()),
        ..Decision::default()
    });
    (scripted, id)
}

fn resolve_and_end(scripted: &Scripted, payload: Payload) {
    let rest = {
        let mut knowledge = scripted.know();
        let count = knowledge.events.len();
        let mut story = Story {
            workflow: knowledge.workflow.clone(),
            events: knowledge.events.clone(),
        };
        story.workflow.set_state(WorkflowState::Running);
        let story = story
            .then("integration", payload)
            .end(WorkflowState::Succeeded, Verdict::Passed);
        knowledge.workflow = story.workflow;
        story.events[count..].to_vec()
    };
    scripted.append(rest);
}

fn watch(server: &LoopbackServer) -> Result<Terminal> {
    Terminal::start(&["--orchestrator", &server.url(), "watch", "shop"], &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stage_has_a_bar_and_the_outcome_follows() -> Result<()> {
    let begun = Story::begin().running("validation");
    let scripted = Scripted::new(begun.clone());
    let server = scripted.serve().await?;
    let mut terminal = watch(&server)?;
    terminal.shows("validation").await?;
    terminal.shows("50 %").await?;
    terminal.shows("tests").await?;
    let rest = begun.clone().end(WorkflowState::Succeeded, Verdict::Passed);
    scripted.know().workflow = rest.workflow;
    scripted.append(rest.events[begun.events.len()..].iter().cloned());
    terminal.shows("SUCCEEDED").await?;
    let (code, rest) = terminal.end().await?;
    assert_eq!(code, 0, "{rest}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_can_be_turned_off() -> Result<()> {
    let server = Scripted::new(Story::success()).serve().await?;
    let url = server.url();
    for (variables, colours) in [(vec![], true), (vec![("NO_COLOR", "1")], false)] {
        let terminal = Terminal::start(&["--orchestrator", &url, "show", "shop"], &variables)?;
        let (code, shown) = terminal.end().await?;
        assert_eq!(code, 0, "{shown}");
        assert_eq!(shown.contains("\u{1b}[32m"), colours, "{shown:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_shown_asked_and_sent_bound_to_what_was_shown() -> Result<()> {
    let (scripted, id) = waiting();
    let server = scripted.serve().await?;
    let mut terminal = watch(&server)?;
    terminal.shows("Merge without proof?").await?;
    terminal.shows("Both sides changed `shop.py`.").await?;
    terminal.shows("or later: ").await?;
    terminal.types("perhaps")?;
    terminal
        .shows("answer with approve, reject, revise or later")
        .await?;
    terminal.types("approve looks fine")?;
    while scripted.know().resolutions.is_empty() {
        tokio::task::yield_now().await;
    }
    let sent = scripted.know().resolutions[0].clone();
    assert_eq!(sent.decision_id, id);
    assert_eq!(sent.resolution(), Resolution::Approve);
    assert_eq!(sent.subject_digest, "sha256:abc");
    assert_eq!(sent.rationale, "looks fine");
    assert_eq!(sent.actor, "tester");
    resolve_and_end(&scripted, resolved(&id, Resolution::Approve));
    let (code, shown) = terminal.end().await?;
    assert_eq!(code, 0, "{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_somebody_else_answered_is_taken_back() -> Result<()> {
    let (scripted, id) = waiting();
    let server = scripted.serve().await?;
    let mut terminal = watch(&server)?;
    terminal.shows("or later: ").await?;
    resolve_and_end(&scripted, resolved(&id, Resolution::Reject));
    terminal.shows("SUCCEEDED").await?;
    let (code, shown) = terminal.end().await?;
    assert_eq!(code, 0, "{shown}");
    assert!(scripted.know().resolutions.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clarification_is_asked_with_its_choices() -> Result<()> {
    let id = ClarificationId::new().to_string();
    let mut story = Story::begin();
    story
        .workflow
        .set_state(WorkflowState::AwaitingClarification);
    let story = story.then(
        "",
        Payload::ClarificationAsked(ClarificationAsked {
            clarification_id: id.clone(),
            question: "Which currency?".into(),
            ..ClarificationAsked::default()
        }),
    );
    let scripted = Scripted::new(story);
    let mut asked = Clarification {
        clarification_id: id.clone(),
        question: "Which currency?".into(),
        choices: vec!["EUR".into(), "USD".into()],
        ..Clarification::default()
    };
    asked.set_kind(AnswerKind::Choice);
    scripted.know().clarifications.push(asked);
    let server = scripted.serve().await?;
    let mut terminal = watch(&server)?;
    terminal.shows("Which currency?").await?;
    terminal.shows("EUR | USD").await?;
    terminal.types("EUR")?;
    while scripted.know().clarifications[0].answer.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(scripted.know().clarifications[0].answer, "EUR");
    let answered = ClarificationAnswered {
        clarification_id: id,
        answer: "EUR".into(),
    };
    resolve_and_end(&scripted, Payload::ClarificationAnswered(answered));
    let (code, shown) = terminal.end().await?;
    assert_eq!(code, 0, "{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_at_a_question_answers_nothing() -> Result<()> {
    let (scripted, _) = waiting();
    let server = scripted.serve().await?;
    let mut terminal = watch(&server)?;
    terminal.shows("or later: ").await?;
    terminal.interrupt()?;
    let (code, shown) = terminal.end().await?;
    assert_eq!(code, 130, "{shown}");
    assert!(shown.contains("agentic cancel"), "{shown}");
    assert!(scripted.know().resolutions.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_when_that_was_forbidden() -> Result<()> {
    let (scripted, id) = waiting();
    let server = scripted.serve().await?;
    let url = server.url();
    let terminal = Terminal::start(
        &["--orchestrator", &url, "watch", "shop", "--no-input"],
        &[],
    )?;
    let (code, shown) = terminal.end().await?;
    assert_eq!(code, 10, "{shown}");
    assert!(shown.contains(&format!("agentic approve {id}")), "{shown}");
    Ok(())
}
