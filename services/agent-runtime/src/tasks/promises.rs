//! What the stream of a task promises (contract.md), promise by promise, on an agent that does what
//! a test says.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::orchestrator::Capability;
use contracts::scaffold::{ScaffoldResult, ScaffoldTask};
use contracts::task::{AgentType, LogLevel, TaskContext, task_event};

use super::stream::Message;
use super::{TaskSettings, Tasks};
use crate::agent::{Agent, Assignment};
use crate::artifacts::ArtifactSink;

// The contract's are a minute and ten.
const GRACE: Duration = Duration::from_secs(2);
const KEPT: Duration = Duration::from_secs(2);

// Says so many lines, waits for the gate, and ends.
#[derive(Debug)]
struct Scripted {
    lines: usize,
    gate: watch::Receiver<bool>,
    // Task ids whose work was begun.
    begun: mpsc::Sender<String>,
    // Task ids whose work was stopped.
    stopped: mpsc::Sender<String>,
}

impl Agent for Scripted {
    type Task = ScaffoldTask;
    type Result = ScaffoldResult;
    const TYPE: AgentType = AgentType::Scaffold;

    async fn capabilities(&self) -> Vec<Capability> {
        Vec::new()
    }

    async fn run(&self, work: Assignment<ScaffoldTask>) -> Result<ScaffoldResult, Error> {
        self.begun.try_send(work.task_id().to_owned()).unwrap();
        for number in 0..self.lines {
            work.reporter.log(LogLevel::Info, format!("line {number}"));
        }
        let mut gate = self.gate.clone();
        tokio::select! {
            biased;
            () = work.cancel.cancelled() => {
                self.stopped.try_send(work.task_id().to_owned()).unwrap();
                Err(Error::new(ErrorReason::Cancelled, "told to stop"))
            }
            opened = gate.wait_for(|open| *open) => {
                opened.unwrap();
                Ok(ScaffoldResult::default())
            }
        }
    }
}

struct Bed {
    tasks: Tasks<Scripted>,
    tracker: TaskTracker,
    gate: watch::Sender<bool>,
    begun: mpsc::Receiver<String>,
    stopped: mpsc::Receiver<String>,
    _folder: TempDir,
}

type Stream = mpsc::Receiver<Result<Message<ScaffoldResult>, Status>>;

impl Bed {
    fn new(lines: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (gate, waiting) = watch::channel(false);
        let (begins, begun) = mpsc::channel(16);
        let (stops, stopped) = mpsc::channel(16);
        let agent = Scripted {
            lines,
            gate: waiting,
            begun: begins,
            stopped: stops,
        };
        let settings = TaskSettings {
            slot_count: 2,
            folder: folder.path().join("tasks"),
            orphan_grace: GRACE,
            result_kept: KEPT,
        };
        let sink = ArtifactSink::Folder(Arc::new(folder.path().join("artifacts")));
        let tracker = TaskTracker::new();
        let tasks = Tasks::new(
            Arc::new(agent),
            "instance".to_owned(),
            settings,
            sink,
            tracker.clone(),
            CancellationToken::new(),
        );
        Self {
            tasks,
            tracker,
            gate,
            begun,
            stopped,
            _folder: folder,
        }
    }

    async fn execute(&self, context: TaskContext) -> Result<Stream, ErrorReason> {
        let attached = self.tasks.execute(context, ScaffoldTask::default()).await;
        attached
            .map(|attached| attached.pump(&self.tracker, |message| message))
            .map_err(|error| error.reason)
    }

    fn open(&self) {
        self.gate.send_replace(true);
    }

    // How often work was begun so far.
    fn begun_count(&mut self) -> usize {
        std::iter::from_fn(|| self.begun.try_recv().ok()).count()
    }
}

fn lease(epoch: i64) -> TaskContext {
    TaskContext {
        task_id: "task".to_owned(),
        lease_epoch: epoch,
        attempt: 1,
        ..TaskContext::default()
    }
}

fn only_attaching(epoch: i64, after: i64) -> TaskContext {
    TaskContext {
        reattach_only: true,
        resume_after_sequence: after,
        ..lease(epoch)
    }
}

// The sequences of all events; then the result, or why there is none.
async fn rest(mut stream: Stream) -> (Vec<i64>, Result<ScaffoldResult, ErrorReason>) {
    let mut sequences = Vec::new();
    while let Some(message) = stream.recv().await {
        match message {
            Ok(Message::Event(event)) => sequences.push(event.sequence),
            Ok(Message::Result(result)) => {
                assert!(stream.recv().await.is_none(), "the result is not the last");
                return (sequences, Ok(result));
            }
            Err(status) => {
                assert!(stream.recv().await.is_none(), "the error is not the last");
                let error = Error::from_status(&status).unwrap();
                return (sequences, Err(error.reason));
            }
        }
    }
    panic!("a stream ended without a result, after {sequences:?}");
}

