//! What the orchestrator measures: counters from what was committed, gauges from what is. A label has few
//! values: never an id.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
use opentelemetry::{KeyValue, global};
use tokio_util::sync::CancellationToken;

use contracts::agent::{AGENT_TYPES, type_name};
use contracts::orchestrator::workflow_event::Payload;
use contracts::orchestrator::{Stage, StageResult, Workflow, WorkflowEvent, WorkflowState};
use contracts::task::Verdict;
use service_runtime::exemplars;

use crate::engine::Engine;
use crate::store::{StoreError, tasks, workflows};

// As often as Prometheus usually scrapes.
const OBSERVE_EVERY: Duration = Duration::from_secs(10);

// Of work: from a no-op to half a day.
const WORK: [f64; 11] = [
    0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0,
];

struct Instruments {
    workflows_finished: Counter<u64>,
    workflow_duration: Histogram<f64>,
    stages_finished: Counter<u64>,
    stage_duration: Histogram<f64>,
    retries: Counter<u64>,
    leases_changed: Counter<u64>,
    tokens: Counter<u64>,
    cost: Counter<f64>,
    watch_delay: Histogram<f64>,
    limits_shared: Gauge<u64>,
    watchers: Gauge<u64>,
    connections: Gauge<u64>,
    connection_waits: Gauge<u64>,
    commit_size: Histogram<u64>,
    commit_duration: Histogram<f64>,
    workflows: Gauge<u64>,
    tasks: Gauge<u64>,
    oldest_wait: Gauge<f64>,
    slots: Gauge<u64>,
    free_slots: Gauge<u64>,
    agents: Gauge<u64>,
    eras_waiting: Gauge<u64>,
    eras_dropped: Counter<u64>,
}

static INSTRUMENTS: LazyLock<Instruments> =
    LazyLock::new(|| Instruments::new(&global::meter("agentic")));

impl Instruments {
    fn new(meter: &Meter) -> Self {
        let counter = |name, text| meter.u64_counter(name).with_description(text).build();
        let gauge = |name, text| meter.u64_gauge(name).with_description(text).build();
        let seconds = |name, text, bounds: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit("s");
            histogram
                .with_description(text)
                .with_boundaries(bounds.to_vec())
                .build()
        };
        let delay = [
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
        ];
        let commit = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
        Self {
            workflows_finished: counter("agentic.workflow.finished", "Workflows that ended"),
            workflow_duration: seconds(
                "agentic.workflow.duration",
                "From submission to the end of a workflow",
                &WORK,
            ),
            stages_finished: counter("agentic.stage.finished", "Stages that ended"),
            stage_duration: seconds(
                "agentic.stage.duration",
                "From the first start to the end of a stage",
                &WORK,
            ),
            retries: counter("agentic.task.retries", "Attempts that will be made again"),
            leases_changed: counter(
                "agentic.lease.changes",
                "Leases that were lost, or adopted from another replica",
            ),
            tokens: meter
                .u64_counter("agentic.model.tokens")
                .with_unit("{token}")
                .with_description("Model tokens that finished stages used")
                .build(),
            cost: meter
                .f64_counter("agentic.model.cost")
                .with_unit("{USD}")
                .with_description("What models cost finished stages, in US dollars")
                .build(),
            watch_delay: seconds(
                "agentic.watch.delay",
                "From an event to the hand-over to one who watches its workflow live",
                &delay,
            ),
            limits_shared: gauge(
                "agentic.rate_limit.shared",
                "Whether rate limits are shared by all replicas (1), or those of this one (0)",
            ),
            watchers: gauge(
                "agentic.watch.count",
                "Watches of single workflows that are open",
            ),
            connections: gauge(
                "db.client.connection.count",
                "Connections to the database, by state",
            ),
            connection_waits: gauge(
                "db.client.connection.pending_requests",
                "Who waits for a connection to the database",
            ),
            commit_size: meter
                .u64_histogram("agentic.commit.transitions")
                .with_description("Transitions that rode one commit together")
                .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
                .build(),
            commit_duration: seconds("agentic.commit.duration", "One group commit", &commit),
            workflows: gauge("agentic.workflow.count", "Workflows that have not ended"),
            tasks: gauge("agentic.task.count", "Tasks that wait for a slot or run"),
            oldest_wait: meter
                .f64_gauge("agentic.task.oldest_wait")
                .with_unit("s")
                .with_description("How long the task that waits longest has waited")
                .build(),
            slots: gauge("agentic.slot.count", "Slots of the agents of this replica"),
            free_slots: gauge("agentic.slot.free", "Those that can be given work"),
            agents: gauge("agentic.agent.count", "Agents connected to this replica"),
            eras_waiting: gauge(
                "agentic.retention.waiting",
                "Eras past retention that wait for workflows which have not ended, or for their tables",
            ),
            eras_dropped: counter(
                "agentic.retention.dropped",
                "Eras that this replica dropped",
            ),
        }
    }
}

