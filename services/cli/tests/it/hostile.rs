//! Servers that answer what they must not.

use anyhow::Result;
use contracts::orchestrator::{StoredArtifact, Workflow, WorkflowEvent};
use contracts::task::Artifact;
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::command::run;
use crate::scripted::{Scripted, Story, Watch, say};

#[tokio::test]
async fn a_log_with_a_gap_is_found_out() -> Result<()> {
    let story = Story::success();
    let mut holed = story.events.clone();
    holed.remove(3);
    let scripted = Scripted::new(story);
    scripted.script(vec![Watch::Say(say(&holed)); 2]);
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["watch", "shop", "--json"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("the log has a gap"), "{}", ended.err);
    assert_eq!(ended.json()?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn repeated_events_are_shown_once() -> Result<()> {
    let story = Story::success();
    let count = story.events.len();
    let doubled: Vec<_> = story
        .events
        .iter()
        .flat_map(|e| [e.clone(), e.clone()])
        .collect();
    let scripted = Scripted::new(story);
    scripted.script([Watch::Say(say(&doubled))]);
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["watch", "shop", "--json"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()?.len(), count + 1);
    Ok(())
}

#[tokio::test]
async fn events_of_another_workflow_are_refused() -> Result<()> {
    let scripted = Scripted::new(Story::success());
    scripted.script([Watch::Say(say(&Story::success().events))]);
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["watch", "shop"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("makes no sense"), "{}", ended.err);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_stays_open_after_the_end_is_left() -> Result<()> {
    let story = Story::success();
    let events = story.events.clone();
    let scripted = Scripted::new(story);
    scripted.script([Watch::SayAndHang(say(&events))]);
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["watch", "shop"]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn an_end_without_an_outcome_is_no_success() -> Result<()> {
    use contracts::orchestrator::WorkflowFinished;
    use contracts::orchestrator::workflow_event::Payload;
    let story = Story::begin().then("", Payload::Finished(WorkflowFinished::default()));
    let server = Scripted::new(story).serve().await?;
    let ended = run(&server.url(), &["watch", "shop"]).await?;
    assert_ne!(ended.code, 0, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn escape_sequences_of_a_server_do_not_reach_the_terminal() -> Result<()> {
    let mut story = Story::success();
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}";
    story.workflow.name = format!("shop{evil}");
    for event in &mut story.events {
        event.stage = format!("{evil}stage");
        event.actor = evil.to_owned();
    }
    let id = story.workflow.workflow_id.clone();
    let scripted = Scripted::new(story);
    scripted
        .know()
        .refusals
        .push_back(Status::internal(format!("no{evil}")));
    let server = scripted.serve().await?;
    for arguments in [
        vec!["show", &id],
        vec!["watch", &id],
        vec!["events", &id],
        vec!["logs", &id],
        vec!["list"],
        vec!["agents"],
        vec!["show", &id],
    ] {
        let ended = run(&server.url(), &arguments).await?;
        let shown = format!("{}{}", ended.out, ended.err);
        assert!(
            !shown
                .chars()
                .any(|c| c.is_control() && c != '\n' || c == '\u{202e}'),
            "{arguments:?}: {shown:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn pages_that_never_end_are_left() -> Result<()> {
    let scripted = Scripted::new(Story::success());
    let page = (vec![Workflow::default()], "again".to_owned());
    scripted.know().pages = vec![page; 5].into();
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["list", "--limit", "100"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("do not end"), "{}", ended.err);
    Ok(())
}

#[tokio::test]
async fn an_answer_about_another_workflow_is_refused() -> Result<()> {
    let scripted = Scripted::new(Story::success());
    let other = Story::success().workflow.workflow_id;
    scripted.know().pages.push_back((
        vec![Workflow {
            workflow_id: String::new(),
            ..Workflow::default()
        }],
        String::new(),
    ));
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["show", "shop"]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    let ended = run(&server.url(), &["show", &other]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("there is no workflow"), "{}", ended.err);
    Ok(())
}

fn artifact(name: &str, bytes: &[u8], size: i64) -> (StoredArtifact, Vec<u8>) {
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
    let stored = StoredArtifact {
        stage: "e2e".into(),
        attempt: 1,
        artifact: Some(Artifact {
            name: name.into(),
            digest,
            size_bytes: size,
            ..Artifact::default()
        }),
        ..StoredArtifact::default()
    };
    (stored, bytes.to_vec())
}

#[tokio::test]
async fn artifacts_are_saved_only_when_every_byte_is_right() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_str().unwrap();
    let big = vec![7_u8; 200_000];
    let scripted = Scripted::new(Story::success());
    scripted.know().artifacts = vec![
        artifact("logs/app.log", &big, big.len() as i64),
        artifact("report.xml", b"<ok/>", 5),
    ];
    let server = scripted.serve().await?;
    let ended = run(&server.url(), &["artifacts", "download", "shop", "-o", out]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read(folder.path().join("e2e/logs/app.log"))?, big);
    let arguments = ["artifacts", "download", "shop", "report.xml", "-o", "-"];
    let ended = run(&server.url(), &arguments).await?;
    assert_eq!(ended.out, "<ok/>");
    let ended = run(
        &server.url(),
        &["artifacts", "download", "shop", "reprot.xml"],
    )
    .await?;
    assert!(
        ended.err.contains("did you mean \"report.xml\"?"),
        "{}",
        ended.err
    );

    let mut wrong = artifact("wrong", b"right", 5);
    wrong.1 = b"wrung".to_vec();
    for hostile in [
        wrong,
        artifact("short", b"abc", 5),
        artifact("long", b"abcdef", 5),
        artifact("../escape", b"abc", 3),
        artifact("/tmp/agentic-escape", b"abc", 3),
        artifact("negative", b"abc", -1),
    ] {
        let name = hostile.0.artifact.as_ref().unwrap().name.clone();
        scripted.know().artifacts = vec![hostile];
        let target = tempfile::tempdir()?;
        let inner = target.path().join("inner");
        let place = inner.to_str().unwrap();
        let ended = run(
            &server.url(),
            &["artifacts", "download", "shop", "-o", place],
        )
        .await?;
        assert_eq!(ended.code, 1, "{name}: {ended:?}");
        let left: Vec<_> = files(target.path())?;
        assert!(left.is_empty(), "{name}: {left:?}");
    }
    Ok(())
}

fn files(folder: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_no_mesh() -> Result<()> {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut answering = tokio::task::JoinSet::new();
    answering.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
                .await;
        }
    });
    let ended = run(&url, &["list"]).await?;
    assert_eq!(ended.code, 4, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn an_event_of_an_unknown_kind_is_not_an_error() -> Result<()> {
    let mut story = Story::begin();
    let unknown = WorkflowEvent {
        payload: None,
        ..story.event(
            "",
            contracts::orchestrator::workflow_event::Payload::Paused(Default::default()),
        )
    };
    story.events.push(unknown);
    let story = story.end(
        contracts::orchestrator::WorkflowState::Succeeded,
        contracts::task::Verdict::Passed,
    );
    let server = Scripted::new(story).serve().await?;
    for verb in ["watch", "events"] {
        let ended = run(&server.url(), &[verb, "shop"]).await?;
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    Ok(())
}