// All events from one on, so many lines among them: beats may come between, and the log is kept as an
// artifact in the end, which is an event too.
fn assert_complete(sequences: &[i64], first: i64, lines: usize) {
    let all: Vec<_> = (first..).take(sequences.len()).collect();
    assert_eq!(sequences, all);
    assert!(sequences.len() > lines, "{sequences:?}");
}

#[tokio::test]
async fn a_task_is_acknowledged_first_and_its_result_is_the_last_message() {
    let bed = Bed::new(3);
    let mut stream = bed.execute(lease(1)).await.unwrap();
    let first = stream.recv().await.unwrap().unwrap();
    let Message::Event(first) = first else {
        panic!("{first:?}");
    };
    assert!(matches!(
        first.payload,
        Some(task_event::Payload::Accepted(_))
    ));
    bed.open();
    let (sequences, result) = rest(stream).await;
    assert_eq!(first.sequence, 1);
    assert_complete(&sequences, 2, 3);
    result.unwrap();
}

#[tokio::test]
async fn without_a_free_slot_nothing_is_begun() {
    let mut bed = Bed::new(0);
    let other = |name: &str| TaskContext {
        task_id: name.to_owned(),
        ..lease(1)
    };
    let _first = bed.execute(other("a")).await.unwrap();
    let _second = bed.execute(other("b")).await.unwrap();
    assert_eq!(
        bed.execute(other("c")).await.unwrap_err(),
        ErrorReason::NoFreeSlot
    );
    bed.tasks.drain();
    assert_eq!(
        bed.execute(other("d")).await.unwrap_err(),
        ErrorReason::Draining
    );
    let mut begun = [
        bed.begun.recv().await.unwrap(),
        bed.begun.recv().await.unwrap(),
    ];
    begun.sort();
    assert_eq!(begun, ["a", "b"]);
    assert_eq!(bed.begun_count(), 0);
}

#[tokio::test]
async fn there_is_a_message_every_five_seconds_while_the_work_is_silent() {
    let bed = Bed::new(0);
    let mut stream = bed.execute(lease(1)).await.unwrap();
    stream.recv().await.unwrap().unwrap();
    let mut idle = Vec::new();
    for _ in 0..3 {
        let message = tokio::time::timeout(Duration::from_secs(6), stream.recv()).await;
        let Ok(Some(Ok(Message::Event(event)))) = message else {
            panic!("{message:?}");
        };
        let Some(task_event::Payload::Beat(beat)) = event.payload else {
            panic!("{event:?}");
        };
        // The work's own time stands still, so that stuck work looks stuck.
        let (now, last) = (event.time.unwrap(), beat.last_activity_time.unwrap());
        idle.push(now.seconds - last.seconds);
    }
    assert!(idle.is_sorted() && idle[2] >= idle[0] + 8, "{idle:?}");
}

#[tokio::test]
async fn a_call_without_a_lease_owns_its_task_which_ends_with_it() {
    let mut bed = Bed::new(0);
    let stream = bed
        .execute(TaskContext {
            task_id: "own".to_owned(),
            ..TaskContext::default()
        })
        .await
        .unwrap();
    bed.begun.recv().await.unwrap();
    drop(stream);
    assert_eq!(bed.stopped.recv().await.unwrap(), "own");
}

#[tokio::test]
async fn a_leased_task_runs_on_for_the_orphan_grace_without_a_reader() {
    let mut bed = Bed::new(0);
    let stream = bed.execute(lease(1)).await.unwrap();
    bed.begun.recv().await.unwrap();
    drop(stream);
    tokio::time::sleep(GRACE / 2).await;
    // Somebody is there again: the grace begins anew when he goes.
    let stream = bed.execute(only_attaching(1, 0)).await.unwrap();
    tokio::time::sleep(GRACE).await;
    assert!(bed.stopped.try_recv().is_err());
    let since = Instant::now();
    drop(stream);
    assert_eq!(bed.stopped.recv().await.unwrap(), "task");
    assert!(since.elapsed() >= GRACE, "{:?}", since.elapsed());
}

