//! The answer to the commit of a result is lost: the result is there, and whoever brought it does
//! not know.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use contracts::agent::AGENT_TYPES;
use contracts::orchestrator::WorkflowState;
use contracts::task::{AgentType, Verdict};
use testkit::database::Database;
use testkit::fault_proxy::{Direction, Fault, FaultProxy};
use testkit::scripted_agent::{Gate, ScriptedAgent, Step};

use crate::database;
use crate::mesh::{PATIENCE, Replica, app, assert_gapless};

// A beat comes every 5 s, and its answer brings the news.
const RELEASED_WITHIN: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn a_result_whose_commit_was_not_answered_is_taken_in_once_and_let_go_by_its_agent() {
    let database = database::migrated().await;
    let config: Config = database.connection_string().parse().unwrap();
    let mut bridges = JoinSet::new();
    let bridge = bridge(&config, &mut bridges).await;
    let proxy = FaultProxy::start(bridge).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!(
        "postgres://{}@{}/{}",
        config.get_user().unwrap(),
        proxy.address(),
        config.get_dbname().unwrap()
    );
    let replica = Replica::start_on(&url, folder.path()).await;
    // In the middle of the workflow, and at its end.
    let gates = [AgentType::Validation, AgentType::Deployment].map(|kind| (kind, Gate::new()));
    let mut agents = Vec::new();
    for agent_type in AGENT_TYPES {
        let gate = gates.iter().find(|(kind, _)| *kind == agent_type);
        let wait = gate.map(|(_, gate)| Step::Wait(gate.clone()));
        let end = Step::finish(agent_type, Verdict::Passed);
        let steps: Vec<_> = [Some(Step::Accept), wait, Some(end)]
            .into_iter()
            .flatten()
            .collect();
        let agent = ScriptedAgent::start(agent_type, move |_, _| steps.clone())
            .await
            .unwrap();
        let session = agent.connect(&replica.url, 1).await.unwrap();
        session.reachable().await.unwrap();
        agents.push((agent, session));
    }
    let workflow_id = replica.create(app("shop")).await.workflow_id;
    for (kind, gate) in &gates {
        let (agent, session) = agents
            .iter()
            .find(|(agent, _)| agent.agent_type() == *kind)
            .unwrap();
        gate.reached(1).await;
        let task_id = agent.called(1).await[0].context.task_id.clone();
        proxy.set(Direction::ToClient, Fault::Discard);
        gate.open();
        committed(&database, &task_id).await;
        proxy.set_both(Fault::None);
        proxy.cut();
        let released = session.acknowledged(|ack| ack.release_task_ids.contains(&task_id));
        timeout(RELEASED_WITHIN, released)
            .await
            .expect("the agent may let the result go")
            .unwrap();
    }
    let events = replica.watch(&workflow_id, 0).await;
    assert_gapless(&events, 0);
    assert_eq!(
        replica.get(&workflow_id).await.state(),
        WorkflowState::Succeeded
    );
    for (agent, _) in &agents {
        let calls = agent.calls();
        let begun = calls.iter().filter(|call| call.began);
        assert_eq!(begun.count(), 1, "{calls:?}");
    }
}

// Waits until the attempt is over in the database.
async fn committed(database: &Database, task_id: &str) {
    let connection = database.connect().await.unwrap();
    let task_id: uuid::Uuid = task_id.parse().unwrap();
    let ended = "SELECT count(*) FROM attempts WHERE task_id = $1 AND ending = 'completed'";
    let looking = async {
        let mut again = tokio::time::interval(Duration::from_millis(5));
        while connection
            .query_one(ended, &[&task_id])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
        {
            again.tick().await;
        }
    };
    timeout(PATIENCE, looking).await.expect("it is committed");
}

// The cluster listens on a Unix socket only, and networks fail elsewhere.
async fn bridge(config: &Config, bridges: &mut JoinSet<()>) -> SocketAddr {
    let folder = match &config.get_hosts()[0] {
        Host::Unix(folder) => folder.clone(),
        Host::Tcp(host) => panic!("{host} is no folder"),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let socket: PathBuf = folder.join(format!(".s.PGSQL.{port}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    bridges.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            let socket = socket.clone();
            open.spawn(async move {
                let mut unix = UnixStream::connect(socket).await.unwrap();
                // Either side may end it, as the proxy likes.
                let _ = copy_bidirectional(&mut tcp, &mut unix).await;
            });
        }
    });
    address
}
