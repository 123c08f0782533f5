//! Agents that take work and do not do it: one that says nothing, one that does nothing, one that
//! does not answer, and one that says everything twice and in the wrong order.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use contracts::agent::AgentMessage;
use contracts::orchestrator::{Agent, AgentState};
use contracts::task::{AgentType, Outcome, Progress, TaskEvent, Verdict, task_event};
use testkit::scripted_agent::{Gate, ScriptedAgent, Session, Step, result};

use super::bed::{Bed, Held, eventually};
use crate::faults::figures::Figures;
use crate::faults::fleet;
use crate::faults::invariants::Begun;
use crate::faults::worker::{Manner, Worker};

const TYPE: AgentType = AgentType::Validation;
// Silence is noticed after 15 s, and asked about for 30 s.
const SILENT_WITHIN: Duration = Duration::from_mins(1);
// Asked twice, 5 s each.
const MUTE_WITHIN: Duration = Duration::from_secs(15);
// What the held stage allows, and the grace of a stop that is not heeded.
const STUCK_WITHIN: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_take_work_and_do_not_do_it_cost_bounded_time_and_are_shown_as_what_they_are() {
    let bed = Bed::start(|_, _| {}).await;
    let orders = bed.orders("stuck");
    let worker = Worker::start(&orders, "stuck").await;
    let [mut stuck] = bed.victims([worker], 1, Manner::Stuck).await;
    let load = bed.load();
    let never = Gate::new();
    let (wait, accept) = (Step::Wait(never.clone()), Step::Accept);
    let silent = vec![accept, wait.clone(), Step::Vanish];
    let mute = vec![wait, Step::Vanish];
    let (silent, mute, garbled) = tokio::join!(
        liar(&bed, silent),
        liar(&bed, mute),
        liar(&bed, garbled_steps()),
    );

    let (stuck_figures, silent_figures, mute_figures, ()) = tokio::join!(
        is_stuck(&bed, &mut stuck.held, stuck.worker.url()),
        is_found_out(
            &bed,
            &silent,
            "agent accepts and never reports",
            SILENT_WITHIN
        ),
        is_found_out(&bed, &mute, "agent never answers", MUTE_WITHIN),
        eventually(|| garbled.0.calls().len() >= 3),
    );
    let figures = vec![stuck_figures, silent_figures, mute_figures];
    let liars = [&silent.0, &mute.0, &garbled.0];
    let runs = || {
        let calls = liars.iter().flat_map(|agent| agent.calls());
        calls.map(fleet::run).collect()
    };
    bed.end_with(load, stuck.held, figures, Begun::PerLease, runs)
        .await;
    // What says nothing is charged as lost, what does not answer not at all.
    let [silent, mute, garbled] = liars.map(|agent| agent.instance_id().0);
    assert_eq!(endings(&bed, silent).await, ["lost"]);
    assert_eq!(endings(&bed, mute).await, ["handed_back"]);
    assert_eq!(endings(&bed, garbled).await, ["completed"]);
    drop(stuck.worker);
}

// How attempts of an agent ended.
async fn endings(bed: &Bed, instance_id: Uuid) -> Vec<String> {
    let connection = bed.database.connect().await.unwrap();
    let endings = "SELECT DISTINCT ending FROM attempts WHERE instance_id = $1";
    let rows = connection.query(endings, &[&instance_id]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn liar(bed: &Bed, steps: Vec<Step>) -> (ScriptedAgent, Session) {
    let agent = ScriptedAgent::start(TYPE, move |_, _| steps.clone())
        .await
        .unwrap();
    // As roomy as the others, or it would get nothing.
    let slots = i32::try_from(super::bed::SLOTS).unwrap();
    let session = agent.connect(bed.replica.url(), slots).await.unwrap();
    (agent, session)
}

// Says what it has to say late, early, twice; and has two results.
fn garbled_steps() -> Vec<Step> {
    let progress = |sequence| {
        let payload = task_event::Payload::Progress(Progress {
            percent: f64::from(sequence),
            ..Progress::default()
        });
        Step::Say(Box::new(AgentMessage::Event(TaskEvent {
            sequence: i64::from(sequence),
            payload: Some(payload),
            ..TaskEvent::default()
        })))
    };
    let end = |verdict: Verdict| {
        let outcome = Outcome {
            verdict: verdict.into(),
            summary: verdict.as_str_name().to_owned(),
            ..Outcome::default()
        };
        Step::Say(Box::new(AgentMessage::Result(Box::new(result(
            TYPE, outcome,
        )))))
    };
    vec![
        Step::Accept,
        progress(5),
        progress(3),
        progress(5),
        progress(2),
        end(Verdict::Passed),
        end(Verdict::Passed),
        end(Verdict::Failed),
        progress(6),
        Step::Vanish,
    ]
}

async fn is_stuck(bed: &Bed, held: &mut [Held], url: &str) -> Figures {
    let since = Instant::now();
    let again = held[0].retried().await;
    let detected = since.elapsed();
    assert!(detected < STUCK_WITHIN, "{detected:?}");
    assert_eq!(again.class, "timed_out", "{again:?}");
    assert!(again.reason.contains("did nothing for"), "{again:?}");
    let shown = |agent: &Agent| agent.reason.contains("did nothing for");
    bed.until(url, shown).await;
    let recovered = held[0].restarted(1).await.at - since;
    Figures {
        fault: "agent does nothing",
        detected,
        recovered,
    }
}

async fn is_found_out(
    bed: &Bed,
    (agent, session): &(ScriptedAgent, Session),
    fault: &'static str,
    within: Duration,
) -> Figures {
    session.reachable().await.unwrap();
    agent.called(1).await;
    let since = Instant::now();
    let url = agent.url();
    let unfit = bed
        .until(&url, |agent| agent.state() == AgentState::Unfit)
        .await;
    let detected = since.elapsed();
    assert!(detected < within, "{fault}: {detected:?}");
    assert!(unfit.reason.contains("no work for"), "{unfit:?}");
    let idle = |agent: &Agent| agent.free_slot_count == agent.slot_count;
    bed.until(&url, idle).await;
    Figures {
        fault,
        detected,
        recovered: since.elapsed(),
    }
}
