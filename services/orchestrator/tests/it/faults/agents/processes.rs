//! Agents that die, stand still, leave, or have the wrong time.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use contracts::client;
use contracts::orchestrator::agent_registry_service_client::AgentRegistryServiceClient;
use contracts::orchestrator::{Agent, AgentState, DrainAgentRequest};

use super::bed::{Bed, Victim, eventually, parts};
use crate::faults::figures::Figures;
use crate::faults::invariants::Begun;
use crate::faults::worker::{Manner, Worker};

// What engine.md promises, and what the backoff may add.
const LOST_WITHIN: Duration = Duration::from_secs(30);
const BACKOFF: Duration = Duration::from_secs(5);
// Beats come every 5 s: a silence is noticed at three of them.
const SUSPECT_WITHIN: Duration = Duration::from_secs(17);
const STOPS_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_die_freeze_or_leave_lose_nothing_and_are_charged_as_what_they_are() {
    let bed = Bed::start(|_, _| {}).await;
    let workers = ["killed", "frozen", "drained", "stopped"].map(|name| {
        let orders = bed.orders(name);
        async move { Worker::start(&orders, name).await }
    });
    let workers = futures::future::join_all(workers).await;
    let workers: [Worker; 4] = workers.try_into().unwrap();
    let victims = bed.victims(workers, 2, Manner::Marks).await;
    let [mut killed, mut frozen, mut drained, mut stopped] = victims;
    let load = bed.load();

    let figures = tokio::join!(
        is_killed(&bed, &mut killed),
        is_frozen_and_goes_on(&bed, &mut frozen),
        is_drained(&bed, &mut drained),
        is_stopped(&bed, &mut stopped),
    );
    let late = Late::of(&frozen);
    let (_workers, held) = parts([killed, frozen, drained, stopped]);
    let figures = vec![figures.0, figures.1, figures.2, figures.3];
    bed.end(load, held, figures, Begun::PerAttempt).await;
    late.assert_refused(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_whose_clock_is_an_hour_off_are_shown_as_such_and_work_like_the_others() {
    testkit::require!(Faketime);
    let bed = Bed::start(|_, _| {}).await;
    let (ahead, behind) = (bed.orders("ahead"), bed.orders("behind"));
    let (ahead, behind) = tokio::join!(
        Worker::start_at("+1h", &ahead, "ahead"),
        Worker::start_at("-1h", &behind, "behind"),
    );
    let victims = bed.victims([ahead, behind], 2, Manner::Marks).await;
    let [mut ahead, mut behind] = victims;
    let load = bed.load();

    let figures = tokio::join!(
        is_an_hour_off(&bed, &mut ahead, 3600),
        is_an_hour_off(&bed, &mut behind, -3600),
    );
    let (_workers, held) = parts([ahead, behind]);
    let figures = vec![figures.0, figures.1];
    let journeys = bed.end(load, held, figures, Begun::PerAttempt).await;
    for journey in journeys {
        assert!(journey.retries.is_empty(), "{journey:?}");
    }
}

async fn is_killed(bed: &Bed, victim: &mut Victim) -> Figures {
    let since = Instant::now();
    victim.worker.kill().await;
    let url = victim.worker.url().to_owned();
    let retried = victim.retried().await;
    for again in &retried {
        assert_eq!(again.class, "lost", "{again:?}");
    }
    let detected = retried.iter().map(|again| again.at).max().unwrap() - since;
    assert!(detected < LOST_WITHIN, "{detected:?}");
    let recovered = victim.restarted().await - since;
    assert!(recovered < LOST_WITHIN + BACKOFF, "{recovered:?}");
    let lost = bed.until(&url, is(AgentState::Lost)).await;
    assert!(lost.reason.contains("its tasks go to others"), "{lost:?}");
    Figures {
        fault: "agent killed",
        detected,
        recovered,
    }
}

async fn is_frozen_and_goes_on(bed: &Bed, victim: &mut Victim) -> Figures {
    let since = Instant::now();
    victim.worker.freeze();
    let url = victim.worker.url().to_owned();
    let suspect = bed
        .until(&url, |agent| agent.state() != AgentState::Ready)
        .await;
    assert!(!suspect.reason.is_empty(), "{suspect:?}");
    let detected = since.elapsed();
    assert!(detected < SUSPECT_WITHIN, "{detected:?}");
    for again in victim.retried().await {
        assert_eq!(again.class, "lost", "{again:?}");
    }
    let recovered = victim.restarted().await - since;
    assert!(recovered < LOST_WITHIN + 2 * BACKOFF, "{recovered:?}");

    // The one has its result at once when it goes on, too late; the other one is at work.
    let tasks = victim.held.iter().map(|held| held.task_id().to_owned());
    let tasks: Vec<_> = tasks.collect();
    bed.open(&tasks[0]);
    let thawed = Instant::now();
    victim.worker.thaw();
    let stopped = bed.stopped(&tasks[1], &victim.instance_id).await;
    assert!(stopped - thawed < STOPS_WITHIN, "{:?}", stopped - thawed);
    let begun = bed.begun_by(&victim.instance_id);
    bed.until(&url, is(AgentState::Ready)).await;
    // It is of use again.
    eventually(|| bed.begun_by(&victim.instance_id) > begun).await;
    Figures {
        fault: "agent frozen, then continued",
        detected,
        recovered,
    }
}

async fn is_drained(bed: &Bed, victim: &mut Victim) -> Figures {
    let since = Instant::now();
    let channel = client::channel(bed.replica.url(), None).unwrap();
    let request = DrainAgentRequest {
        instance_id: victim.instance_id.clone(),
        ..DrainAgentRequest::default()
    };
    AgentRegistryServiceClient::new(channel)
        .drain_agent(request)
        .await
        .unwrap();
    let url = victim.worker.url().to_owned();
    bed.until(&url, is(AgentState::Draining)).await;
    let detected = since.elapsed();
    // What it has, it ends; then it may go.
    for held in &mut victim.held {
        bed.open(held.task_id());
        held.finish().await;
        assert!(held.journey.retries.is_empty(), "{:?}", held.journey);
    }
    let idle = |agent: &Agent| agent.free_slot_count == agent.slot_count;
    bed.until(&url, idle).await;
    let recovered = since.elapsed();
    let begun = bed.begun_by(&victim.instance_id);
    victim.worker.stop().await;
    bed.until(&url, is(AgentState::Gone)).await;
    assert_eq!(bed.begun_by(&victim.instance_id), begun, "it got new work");
    Figures {
        fault: "agent drained, then stopped",
        detected,
        recovered,
    }
}

async fn is_stopped(bed: &Bed, victim: &mut Victim) -> Figures {
    let since = Instant::now();
    victim.worker.stop().await;
    for again in victim.retried().await {
        assert_eq!(again.class, "refused", "it is not charged: {again:?}");
    }
    let detected = since.elapsed();
    let recovered = victim.restarted().await - since;
    let gone = bed.until(victim.worker.url(), is(AgentState::Gone)).await;
    assert_eq!(gone.reason, "it left in order");
    Figures {
        fault: "agent stopped in the middle of work",
        detected,
        recovered,
    }
}

async fn is_an_hour_off(bed: &Bed, victim: &mut Victim, seconds: i64) -> Figures {
    let since = Instant::now();
    let off = |agent: &Agent| agent.reason.contains("its clock is");
    let agent = bed.until(victim.worker.url(), off).await;
    let offset = agent.clock_offset.unwrap().seconds;
    assert!((offset - seconds).abs() < 10, "{agent:?}");
    assert_eq!(agent.state(), AgentState::Ready);
    let detected = since.elapsed();
    for held in &mut victim.held {
        bed.open(held.task_id());
        held.finish().await;
        assert!(held.journey.retries.is_empty(), "{:?}", held.journey);
    }
    Figures {
        fault: if seconds > 0 {
            "agent's clock an hour ahead"
        } else {
            "agent's clock an hour behind"
        },
        detected,
        recovered: Duration::ZERO,
    }
}

fn is(state: AgentState) -> impl Fn(&Agent) -> bool {
    move |agent| agent.state() == state
}

// Tasks whose results came too late, and from whom.
struct Late {
    tasks: Vec<Uuid>,
    instance_id: Uuid,
}

impl Late {
    fn of(victim: &Victim) -> Self {
        let tasks = victim.held.iter().map(|held| held.task_id().parse());
        Self {
            tasks: tasks.map(Result::unwrap).collect(),
            instance_id: victim.instance_id.parse().unwrap(),
        }
    }

    async fn assert_refused(&self, bed: &Bed) {
        let connection = bed.database.connect().await.unwrap();
        let rows = connection
            .query(
                "SELECT instance_id = $2, ending FROM attempts WHERE task_id = ANY($1)",
                &[&self.tasks, &self.instance_id],
            )
            .await
            .unwrap();
        for row in rows {
            let (late, ending): (bool, String) = (row.get(0), row.get(1));
            assert_eq!(ending, if late { "lost" } else { "completed" });
        }
    }
}