/// Counts what was just committed.
pub fn committed<'a>(events: impl Iterator<Item = &'a WorkflowEvent>) {
    for event in events {
        match &event.payload {
            Some(Payload::Finished(finished)) => {
                if let Some(workflow) = &finished.workflow {
                    workflow_finished(workflow, &event.trace_id);
                }
            }
            Some(Payload::StageFinished(finished)) => {
                if let Some(stage) = &finished.stage {
                    stage_finished(stage);
                }
            }
            Some(Payload::RetryScheduled(retry)) => {
                let class = KeyValue::new("error.class", retry.error_class.clone());
                INSTRUMENTS.retries.add(1, &[class]);
            }
            Some(Payload::LeaseChanged(lease)) => {
                let change = if lease.adopted { "adopted" } else { "lost" };
                let change = KeyValue::new("change", change);
                INSTRUMENTS.leases_changed.add(1, &[change]);
            }
            Some(_) | None => {}
        }
    }
}

/// One group commit.
pub fn commit(transition_count: usize, took: Duration) {
    let count = u64::try_from(transition_count).unwrap_or(u64::MAX);
    INSTRUMENTS.commit_size.record(count, &[]);
    INSTRUMENTS.commit_duration.record(took.as_secs_f64(), &[]);
}

/// So many eras are past retention, and wait for workflows that have not ended or for their tables.
pub fn eras_wait(count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    INSTRUMENTS.eras_waiting.record(count, &[]);
}

/// An era is gone.
pub fn era_dropped() {
    INSTRUMENTS.eras_dropped.add(1, &[]);
}

/// Whether all replicas share rate limits now.
pub fn rate_limits_are_shared(shared: bool) {
    INSTRUMENTS.limits_shared.record(u64::from(shared), &[]);
}

/// An event was handed to one who watches live.
pub fn watched(event: &WorkflowEvent, now: SystemTime) {
    let time = event.time.and_then(|time| SystemTime::try_from(time).ok());
    if let Some(delay) = time.and_then(|time| now.duration_since(time).ok()) {
        INSTRUMENTS.watch_delay.record(delay.as_secs_f64(), &[]);
    }
}

fn workflow_finished(workflow: &Workflow, trace_id: &str) {
    let state = KeyValue::new("state", state_name(workflow.state()));
    INSTRUMENTS
        .workflows_finished
        .add(1, std::slice::from_ref(&state));
    if let Some(took) = between(workflow.create_time, workflow.end_time) {
        let labels = [state];
        INSTRUMENTS.workflow_duration.record(took, &labels);
        let name = "agentic_workflow_duration_seconds";
        exemplars::keep(name, &labels, &WORK, took, trace_id.to_owned());
    }
}

fn stage_finished(stage: &Stage) {
    let labels = [
        KeyValue::new("agent.type", type_name(stage.agent_type())),
        KeyValue::new("verdict", verdict_name(stage.verdict())),
    ];
    INSTRUMENTS.stages_finished.add(1, &labels);
    if let Some(took) = between(stage.start_time, stage.end_time) {
        INSTRUMENTS.stage_duration.record(took, &labels);
    }
    let outcome = stage.result.as_ref().and_then(StageResult::outcome);
    let Some(usage) = outcome.and_then(|outcome| outcome.usage.as_ref()) else {
        return;
    };
    for (kind, count) in [
        ("input", usage.input_token_count),
        ("output", usage.output_token_count),
        ("cached", usage.cached_token_count),
    ] {
        if let Ok(count) = u64::try_from(count)
            && count > 0
        {
            let kind = KeyValue::new("token.type", kind);
            INSTRUMENTS.tokens.add(count, &[kind]);
        }
    }
    if usage.cost_micros > 0 {
        INSTRUMENTS.cost.add(usage.cost_micros as f64 / 1e6, &[]);
    }
}

fn between(
    start: Option<prost_types::Timestamp>,
    end: Option<prost_types::Timestamp>,
) -> Option<f64> {
    let start = SystemTime::try_from(start?).ok()?;
    let end = SystemTime::try_from(end?).ok()?;
    Some(end.duration_since(start).ok()?.as_secs_f64())
}

