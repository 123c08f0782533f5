//! The actions that change or compare what is live.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use agent_runtime::{Assignment, Reporter, process::Finished};
use contracts::{
    deployment::{self as wire_type, DeploymentResult, DeploymentTask},
    error::Error,
    task::{Artifact, DecisionCategory, LogLevel, LogStream, Resolution, TaskContext},
};
use tokio::sync::mpsc;

use super::{
    DeploymentAgent, bounds,
    imaging::{labels, tag},
    site_error,
    subject::Subject,
};
use crate::{
    account::Account,
    checkout::CommitSource,
    engine::BUILT_LABEL,
    image::{ImageSource, Origin},
    journal::{Journal, NOTE_QUEUE, Note},
    planning::{Plan, Unplannable, plan},
    site::{Order, RollbackOrder, RollbackSubject, Source},
    spec::TargetKind,
    task::{Deploy, Task, Wanted},
    verdict::Verdict,
    wire,
};

/// Programs that were run while a release was made.
type Runs = Arc<Mutex<Vec<Finished>>>;

/// Paths of a difference (bound of the contract).
const MAX_CHANGED_FILES: usize = 1000;

impl DeploymentAgent {
    pub(super) async fn deploy(
        &self,
        assignment: &Assignment<DeploymentTask>,
        task: &Task,
        wish: &Deploy,
    ) -> Result<DeploymentResult, Error> {
        let Assignment {
            context, reporter, ..
        } = assignment;
        match word_of_a_person(context) {
            Some(Word::RollBack(reason)) => {
                let back = self.roll_back(assignment, task, &reason).await?;
                return Ok(given_up_on_a_persons_word(back));
            }
            Some(Word::Keep(reason)) => return self.keep(assignment, task, &reason).await,
            None => {}
        }
        reporter.progress(1.0, "repository", "opening the repository");
        let subject = Subject::open(&self.cache, context).await?;
        let commit = subject.commit.to_string();
        let planned = match plan(&subject.project, &task.environment, &commit, wish) {
            Ok(planned) => planned,
            Err(unplannable) => return Ok(nothing_to_deploy(&unplannable, &subject)),
        };
        let (source, runs) = self.source(task, &subject, &planned)?;
        let order = Order {
            task_key: assignment.task_id().to_owned(),
            attempt: u32::try_from(context.attempt).unwrap_or_default(),
            asked: planned.spec,
            strategy: planned.strategy,
            port: wish.port,
            ports_of_others: Vec::new(),
            source,
        };
        let (journal, notes) = watched();
        let bounds = bounds(assignment);
        let deploying = self
            .sites
            .deploy(&task.environment, &task.app, order, journal, &bounds);
        let (account, ()) = tokio::join!(deploying, tell(notes, reporter));
        let account = account.map_err(site_error)?;
        let runs = runs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut result = wire::deployed(&account, Some(subject.wire), &runs);
        self.hand_over_evidence(task, &account, reporter, &mut result)
            .await;
        Ok(result)
    }

    fn source(
        &self,
        task: &Task,
        subject: &Subject,
        planned: &Plan,
    ) -> Result<(Arc<dyn Source>, Runs), Error> {
        let code = CommitSource::new(
            subject.repository.clone(),
            subject.commit,
            Arc::clone(&subject.project),
        );
        let runs = code.runs();
        let source: Arc<dyn Source> = match (planned.spec.target, &planned.spec.image) {
            (TargetKind::Process, _) => Arc::new(code),
            (TargetKind::Docker, Some(image)) => Arc::new(ImageSource::new(
                self.engine()?,
                Origin::Name(image.clone()),
            )),
            (TargetKind::Docker, None) => {
                let commit = subject.commit.to_string();
                let tag = tag(&task.app, &commit);
                let mut labels = labels(&subject.repository, &commit);
                labels.insert(BUILT_LABEL.to_owned(), task.app.to_string());
                let origin = Origin::Commit { code, tag, labels };
                Arc::new(ImageSource::new(self.engine()?, origin))
            }
        };
        Ok((source, runs))
    }

