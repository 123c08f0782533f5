//! Who gets in, who does not, and what they are told.

use std::time::SystemTime;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::Code;

use contracts::task::AgentType;
use service_runtime::admission::Callers;
use service_runtime::tls::{Expected, Identity, Tls};

use crate::bed::{BOUND, Bed, agent, ask, ask_at, serve, told, who};

#[tokio::test]
async fn services_know_each_other_by_their_certificates_in_both_directions() {
    let bed = Bed::new();
    let orchestrator = bed.tls("orchestrator", &Identity::Orchestrator);
    let named: Identity = "spiffe://agentic/agent/e2e/one".parse().unwrap();
    let e2e = bed.tls("e2e", &named);
    let mesh = serve(orchestrator.clone(), Callers::Anyone).await;
    let agent = serve(e2e.clone(), Callers::Orchestrator).await;

    let up = e2e.channel(&mesh.https(), None, Expected::Orchestrator);
    assert_eq!(who(&up.unwrap()).await, "spiffe://agentic/agent/e2e/one");
    let down = orchestrator.channel(&agent.https(), None, Expected::Agent(AgentType::E2e));
    assert_eq!(who(&down.unwrap()).await, "spiffe://agentic/orchestrator");
    // People show none, and are let in by the orchestrator alone.
    let person = bed
        .person()
        .channel(&mesh.https(), None, Expected::Host)
        .unwrap();
    assert_eq!(who(&person).await, "nobody");
    // The health check of the agent's own container.
    ask_at(&e2e, &agent.https(), Expected::Agent(AgentType::E2e))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_told_so_by_an_agent() {
    let bed = Bed::new();
    let e2e = serve(
        bed.tls("e2e", &agent(AgentType::E2e)),
        Callers::Orchestrator,
    )
    .await;
    let refused = ask_at(&bed.person(), &e2e.https(), Expected::Host)
        .await
        .unwrap_err();
    let said = told(&refused);
    // The refusal comes after the handshake or within it.
    assert!(
        matches!(refused.code(), Code::Unavailable | Code::Unknown),
        "{said}"
    );
    assert!(said.contains("CertificateRequired"), "{said}");
}

#[tokio::test]
async fn an_agents_certificate_does_not_make_an_orchestrator() {
    let bed = Bed::new();
    let e2e = serve(
        bed.tls("e2e", &agent(AgentType::E2e)),
        Callers::Orchestrator,
    )
    .await;
    let scaffold = bed.tls("scaffold", &agent(AgentType::Scaffold));
    let refused = ask_at(&scaffold, &e2e.https(), Expected::Agent(AgentType::E2e))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(
        refused
            .message()
            .contains("spiffe://agentic/agent/scaffold"),
        "{}",
        refused.message()
    );
    // Nor does it serve as one.
    let mesh = serve(scaffold, Callers::Anyone).await;
    let other = bed.tls("validation", &agent(AgentType::Validation));
    let refused = ask_at(&other, &mesh.https(), Expected::Orchestrator)
        .await
        .unwrap_err();
    let said = told(&refused);
    assert!(said.contains("an orchestrator was to be called"), "{said}");
}

#[tokio::test]
async fn an_agent_of_another_type_is_not_called() {
    let bed = Bed::new();
    let orchestrator = bed.tls("orchestrator", &Identity::Orchestrator);
    let e2e = serve(
        bed.tls("e2e", &agent(AgentType::E2e)),
        Callers::Orchestrator,
    )
    .await;
    let refused = ask_at(
        &orchestrator,
        &e2e.https(),
        Expected::Agent(AgentType::Deployment),
    )
    .await
    .unwrap_err();
    let said = told(&refused);
    assert!(said.contains("an agent of type deployment"), "{said}");
}

#[tokio::test]
async fn certificates_of_another_authority_are_refused_by_both_sides() {
    let (ours, theirs) = (Bed::new(), Bed::new());
    let mesh = serve(
        ours.tls("orchestrator", &Identity::Orchestrator),
        Callers::Anyone,
    )
    .await;
    let stranger = theirs.tls("e2e", &agent(AgentType::E2e));
    let refused = ask_at(&stranger, &mesh.https(), Expected::Orchestrator)
        .await
        .unwrap_err();
    let said = told(&refused);
    // Development authorities have one name, so that it is the signature that is wrong.
    assert!(said.contains("BadSignature"), "{said}");
    // One who trusts us, and shows what we do not trust.
    let mut files = theirs.files("e2e", Some(&agent(AgentType::E2e)));
    files.authorities = Some(ours.path("ca", "crt"));
    let stranger = Tls::read(files).unwrap();
    let refused = ask_at(&stranger, &mesh.https(), Expected::Orchestrator)
        .await
        .unwrap_err();
    let said = told(&refused);
    // Its authority has the same name as ours: what does not fit is the signature.
    assert!(said.contains("DecryptError"), "{said}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_at_the_start_and_by_the_other_side() {
    let bed = Bed::new();
    let past = bed.files_for("past", Some(&Identity::Orchestrator), -time::Duration::HOUR);
    let said = Tls::read(past).unwrap_err().to_string();
    assert!(said.contains("expired at"), "{said}");

    let soon = time::Duration::seconds(1);
    let brief = |name: &str, identity: &Identity| {
        Tls::read(bed.files_for(name, Some(identity), soon)).unwrap()
    };
    let short_mesh = brief("short", &Identity::Orchestrator);
    let short_agent = brief("brief", &agent(AgentType::E2e));
    let mesh = serve(short_mesh.clone(), Callers::Anyone).await;
    let well = serve(
        bed.tls("orchestrator", &Identity::Orchestrator),
        Callers::Anyone,
    )
    .await;
    // Their time runs out; a certificate holds to the end of its last second.
    while [&short_mesh, &short_agent]
        .iter()
        .any(|tls| tls.not_after().unwrap() + std::time::Duration::from_secs(1) > SystemTime::now())
    {
        tokio::task::yield_now().await;
    }
    assert!(short_mesh.check().unwrap_err().contains("has expired"));
    let refused = ask_at(&bed.person(), &mesh.https(), Expected::Host)
        .await
        .unwrap_err();
    let said = told(&refused);
    assert!(said.to_lowercase().contains("expired"), "{said}");
    let refused = ask_at(&short_agent, &well.https(), Expected::Orchestrator)
        .await
        .unwrap_err();
    let said = told(&refused);
    assert!(said.to_lowercase().contains("expired"), "{said}");
}

#[tokio::test]
async fn clear_text_and_tls_do_not_meet_and_both_say_so() {
    let bed = Bed::new();
    let secure = serve(
        bed.tls("orchestrator", &Identity::Orchestrator),
        Callers::Anyone,
    )
    .await;
    let clear = serve(Tls::default(), Callers::Anyone).await;
    let refused = ask_at(&Tls::default(), &secure.http(), Expected::Host)
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused.code(),
            Code::Unavailable | Code::Unknown | Code::Internal
        ),
        "{}",
        told(&refused)
    );
    let refused = ask_at(&bed.person(), &clear.https(), Expected::Host)
        .await
        .unwrap_err();
    let said = told(&refused);
    assert!(said.contains("does not speak TLS"), "{said}");
}

#[tokio::test]
async fn a_host_that_the_certificate_does_not_name_is_not_called() {
    let bed = Bed::new();
    let mesh = serve(
        bed.tls("orchestrator", &Identity::Orchestrator),
        Callers::Anyone,
    )
    .await;
    let address = format!("https://[::ffff:127.0.0.1]:{}", mesh.address.port());
    let refused = ask_at(&bed.person(), &address, Expected::Host)
        .await
        .unwrap_err();
    let said = told(&refused);
    assert!(said.contains("not valid for name"), "{said}");
}

#[tokio::test]
async fn callers_who_hold_the_door_are_cut_and_keep_nobody_out() {
    let bed = Bed::new();
    let mesh = serve(
        bed.tls("orchestrator", &Identity::Orchestrator),
        Callers::Anyone,
    )
    .await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(mesh.address).await.unwrap());
    }
    let person = bed
        .person()
        .channel(&mesh.https(), None, Expected::Host)
        .unwrap();
    ask(&person).await.unwrap();
    for mut stream in silent {
        let mut byte = [0];
        let read = tokio::time::timeout(BOUND * 2, stream.read(&mut byte));
        let read = read.await.expect("cut within the bound");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}
