//! Networks of agents that fail in one way each: a dead port, one direction lost, both stalled, on
//! the way of the heartbeats and on the way of the work.

use std::time::Duration;

use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use contracts::agent::service_name;
use contracts::client;
use contracts::orchestrator::AgentState;
use contracts::task::AgentType;
use testkit::fault_proxy::{Direction, Fault, FaultProxy};

use super::bed::{Bed, Victim, eventually, parts};
use crate::faults::figures::Figures;
use crate::faults::invariants::Begun;
use crate::faults::worker::{Manner, Worker};

// What engine.md promises.
const DETECTED_WITHIN: Duration = Duration::from_secs(30);
// A ping goes unanswered for 20 s, 30 s of attaching again, and a call that takes its 5 s.
const ELSEWHERE_WITHIN: Duration = Duration::from_secs(70);
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// The ways to an agent and back.
struct Ways {
    // Of its session, from the agent to the orchestrator.
    session: FaultProxy,
    // Of its work and the call-back, from the orchestrator to the agent.
    work: FaultProxy,
}

/// What is broken, and how.
#[derive(Clone, Copy)]
struct Breach {
    fault: &'static str,
    name: &'static str,
    way: fn(&Ways) -> &FaultProxy,
    how: fn(&FaultProxy),
    // What was on its way is lost, and not only late.
    loses: bool,
    seen_as: &'static [AgentState],
    class: &'static str,
}

const WORK: Breach = Breach {
    fault: "agent's serving port dead",
    name: "port",
    way: |ways| &ways.work,
    how: |proxy| proxy.refuse(true),
    loses: true,
    // Unfit: work was not answered before the next call-back was due.
    seen_as: &[AgentState::Unreachable, AgentState::Unfit],
    // Its work is not charged: it did nothing wrong.
    class: "refused",
};
const SESSION: Breach = Breach {
    way: |ways| &ways.session,
    seen_as: &[AgentState::Suspect, AgentState::Connecting],
    class: "lost",
    ..WORK
};

const BREACHES: [Breach; 7] = [
    WORK,
    Breach {
        fault: "calls to the agent lost, one way",
        name: "calls",
        how: |proxy| proxy.set(Direction::ToServer, Fault::Discard),
        ..WORK
    },
    Breach {
        fault: "answers of the agent lost, one way",
        name: "answers",
        how: |proxy| proxy.set(Direction::ToClient, Fault::Discard),
        ..WORK
    },
    Breach {
        fault: "calls to the agent stalled",
        name: "stalled-calls",
        how: |proxy| proxy.set_both(Fault::Stall),
        loses: false,
        ..WORK
    },
    Breach {
        fault: "beats of the agent lost, one way",
        name: "beats",
        how: |proxy| proxy.set(Direction::ToServer, Fault::Discard),
        ..SESSION
    },
    Breach {
        fault: "acknowledgements to the agent lost, one way",
        name: "acknowledgements",
        how: |proxy| proxy.set(Direction::ToClient, Fault::Discard),
        ..SESSION
    },
    Breach {
        fault: "session of the agent stalled",
        name: "stalled-session",
        how: |proxy| proxy.set_both(Fault::Stall),
        loses: false,
        ..SESSION
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn agents_whose_network_fails_in_any_way_are_found_out_and_come_back() {
    let bed = Bed::start(|_, _| {}).await;
    let starting = BREACHES.map(|breach| start(&bed, breach.name));
    let started = futures::future::join_all(starting).await;
    let (ways, workers): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    let workers: [Worker; 7] = workers.try_into().unwrap();
    let mut victims = bed.victims(workers, 1, Manner::Marks).await;
    let load = bed.load();

    let all = BREACHES.into_iter().zip(&ways).zip(&mut victims);
    let breaking = all.map(|((breach, ways), victim)| breaks(&bed, breach, ways, victim));
    let figures = futures::future::join_all(breaking).await;
    let (_workers, held) = parts(victims);
    bed.end(load, held, figures, Begun::PerLease).await;
}

async fn start(bed: &Bed, name: &str) -> (Ways, Worker) {
    let orchestrator = bed.replica.url().trim_start_matches("http://").parse();
    let ways = Ways {
        session: FaultProxy::start(orchestrator.unwrap()).await.unwrap(),
        work: FaultProxy::ahead().await.unwrap(),
    };
    let mut orders = bed.orders(name);
    orders.orchestrator = ways.session.url();
    orders.advertise = Some(ways.work.url());
    let worker = Worker::start(&orders, name).await;
    ways.work.lead_to(worker.address());
    (ways, worker)
}

async fn breaks(bed: &Bed, breach: Breach, ways: &Ways, victim: &mut Victim) -> Figures {
    let way = (breach.way)(ways);
    let url = victim.worker.url().to_owned();
    let since = Instant::now();
    (breach.how)(way);
    let found = bed
        .until(&url, |agent| agent.state() != AgentState::Ready)
        .await;
    let detected = since.elapsed();
    let fault = breach.fault;
    assert!(
        breach.seen_as.contains(&found.state()),
        "{fault}: {found:?}"
    );
    assert!(!found.reason.is_empty(), "{fault}: {found:?}");
    assert!(detected < DETECTED_WITHIN, "{fault}: {detected:?}");
    if breach.class == WORK.class {
        let found = bed
            .until(&url, |agent| agent.state() == AgentState::Unreachable)
            .await;
        assert!(found.reason.contains("cannot be called"), "{found:?}");
        assert!(since.elapsed() < DETECTED_WITHIN, "{fault}");
        // It was told, and says so itself.
        says(&victim.worker, ServingStatus::NotServing).await;
    }
    for again in victim.retried().await {
        assert_eq!(again.class, breach.class, "{fault}: {again:?}");
    }
    let recovered = victim.restarted().await - since;
    assert!(recovered < ELSEWHERE_WITHIN, "{fault}: {recovered:?}");

    way.set_both(Fault::None);
    if breach.loses {
        // No connection goes on where a part of it is missing.
        way.refuse(false);
    }
    let healed = Instant::now();
    let task_id = victim.held[0].task_id().to_owned();
    let stopped = bed.stopped(&task_id, &victim.instance_id).await;
    let late = stopped.saturating_duration_since(healed);
    assert!(late < STOPS_WITHIN, "{fault}: went on for {late:?}");
    bed.until(&url, |agent| agent.state() == AgentState::Ready)
        .await;
    says(&victim.worker, ServingStatus::Serving).await;
    let begun = bed.begun_by(&victim.instance_id);
    eventually(|| bed.begun_by(&victim.instance_id) > begun).await;
    Figures {
        fault,
        detected,
        recovered,
    }
}

// Waits until the agent's own health is so, past all proxies.
async fn says(worker: &Worker, status: ServingStatus) {
    let channel = client::channel(&format!("http://{}", worker.address()), None).unwrap();
    let request = HealthCheckRequest {
        service: service_name(AgentType::Validation).to_owned(),
    };
    let mut stream = HealthClient::new(channel)
        .watch(request)
        .await
        .unwrap()
        .into_inner();
    let said = async {
        while let Some(answer) = stream.message().await.unwrap() {
            if answer.status() == status {
                return;
            }
        }
        panic!("its health ended");
    };
    let waited = tokio::time::timeout(DETECTED_WITHIN, said).await;
    assert!(waited.is_ok(), "it does not say {status:?}");
}
