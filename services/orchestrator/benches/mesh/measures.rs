//! The measures of the performance budget (engine.md), one function each.

use std::time::{Duration, Instant};

use testkit::database::Connection;
use testkit::scripted_agent::{Gate, ScriptedAgent, Step};
use tokio::task::JoinSet;

use contracts::orchestrator::workflow_service_client::WorkflowServiceClient;
use contracts::orchestrator::{
    CreateWorkflowRequest, GetStatisticsRequest, GetWorkflowRequest, ListWorkflowsRequest,
    WatchWorkflowRequest, WorkflowType, watch_workflow_response, workflow_event,
};
use contracts::task::{AgentType, Repository, Verdict};

use crate::floor::{self, Floor};
use crate::load;
use crate::machine::{Machine, Orchestrator, SLOTS};
use crate::peer::{self, Measured};
use crate::plans::{self, Plans};
use crate::replicas;
use crate::report::{Report, Row};
use crate::telemetry;

/// What can be asked for.
pub const NAMES: &[&str] = &[
    "workflow_latency_p50",
    "start_latency_p50",
    "throughput_c16",
    "throughput_c64",
    "throughput_c200",
    "drain_rate",
    "growth_1e4_to_1e6",
    "watch_delay_p99",
    "idle_1000_agents_cpu",
    "memory_idle",
    "memory_10k_live",
    "failover_clean",
    "failover_killed",
    "watch_delay_other_replica",
    "telemetry_overhead",
];

const ONE_AT_A_TIME: usize = 300;
const WARM_UP: usize = 50;
const LOAD_TIME: Duration = Duration::from_secs(10);
const FLOOR_TIME: Duration = Duration::from_secs(4);
const PEER_TIME: Duration = Duration::from_secs(5);