    pub(super) async fn roll_back(
        &self,
        assignment: &Assignment<DeploymentTask>,
        task: &Task,
        reason: &str,
    ) -> Result<DeploymentResult, Error> {
        let Assignment {
            context, reporter, ..
        } = assignment;
        let order = RollbackOrder {
            task_key: format!("{}:rollback", assignment.task_id()),
            attempt: u32::try_from(context.attempt).unwrap_or_default(),
            reason: reason.to_owned(),
            subject: subject_of(context),
        };
        let (journal, notes) = watched();
        let bounds = bounds(assignment);
        let going_back = self
            .sites
            .rollback(&task.environment, &task.app, order, journal, &bounds);
        let (account, ()) = tokio::join!(going_back, tell(notes, reporter));
        let account = account.map_err(site_error)?;
        let mut result = wire::rolled_back(&account, context.repository.clone());
        self.hand_over_evidence(task, &account, reporter, &mut result)
            .await;
        Ok(result)
    }

    /// A person answers for a revision that did not prove itself.
    async fn keep(
        &self,
        assignment: &Assignment<DeploymentTask>,
        task: &Task,
        reason: &str,
    ) -> Result<DeploymentResult, Error> {
        let site = self.site(task).await?;
        let bounds = bounds(assignment);
        let kept = site.keep_held(reason, &bounds).await.map_err(site_error)?;
        let repository = assignment.context.repository.clone();
        Ok(match kept {
            Some((number, endpoint)) => {
                let summary = format!(
                    "revision {number} of {} keeps the traffic on a person's word: {reason}",
                    task.app
                );
                let mut result = wire::plain(Verdict::Passed, summary, repository);
                if let Some(outcome) = &mut result.outcome {
                    outcome.revision = number.to_string();
                    outcome.endpoint = endpoint;
                    outcome.project_is_app = Some(true);
                }
                result
            }
            None => wire::plain(
                Verdict::NotProven,
                format!("no revision of {} waits for a person's word", task.app),
                repository,
            ),
        })
    }

    pub(super) async fn verify(
        &self,
        assignment: &Assignment<DeploymentTask>,
        task: &Task,
        wanted: Wanted,
    ) -> Result<DeploymentResult, Error> {
        let subject = Subject::open(&self.cache, &assignment.context).await?;
        let wish = Deploy {
            target: wanted,
            strategy: wire_type::Strategy::Unspecified,
            canary_steps: Vec::new(),
            desired_count: 1,
            port: None,
            start_command: Vec::new(),
            image: String::new(),
        };
        let commit = subject.commit.to_string();
        let planned = match plan(&subject.project, &task.environment, &commit, &wish) {
            Ok(planned) => planned,
            Err(unplannable) => return Ok(nothing_to_deploy(&unplannable, &subject)),
        };
        let site = self.site(task).await?;
        let found = site.verify(&planned.spec, None).await;
        let missing: Vec<String> = found
            .iter()
            .filter(|found| found.verdict != Verdict::Passed)
            .map(|found| format!("{}: {}", found.name, found.reason))
            .collect();
        let verdict = crate::account::worst(&found);
        let summary = if missing.is_empty() {
            format!(
                "everything that a deployment of {} needs is there",
                task.app
            )
        } else {
            format!("missing: {}", missing.join("; "))
        };
        let mut result = wire::plain(verdict, summary, Some(subject.wire));
        result.prerequisites = found.iter().map(wire::prerequisite).collect();
        Ok(result)
    }

    pub(super) async fn diff(
        &self,
        assignment: &Assignment<DeploymentTask>,
        task: &Task,
    ) -> Result<DeploymentResult, Error> {
        let subject = Subject::open(&self.cache, &assignment.context).await?;
        let site = self.site(task).await?;
        let ledger = site
            .ledger()
            .await
            .map_err(|error| site_error(error.into()))?;
        let live = ledger
            .live()
            .map(|live| live.commit.clone())
            .unwrap_or_default();
        let base = match live.as_str() {
            "" => None,
            commit => Some(subject.repository.resolve(commit).await?),
        };
        let changed = subject
            .repository
            .changed_paths(base, subject.commit)
            .await?;
        let summary = match (live.as_str(), changed.len()) {
            ("", count) => format!("nothing is live; all {count} files would be new"),
            (_, 0) => "what is live would not change".to_owned(),
            (_, count) => format!("{count} files would change"),
        };
        let mut result = wire::plain(Verdict::Passed, summary, Some(subject.wire));
        result.diff = Some(wire_type::DiffReport {
            live_commit: live,
            new_commit: subject.commit.to_string(),
            changed_files: changed
                .iter()
                .take(MAX_CHANGED_FILES)
                .map(|changed| changed.path.to_string_lossy().into_owned())
                .collect(),
        });
        Ok(result)
    }