#[tokio::test]
async fn the_same_call_attaches_again_and_begins_nothing() {
    let mut bed = Bed::new(5);
    let first = bed.execute(lease(1)).await.unwrap();
    bed.begun.recv().await.unwrap();
    let second = bed
        .execute(TaskContext {
            resume_after_sequence: 4,
            ..lease(1)
        })
        .await
        .unwrap();
    bed.open();
    let (sequences, result) = rest(second).await;
    assert_complete(&sequences, 5, 2);
    result.unwrap();
    let (_, ended) = rest(first).await;
    assert_eq!(ended.unwrap_err(), ErrorReason::TakenOver);
    assert_eq!(bed.begun_count(), 0);
}

#[tokio::test]
async fn a_newer_lease_takes_the_task_over_and_an_older_one_is_refused() {
    let mut bed = Bed::new(0);
    let old = bed.execute(lease(1)).await.unwrap();
    let new = bed.execute(only_attaching(2, 0)).await.unwrap();
    let (_, ended) = rest(old).await;
    assert_eq!(ended.unwrap_err(), ErrorReason::TakenOver);
    for late in [lease(1), only_attaching(1, 0)] {
        assert_eq!(
            bed.execute(late).await.unwrap_err(),
            ErrorReason::StaleLease
        );
    }
    let refused = bed.tasks.cancel("task", 1, Duration::ZERO).await;
    assert_eq!(refused.unwrap_err().reason, ErrorReason::StaleLease);
    bed.open();
    rest(new).await.1.unwrap();
    assert_eq!(bed.begun_count(), 1);
}

#[tokio::test]
async fn a_call_that_was_overtaken_on_its_way_begins_nothing() {
    let mut bed = Bed::new(0);
    // Whoever took the lease over asked first, and was told that nothing runs here.
    assert_eq!(
        bed.execute(only_attaching(2, 0)).await.unwrap_err(),
        ErrorReason::TaskNotFound
    );
    for late in [lease(1), only_attaching(1, 0), lease(2)] {
        assert_eq!(
            bed.execute(late).await.unwrap_err(),
            ErrorReason::StaleLease
        );
    }
    assert_eq!(bed.begun_count(), 0);
    // The task may come back with a lease of its own.
    let stream = bed.execute(lease(3)).await.unwrap();
    bed.open();
    rest(stream).await.1.unwrap();
    assert_eq!(bed.begun_count(), 1);
}

#[tokio::test]
async fn a_result_is_kept_until_it_is_released_or_its_time_is_over() {
    let mut bed = Bed::new(1);
    bed.open();
    rest(bed.execute(lease(1)).await.unwrap()).await.1.unwrap();
    bed.tasks.release(&["task".to_owned()]);
    assert_eq!(
        bed.execute(lease(1)).await.unwrap_err(),
        ErrorReason::StaleLease
    );

    let next = TaskContext {
        task_id: "next".to_owned(),
        ..lease(1)
    };
    let stream = bed.execute(next.clone()).await.unwrap();
    rest(stream).await.1.unwrap();
    let (sequences, result) = rest(bed.execute(next.clone()).await.unwrap()).await;
    assert_eq!(sequences.first(), Some(&1));
    result.unwrap();
    let gone = TaskContext {
        reattach_only: true,
        ..next
    };
    while let Ok(stream) = bed.execute(gone.clone()).await {
        rest(stream).await.1.unwrap();
        tokio::time::sleep(KEPT / 10).await;
    }
    assert_eq!(
        bed.execute(gone).await.unwrap_err(),
        ErrorReason::TaskNotFound
    );
    assert_eq!(bed.begun_count(), 2);
}

#[tokio::test]
async fn a_reader_that_stops_reading_loses_no_event() {
    let lines = 1_000;
    let bed = Bed::new(lines);
    let mut slow = bed.execute(lease(1)).await.unwrap();
    slow.recv().await.unwrap().unwrap();
    bed.open();
    // Long enough for every line to be said.
    bed.tasks.idle().await;
    let (sequences, result) = rest(slow).await;
    result.unwrap();
    assert_complete(&sequences, 2, lines);
}

#[tokio::test]
async fn cancelling_twice_answers_when_the_work_has_stopped() {
    let mut bed = Bed::new(0);
    let stream = bed.execute(lease(1)).await.unwrap();
    bed.begun.recv().await.unwrap();
    let grace = Duration::from_secs(5);
    assert!(bed.tasks.cancel("task", 1, grace).await.unwrap());
    assert_eq!(bed.stopped.recv().await.unwrap(), "task");
    assert!(bed.tasks.cancel("task", 1, grace).await.unwrap());
    assert_eq!(rest(stream).await.1.unwrap_err(), ErrorReason::Cancelled);
    let unknown = bed.tasks.cancel("another", 1, grace).await;
    assert_eq!(unknown.unwrap_err().reason, ErrorReason::TaskNotFound);
}