/// Runs what is wanted; nothing named: everything.
pub async fn run(machine: &Machine, wanted: &[String], report: &mut Report) {
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if wants("workflow_latency_p50") || wants("start_latency_p50") {
        eprintln!("latency, one at a time");
        latency(machine, report).await;
    }
    for concurrency in [16, 64, 200] {
        if wants(&format!("throughput_c{concurrency}")) {
            eprintln!("throughput, {concurrency} at a time");
            throughput(machine, concurrency, report).await;
        }
    }
    if wants("drain_rate") {
        eprintln!("drain");
        drain(machine, report).await;
    }
    if wants("growth_1e4_to_1e6") {
        eprintln!("growth");
        growth(machine, report).await;
    }
    if wants("watch_delay_p99") {
        eprintln!("watch delay");
        watch_delay(machine, report).await;
    }
    if wants("memory_idle") || wants("idle_1000_agents_cpu") {
        eprintln!("idle");
        idle(machine, report).await;
    }
    if wants("memory_10k_live") {
        eprintln!("memory");
        memory(machine, report).await;
    }
    if wants("watch_delay_other_replica") {
        eprintln!("watch delay on another replica");
        replicas::watch_delay(machine, report).await;
    }
    if wants("telemetry_overhead") {
        eprintln!("telemetry");
        telemetry::overhead(machine, report).await;
    }
    for (name, clean) in [("failover_clean", true), ("failover_killed", false)] {
        if wants(name) {
            eprintln!("{name}");
            failover(machine, name, clean, report).await;
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

async fn latency(machine: &Machine, report: &mut Report) {
    machine.clear().await;
    let Floor {
        workflow, commit, ..
    } = floor::measure(&machine.url, 1, FLOOR_TIME).await;
    let orchestrator = machine.orchestrator().await;
    let _agents = machine.agents(&orchestrator, SLOTS).await;
    let mut client = WorkflowServiceClient::new(orchestrator.channel.clone());
    for _ in 0..WARM_UP {
        load::one(&mut client).await;
    }
    let (mut whole, mut start) = (Vec::new(), Vec::new());
    for _ in 0..ONE_AT_A_TIME {
        let taken = load::one(&mut client).await;
        whole.push(taken.whole);
        start.push(taken.start);
    }
    report.add(
        Row::new(
            "workflow_latency_p50",
            millis(load::median(&mut whole)),
            "ms",
        )
        .floor(millis(workflow))
        .peer(peer(machine, 1).map(|measured| (peer::NAME, measured.p50_ms)))
        .target("≤ 1.5 × floor + 5 ms"),
    );
    report.add(
        Row::new("start_latency_p50", millis(load::median(&mut start)), "ms")
            .floor(millis(commit))
            .target("≤ 1.5 × floor + 2 ms"),
    );
}

async fn throughput(machine: &Machine, concurrency: usize, report: &mut Report) {
    machine.clear().await;
    let floor = floor::measure(&machine.url, concurrency, FLOOR_TIME).await;
    let orchestrator = machine.orchestrator().await;
    let _agents = machine.agents(&orchestrator, SLOTS).await;
    load::throughput(&orchestrator.channel, concurrency, Duration::from_secs(2)).await;
    let (own, database) = (orchestrator.cpu(), machine.database_cpu());
    let begin = Instant::now();
    let rate = load::throughput(&orchestrator.channel, concurrency, LOAD_TIME).await;
    let count = rate * begin.elapsed().as_secs_f64();
    let each = |cpu: Duration| millis(cpu) / count;
    let (own, database) = (
        each(orchestrator.cpu().saturating_sub(own)),
        each(machine.database_cpu().saturating_sub(database)),
    );
    drop(orchestrator);
    let name = format!("throughput_c{concurrency}");
    report.add(
        Row::new(&name, rate, "workflows/s")
            .floor(floor.rate)
            .peer(peer(machine, concurrency).map(|measured| (peer::NAME, measured.rate)))
            .target("≥ 0.4 × floor")
            .note(format!(
                "CPU per workflow: {own:.2} ms orchestrator, {database:.2} ms PostgreSQL"
            )),
    );
}

fn peer(machine: &Machine, concurrency: usize) -> Option<Measured> {
    let peer = machine.peer.as_ref()?;
    Some(peer.measure(&machine.url, concurrency, PEER_TIME))
}

// Many workflows wait before the first agent comes.
async fn drain(machine: &Machine, report: &mut Report) {
    const WORKFLOWS: usize = 1024;
    machine.clear().await;
    let floor = floor::measure(&machine.url, 64, FLOOR_TIME).await;
    let orchestrator = machine.orchestrator().await;
    create_many(&orchestrator, WORKFLOWS).await;
    let connection = Connection::open(&machine.url).await.unwrap();
    let begin = Instant::now();
    // Not until they know that they are reachable: that takes a beat, and they have work before.
    let _agents = machine.connect(&orchestrator, SLOTS).await;
    loop {
        let row = connection
            .query_one("SELECT count(*) FROM workflows WHERE end_time IS NULL", &[])
            .await
            .unwrap();
        if row.get::<_, i64>(0) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rate = (5 * WORKFLOWS) as f64 / begin.elapsed().as_secs_f64();
    report.add(
        Row::new("drain_rate", rate, "stages/s")
            .floor(floor.rate * 6.0)
            .target("≥ 5000 stages/s"),
    );
}

async fn create_many(orchestrator: &Orchestrator, count: usize) {
    let mut workers = JoinSet::new();
    for _ in 0..32 {
        let mut client = WorkflowServiceClient::new(orchestrator.channel.clone());
        let share = count.div_ceil(32);
        workers.spawn(async move {
            for _ in 0..share {
                load::create(&mut client).await;
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
}

// The same load with little and with much finished history, and what the database does for it.
async fn growth(machine: &Machine, report: &mut Report) {
    machine.clear().await;
    let mut rates = Vec::new();
    let mut runs: Vec<(u32, Plans)> = Vec::new();
    for (finished, more) in [(10_000, 10_000), (100_000, 90_000), (1_000_000, 900_000)] {
        let orchestrator = machine.orchestrator().await;
        let agents = machine.agents(&orchestrator, SLOTS).await;
        load::one(&mut WorkflowServiceClient::new(
            orchestrator.channel.clone(),
        ))
        .await;
        fill(machine, more).await;
        load::throughput(&orchestrator.channel, 16, Duration::from_secs(2)).await;
        rates.push(load::throughput(&orchestrator.channel, 16, LOAD_TIME).await);
        drop((agents, orchestrator));
        runs.push((finished, plans(machine).await));
    }
    plans::write(&runs);
    let grown: Vec<_> = runs[1..]
        .iter()
        .flat_map(|(_, plans)| plans.grown(&runs[0].1))
        .collect();
    assert!(
        grown.is_empty(),
        "grows with history:\n{}",
        grown.join("\n")
    );
    let slower = 100.0 * (1.0 - rates[2] / rates[0]);
    report.add(
        Row::new("growth_1e4_to_1e6", slower, "% slower")
            .floor(rates[0])
            .target("≤ 5 % slower")
            .note("no statement touches more pages: target/bench/plans.md".to_owned()),
    );
}

// What the database does for a mesh that works, and is looked at.
async fn plans(machine: &Machine) -> Plans {
    const PLANNED_TIME: Duration = Duration::from_secs(4);
    plans::write_down(&machine.url, true).await;
    let before = std::fs::metadata(&machine.postgres_log).unwrap().len();
    let orchestrator = machine.orchestrator().await;
    let _agents = machine.agents(&orchestrator, SLOTS).await;
    load::throughput(&orchestrator.channel, 4, PLANNED_TIME).await;
    let mut client = WorkflowServiceClient::new(orchestrator.channel.clone());
    let listed = client.list_workflows(ListWorkflowsRequest::default()).await;
    let workflow_id = listed.unwrap().into_inner().workflows[0]
        .workflow_id
        .clone();
    client
        .get_workflow(GetWorkflowRequest { workflow_id })
        .await
        .unwrap();
    client
        .get_statistics(GetStatisticsRequest::default())
        .await
        .unwrap();
    drop(orchestrator);
    plans::write_down(&machine.url, false).await;
    Plans::read(&machine.postgres_log, before)
}

// Copies of a finished workflow, with the events that lists and watches would read, in the era that work goes on
// in: an empty one would be too easy.
async fn fill(machine: &Machine, count: i64) {
    let connection = Connection::open(&machine.url).await.unwrap();
    let fill = format!(
        "SET statement_timeout = 0;
         WITH model AS (SELECT * FROM workflows WHERE end_time IS NOT NULL LIMIT 1),
         copies AS MATERIALIZED (
             SELECT (left(first_id_at(now() + random() * interval '4 days')::text, 15)
                     || substr(gen_random_uuid()::text, 16))::uuid AS id
             FROM generate_series(1, {count})),
         w AS (INSERT INTO workflows SELECT c.id, m.namespace, m.version, m.state, m.type, m.name,
                   m.priority, m.labels, m.environment, m.create_time - interval '2 days',
                   m.end_time - interval '2 days', m.deadline,
                   m.last_sequence, m.live FROM model m, copies c),
         s AS (INSERT INTO submissions SELECT c.id, s.request, s.pipeline, s.traceparent
               FROM model m JOIN submissions s USING (workflow_id), copies c),
         e AS (INSERT INTO events SELECT c.id, n, m.end_time, '', ''::bytea
               FROM model m, copies c, generate_series(1, 4) AS n)
         INSERT INTO attempts SELECT c.id, 'scaffold', 1, c.id, 1, NULL, 'completed', '', NULL,
                m.end_time FROM model m, copies c"
    );
    connection.batch_execute(&fill).await.unwrap();
    // While it ran, what died could not be taken away: more of it the longer it took. And what it wrote is still on its
    // way to the disk. History is to be the only difference.
    for rest in ["VACUUM (ANALYZE)", "CHECKPOINT"] {
        connection.batch_execute(rest).await.unwrap();
    }
}

async fn watch_delay(machine: &Machine, report: &mut Report) {
    const WATCHERS: usize = 1000;
    const WORKFLOWS: usize = 50;
    machine.clear().await;
    let orchestrator = machine.orchestrator().await;
    let mut ids = Vec::new();
    let mut client = WorkflowServiceClient::new(orchestrator.channel.clone());
    for _ in 0..WORKFLOWS {
        ids.push(load::create(&mut client).await);
    }
    let mut watchers = JoinSet::new();
    let ready = std::sync::Arc::new(tokio::sync::Barrier::new(WATCHERS + 1));
    for number in 0..WATCHERS {
        let mut client = client.clone();
        let workflow_id = ids[number % WORKFLOWS].clone();
        let ready = ready.clone();
        watchers.spawn(async move {
            let request = WatchWorkflowRequest {
                workflow_id,
                after_sequence: 0,
            };
            let mut stream = client.watch_workflow(request).await.unwrap().into_inner();
            let (mut delays, mut live) = (Vec::new(), false);
            while let Some(message) = stream.message().await.unwrap() {
                match message.payload {
                    Some(watch_workflow_response::Payload::CaughtUp(_)) if !live => {
                        live = true;
                        ready.wait().await;
                    }
                    Some(watch_workflow_response::Payload::Event(event)) if live => {
                        delays.push(load::delay(&event));
                    }
                    _ => {}
                }
            }
            delays
        });
    }
    ready.wait().await;
    // One slot of each type: events come one after the other, as in a real mesh.
    let _agents = machine.agents(&orchestrator, 1).await;
    let mut delays = Vec::new();
    while let Some(done) = watchers.join_next().await {
        delays.extend(done.unwrap());
    }
    let p99 = millis(load::percentile(&mut delays, 99));
    report.add(Row::new("watch_delay_p99", p99, "ms").target("≤ 10 ms"));
}

async fn idle(machine: &Machine, report: &mut Report) {
    const AGENTS: usize = 1000;
    machine.clear().await;
    let orchestrator = machine.orchestrator().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let alone = orchestrator.memory_mib();
    report.add(Row::new("memory_idle", alone, "MiB").target("≤ 40 MiB"));
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let agent_type = contracts::agent::AGENT_TYPES[number % 5];
        let agent = ScriptedAgent::passing(agent_type).await.unwrap();
        let session = agent.connect(&orchestrator.url, 1).await.unwrap();
        agents.push((agent, session));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cpu = orchestrator.cpu_percent(Duration::from_secs(20)).await;
    let each = (orchestrator.memory_mib() - alone) * 1024.0 / AGENTS as f64;
    report.add(
        Row::new("idle_1000_agents_cpu", cpu, "% of a core")
            .target("≤ 5 %, ≤ 64 KiB each")
            .note(format!("{each:.0} KiB each")),
    );
}

async fn memory(machine: &Machine, report: &mut Report) {
    machine.clear().await;
    let orchestrator = machine.orchestrator().await;
    create_many(&orchestrator, 10_000).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    report.add(Row::new("memory_10k_live", orchestrator.memory_mib(), "MiB").target("≤ 200 MiB"));
}

async fn failover(machine: &Machine, name: &str, clean: bool, report: &mut Report) {
    const ROUNDS: usize = 5;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(one_failover(machine, clean).await);
    }
    let p99 = load::percentile(&mut times, 99).as_secs_f64();
    let target = if clean {
        "≤ 2 s"
    } else {
        "≤ lease (15 s) + 2 s"
    };
    report.add(Row::new(name, p99, "s").target(target));
}

async fn one_failover(machine: &Machine, clean: bool) -> Duration {
    machine.clear().await;
    let first = machine.orchestrator().await;
    let second = machine.orchestrator().await;
    let gate = Gate::new();
    let held = gate.clone();
    let agent = ScriptedAgent::start(AgentType::Validation, move |_, _| {
        vec![
            Step::Accept,
            Step::Wait(held.clone()),
            Step::finish(AgentType::Validation, Verdict::Passed),
        ]
    })
    .await
    .unwrap();
    let session = agent.connect(&first.url, 1).await.unwrap();
    let request = CreateWorkflowRequest {
        r#type: WorkflowType::Change.into(),
        name: "failover".into(),
        repository: Some(Repository {
            url: "/nowhere".into(),
            branch: "topic".into(),
            ..Repository::default()
        }),
        ..CreateWorkflowRequest::default()
    };
    let mut client = WorkflowServiceClient::new(first.channel.clone());
    let created = client.create_workflow(request).await.unwrap().into_inner();
    let workflow_id = created.workflow.unwrap().workflow_id;
    gate.reached(1).await;
    let begin = Instant::now();
    if clean {
        first.stop();
    } else {
        first.kill();
    }
    drop(session);
    let _session = agent.connect(&second.url, 1).await.unwrap();
    let mut client = WorkflowServiceClient::new(second.channel.clone());
    let request = WatchWorkflowRequest {
        workflow_id,
        after_sequence: 0,
    };
    let mut stream = client.watch_workflow(request).await.unwrap().into_inner();
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(watch_workflow_response::Payload::Event(event)) = message.payload
            && matches!(
                event.payload,
                Some(workflow_event::Payload::LeaseChanged(_))
            )
        {
            break;
        }
    }
    begin.elapsed()
}