    /// Evidence is kept on this machine already; a store that is away costs only the copy.
    async fn hand_over_evidence(
        &self,
        task: &Task,
        account: &Account,
        reporter: &Reporter,
        result: &mut DeploymentResult,
    ) {
        let Ok(site) = self.sites.site(&task.environment, &task.app).await else {
            return;
        };
        let mut artifacts: Vec<Artifact> = Vec::new();
        for file in &account.forensics {
            let path = site.folder().join(file);
            let name = Path::new(file)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            let is_json = path
                .extension()
                .is_some_and(|extension| extension == "json");
            let media_type = if is_json {
                "application/json"
            } else {
                "text/plain; charset=utf-8"
            };
            let name = format!("forensics/{name}");
            match reporter.artifact_file(&name, media_type, &path).await {
                Ok(artifact) => artifacts.push(artifact),
                Err(error) => {
                    let text = format!("evidence {file} was not handed over: {error}");
                    reporter.log(LogLevel::Warn, text);
                }
            }
        }
        if let Some(outcome) = &mut result.outcome {
            outcome.artifacts = artifacts;
        }
    }
}

/// What the stage that is undone had deployed; a rollback of its own takes back what is live.
fn subject_of(context: &TaskContext) -> RollbackSubject {
    let own = context
        .inputs
        .iter()
        .filter(|input| input.stage == context.stage)
        .find_map(|input| input.deployment()?.deployment);
    match own {
        None => RollbackSubject::Live,
        Some(done) if done.already_live => RollbackSubject::Nothing,
        Some(done) => {
            u64::try_from(done.revision).map_or(RollbackSubject::Live, RollbackSubject::Revision)
        }
    }
}

/// What a person said about a sick revision after a migration that cannot be undone.
enum Word {
    RollBack(String),
    Keep(String),
}

fn word_of_a_person(context: &TaskContext) -> Option<Word> {
    let decision = context.decisions.iter().rev().find(|decision| {
        decision.category() == DecisionCategory::DataMigration
            && decision.resolution() == Resolution::Approve
    })?;
    let reason = match decision.rationale.trim() {
        "" => format!("decided by {}", decision.actor),
        rationale => rationale.to_owned(),
    };
    match decision.choice.as_str() {
        wire::CHOICE_ROLL_BACK => Some(Word::RollBack(reason)),
        wire::CHOICE_KEEP => Some(Word::Keep(reason)),
        _ => None,
    }
}

/// A deployment that a person took back is no success, however well going back went.
fn given_up_on_a_persons_word(mut back: DeploymentResult) -> DeploymentResult {
    if let Some(outcome) = &mut back.outcome
        && outcome.verdict() == contracts::task::Verdict::Passed
    {
        outcome.verdict = contracts::task::Verdict::Failed.into();
        outcome.summary = format!("taken back on a person's word: {}", outcome.summary);
    }
    back
}

fn nothing_to_deploy(unplannable: &Unplannable, subject: &Subject) -> DeploymentResult {
    let verdict = match unplannable {
        Unplannable::Library | Unplannable::NoStart | Unplannable::Ecs(_) => Verdict::NotProven,
        Unplannable::Foreign(_) | Unplannable::ImageAsProcess | Unplannable::NoDockerHealth => {
            Verdict::Failed
        }
    };
    let repository = Some(subject.wire.clone());
    let mut result = wire::plain(verdict, unplannable.to_string(), repository);
    if let Some(outcome) = &mut result.outcome {
        outcome.project_is_app = Some(*unplannable != Unplannable::Library);
    }
    result
}

pub(super) fn watched() -> (Journal, mpsc::Receiver<Note>) {
    let (sender, notes) = mpsc::channel(NOTE_QUEUE);
    (Journal::new(Some(sender)), notes)
}

/// Passes on what the journal says until it is closed.
pub(super) async fn tell(mut notes: mpsc::Receiver<Note>, reporter: &Reporter) {
    while let Some(note) = notes.recv().await {
        match note {
            Note::Event(message) => reporter.log(LogLevel::Info, message),
            Note::Begun { name, percent } => reporter.progress(percent, "deployment", name),
            Note::Ended(step) => {
                let level = match step.verdict {
                    Verdict::Passed => LogLevel::Info,
                    Verdict::Failed | Verdict::NotProven => LogLevel::Warn,
                };
                reporter.log(level, format!("{}: {}", step.name, step.reason));
            }
            Note::Output {
                is_error: true,
                text,
            } => reporter.output(LogStream::Stderr, &text),
            Note::Output {
                is_error: false,
                text,
            } => reporter.output(LogStream::Stdout, &text),
        }
    }
}
