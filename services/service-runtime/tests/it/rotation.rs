//! New certificates without a restart.

use std::time::{Duration, SystemTime};

use contracts::task::AgentType;
use service_runtime::admission::Callers;
use service_runtime::tls::authority::Issued;
use service_runtime::tls::{Expected, Identity, Tls};

use crate::bed::{Bed, agent, ask, serve, who};

const NOTICED_WITHIN: Duration = Duration::from_secs(10);

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(NOTICED_WITHIN, waiting)
        .await
        .unwrap_or_else(|_| panic!("not within {NOTICED_WITHIN:?}: {what}"));
}

#[tokio::test]
async fn new_files_serve_new_connections_and_the_old_ones_go_on() {
    let bed = Bed::new();
    let tls = bed.tls("orchestrator", &Identity::Orchestrator);
    let mesh = serve(tls.clone(), Callers::Anyone).await;
    let caller = bed.tls("e2e", &agent(AgentType::E2e));
    let old = caller
        .channel(&mesh.https(), None, Expected::Orchestrator)
        .unwrap();
    ask(&old).await.unwrap();

    let before = tls.not_after().unwrap();
    let longer = bed.issue(Some(&Identity::Orchestrator), time::Duration::hours(5));
    bed.write("orchestrator", &longer);
    until("the new certificate is in use", || {
        tls.not_after() != Some(before)
    })
    .await;
    assert!(tls.not_after().unwrap() > SystemTime::now() + Duration::from_hours(4));
    ask(&old).await.unwrap();
    let new = caller
        .channel(&mesh.https(), None, Expected::Orchestrator)
        .unwrap();
    ask(&new).await.unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_old_ones_in_use_and_are_reported() {
    let bed = Bed::new();
    let tls = bed.tls("orchestrator", &Identity::Orchestrator);
    let mesh = serve(tls.clone(), Callers::Anyone).await;
    let good = bed.issue(Some(&Identity::Orchestrator), time::Duration::hours(2));
    let other = bed.issue(Some(&Identity::Orchestrator), time::Duration::hours(2));
    let past = bed.issue(Some(&Identity::Orchestrator), -time::Duration::HOUR);
    let broken = [
        Issued {
            certificate: "nothing of the kind\n".to_owned(),
            key: good.key.clone(),
        },
        Issued {
            certificate: good.certificate.clone(),
            key: other.key,
        },
        past,
    ];
    for files in broken {
        let before = tls.not_after();
        bed.write("orchestrator", &files);
        until("it is reported", || tls.broken().is_some()).await;
        assert_eq!(tls.not_after(), before);
        let person = bed.person();
        let channel = person.channel(&mesh.https(), None, Expected::Host).unwrap();
        ask(&channel).await.unwrap();
        tls.check().unwrap();
        bed.write(
            "orchestrator",
            &bed.issue(Some(&Identity::Orchestrator), time::Duration::HOUR),
        );
        until("the good files are in use", || tls.broken().is_none()).await;
    }
    let before = tls.not_after();
    bed.write("orchestrator", &good);
    until("the good files are in use", || tls.not_after() > before).await;
}

#[tokio::test]
async fn a_client_shows_its_newest_certificate_when_it_connects_again() {
    let bed = Bed::new();
    let orchestrator = bed.tls("orchestrator", &Identity::Orchestrator);
    let first = serve(orchestrator.clone(), Callers::Anyone).await;
    let caller = Tls::read(bed.files("agent", Some(&agent(AgentType::E2e)))).unwrap();
    let channel = |address: String| {
        caller
            .channel(&address, None, Expected::Orchestrator)
            .unwrap()
    };
    assert_eq!(
        who(&channel(first.https())).await,
        "spiffe://agentic/agent/e2e"
    );
    let named: Identity = "spiffe://agentic/agent/e2e/renamed".parse().unwrap();
    bed.write("agent", &bed.issue(Some(&named), time::Duration::HOUR));
    caller.reload().unwrap();
    assert_eq!(
        who(&channel(first.https())).await,
        "spiffe://agentic/agent/e2e/renamed"
    );
}