/// Reads the gauges every few seconds, until the token is cancelled.
pub async fn observe(engine: Engine, stop: CancellationToken) {
    begin();
    loop {
        observe_agents(&engine);
        observe_load(&engine);
        // What the database cannot say keeps its last value; the health check says that it is away.
        if let Err(error) = observe_work(&engine).await {
            tracing::debug!(error = ?error, "the gauges were not read");
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(OBSERVE_EVERY) => {}
        }
    }
}

// A counter that is not there before its first count hides that count from `increase`.
fn begin() {
    for state in ["succeeded", "failed", "cancelled"] {
        let state = KeyValue::new("state", state);
        INSTRUMENTS.workflows_finished.add(0, &[state]);
    }
    for agent_type in AGENT_TYPES {
        for verdict in [Verdict::Passed, Verdict::Failed, Verdict::NotProven] {
            let labels = [
                KeyValue::new("agent.type", type_name(agent_type)),
                KeyValue::new("verdict", verdict_name(verdict)),
            ];
            INSTRUMENTS.stages_finished.add(0, &labels);
        }
    }
    for class in ["retryable", "timed_out", "lost", "refused"] {
        let class = KeyValue::new("error.class", class);
        INSTRUMENTS.retries.add(0, &[class]);
    }
    for change in ["adopted", "lost"] {
        let change = KeyValue::new("change", change);
        INSTRUMENTS.leases_changed.add(0, &[change]);
    }
    for kind in ["input", "output", "cached"] {
        let kind = KeyValue::new("token.type", kind);
        INSTRUMENTS.tokens.add(0, &[kind]);
    }
    INSTRUMENTS.cost.add(0.0, &[]);
    INSTRUMENTS.eras_dropped.add(0, &[]);
}

fn observe_agents(engine: &Engine) {
    let of = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    for agent_type in AGENT_TYPES {
        let label = [KeyValue::new("agent.type", type_name(agent_type))];
        let (slots, free) = engine.agents().slot_counts(agent_type);
        INSTRUMENTS.slots.record(of(slots), &label);
        INSTRUMENTS.free_slots.record(of(free), &label);
        let agents = engine.agents().connected_count(agent_type);
        INSTRUMENTS.agents.record(of(agents), &label);
    }
}

fn observe_load(engine: &Engine) {
    let of = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let pool = engine.store().pool_status();
    let used = pool.size.saturating_sub(pool.available);
    for (state, count) in [("used", used), ("idle", pool.available)] {
        let state = KeyValue::new("db.client.connection.state", state);
        INSTRUMENTS.connections.record(of(count), &[state]);
    }
    INSTRUMENTS.connection_waits.record(of(pool.waiting), &[]);
    let watchers = engine.events().watcher_count();
    INSTRUMENTS.watchers.record(of(watchers), &[]);
}

async fn observe_work(engine: &Engine) -> Result<(), StoreError> {
    let now = engine.clock().now();
    let client = engine.store().client().await?;
    let states = workflows::count_live(&client).await?;
    let types = tasks::count_by_type(&client, None).await?;
    drop(client);
    for state in LIVE {
        let counted = states
            .iter()
            .find(|(found, _)| i32::from(*found) == state as i32);
        let count = counted.map_or(0, |(_, count)| u64::try_from(*count).unwrap_or(0));
        let label = [KeyValue::new("state", state_name(state))];
        INSTRUMENTS.workflows.record(count, &label);
    }
    for agent_type in AGENT_TYPES {
        let counted = types
            .iter()
            .find(|count| count.agent_type == agent_type as i16);
        let name = KeyValue::new("agent.type", type_name(agent_type));
        for (state, count) in [
            ("waiting", counted.map_or(0, |count| count.waiting)),
            ("running", counted.map_or(0, |count| count.leased)),
        ] {
            let labels = [name.clone(), KeyValue::new("state", state)];
            INSTRUMENTS
                .tasks
                .record(u64::try_from(count).unwrap_or(0), &labels);
        }
        let oldest = counted
            .and_then(|count| count.oldest)
            .and_then(|since| now.duration_since(since).ok())
            .unwrap_or_default();
        INSTRUMENTS
            .oldest_wait
            .record(oldest.as_secs_f64(), &[name]);
    }
    Ok(())
}

// States that a workflow can leave.
const LIVE: [WorkflowState; 7] = [
    WorkflowState::Pending,
    WorkflowState::Running,
    WorkflowState::AwaitingDecision,
    WorkflowState::AwaitingClarification,
    WorkflowState::AwaitingBudget,
    WorkflowState::Paused,
    WorkflowState::Compensating,
];

fn state_name(state: WorkflowState) -> String {
    short(state.as_str_name(), "WORKFLOW_STATE_")
}

fn verdict_name(verdict: Verdict) -> String {
    short(verdict.as_str_name(), "VERDICT_")
}

fn short(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase()
}
