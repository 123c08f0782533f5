//! Apps that start, and apps that only seem to.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use contracts::{
    e2e::{CancelRequest, E2eTask, ExecuteRequest, execute_response},
    task::{TaskContext, Verdict},
};
use testkit::repository::Repository;

use crate::agent::{SERVER, ServedAgent, context, description, tested, tested_with};

const SHOP: &str = "[python3, app.py]";
const ENDPOINTS: &str = "  endpoints: [{path: /, contains: shop}]\n";

fn project(yaml: &str) -> [(&str, &str); 2] {
    [(".agentic/project.yaml", yaml), ("app.py", SERVER)]
}

/// Numbers of living processes whose command line contains `text`.
fn processes_with(text: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| {
            let line = fs::read(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

#[tokio::test]
async fn an_app_that_answers_passes_and_leaves_its_log() {
    let tested = tested(&project(&description(SHOP, "20s", ENDPOINTS))).await;
    tested.assert(Verdict::Passed, &["endpoints: 1 tests passed"]);
    assert!(tested.app().ready_after.is_some());
    assert_eq!(tested.app().ending, "stopped by us");
    assert_eq!(tested.app().exit_code, None);
    assert!(tested.artifact("app.log").contains("listening"));
    assert!(tested.app().log_tail.contains("request /health"));
    assert_eq!(tested.result.description_source, "head");
    assert!(tested.result.p95_latency_ms.unwrap() > 0.0);
    assert_eq!(
        tested.result.outcome.as_ref().unwrap().project_is_app,
        Some(true)
    );
}

#[tokio::test]
async fn an_app_that_ends_at_once_failed_whatever_its_exit_code() {
    for (code, lines) in [(0, "exit code 0"), (1, "exit code 1")] {
        let start = format!("[sh, -c, 'echo no database >&2; exit {code}']");
        let tested = tested(&project(&description(&start, "20s", ENDPOINTS))).await;
        tested.assert(
            Verdict::Failed,
            &["ended before it was ready", lines, "no database"],
        );
        assert_eq!(tested.app().exit_code, Some(code));
        assert!(tested.artifact("app.log").contains("no database"));
        assert_eq!(
            tested.suite("endpoints").verdict,
            i32::from(Verdict::NotProven)
        );
    }
}

#[tokio::test]
async fn an_app_that_is_never_ready_failed_and_is_quoted() {
    let start = "[sh, -c, 'echo waiting for godot; sleep 300']";
    let tested = tested(&project(&description(start, "1s", ENDPOINTS))).await;
    tested.assert(
        Verdict::Failed,
        &[
            "not ready within 1s",
            "/health gave no answer",
            "waiting for godot",
        ],
    );
    assert_eq!(tested.app().ready_after, None);
}

#[tokio::test]
async fn an_app_whose_health_is_bad_failed_with_what_it_answered() {
    let yaml = description(SHOP, "2s", ENDPOINTS).replace("/health", "/broken");
    let tested = tested(&project(&yaml)).await;
    tested.assert(Verdict::Failed, &["/broken answered 500 instead of 200"]);
}

#[tokio::test]
async fn an_app_that_puts_itself_into_the_background_failed_and_is_gone() {
    let mark = format!("daemon-{}", std::process::id());
    let start =
        format!("[sh, -c, 'setsid python3 app.py {mark} >/dev/null 2>&1 </dev/null & exit 0']");
    let tested = tested(&project(&description(&start, "20s", ENDPOINTS))).await;
    tested.assert(Verdict::Failed, &["put itself into the background"]);
    assert_eq!(processes_with(&mark), Vec::<String>::new());
}

#[tokio::test]
async fn an_app_whose_own_port_is_taken_failed() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let start = format!("[env, PORT={port}, python3, app.py]");
    let tested = tested(&project(&description(&start, "20s", ENDPOINTS))).await;
    tested.assert(
        Verdict::Failed,
        &["ended before it was ready", "Address already in use"],
    );
}

#[tokio::test]
async fn an_app_that_ends_while_it_is_tested_failed() {
    let app = SERVER.replace(
        "if path == \"/slow\":",
        "if path == \"/json\":\n            os._exit(9)\n        if path == \"/slow\":",
    );
    let endpoints = "  endpoints: [{path: /}, {path: /json}]\n";
    let yaml = description(SHOP, "20s", endpoints);
    let tested = tested(&[(".agentic/project.yaml", &yaml), ("app.py", &app)]).await;
    tested.assert(
        Verdict::Failed,
        &["during `endpoints`, the app ended (exit code 9)"],
    );
}

#[tokio::test]
async fn a_start_command_that_is_not_installed_proves_nothing() {
    let tested = tested(&project(&description(
        "[no-such-interpreter, app.py]",
        "5s",
        ENDPOINTS,
    )))
    .await;
    tested.assert(
        Verdict::NotProven,
        &["no-such-interpreter", "not installed"],
    );
}

#[tokio::test]
async fn a_start_file_that_is_missing_failed() {
    let tested = tested(&project(&description("[./serve]", "5s", ENDPOINTS))).await;
    tested.assert(Verdict::Failed, &["no file `./serve`"]);
}

#[tokio::test]
async fn a_library_proves_nothing_and_says_so() {
    let tested = tested(&[("go.mod", "module x\n"), ("x.go", "package x\n")]).await;
    tested.assert(Verdict::NotProven, &["library"]);
    assert_eq!(
        tested.result.outcome.as_ref().unwrap().project_is_app,
        Some(false)
    );
}

#[tokio::test]
async fn a_detected_app_is_only_asked_whether_it_answers() {
    let tested = tested(&[("server.py", SERVER)]).await;
    tested.assert(Verdict::Passed, &["1 tests passed"]);
    assert_eq!(tested.result.description_source, "detected");
}

#[tokio::test]
async fn a_guess_that_does_not_work_proves_nothing() {
    let broken = format!("import sys\nsys.exit('no')\n{SERVER}");
    let tested = tested(&[("server.py", &broken)]).await;
    tested.assert(
        Verdict::NotProven,
        &["only detected from server.py", "declare `app.start`"],
    );
}

#[tokio::test]
async fn a_log_line_can_say_that_an_app_is_ready_and_where() {
    let app = SERVER.replace("int(os.environ[\"PORT\"])", "0").replace(
        "print(\"listening\", flush=True)",
        "print('listening on port', server.server_port, flush=True)",
    );
    let yaml = "version: 1\napp:\n  start: {command: [python3, app.py]}\n  ready: {log: 'port (?<port>\\d+)', within: 20s}\n  \
                endpoints: [{path: /, contains: shop}]\n";
    let tested = tested(&[(".agentic/project.yaml", yaml), ("app.py", &app)]).await;
    tested.assert(Verdict::Passed, &[]);
}

#[tokio::test]
async fn a_task_can_name_everything_itself() {
    let task = E2eTask {
        start_command: ["python3", "app.py"].map(str::to_owned).to_vec(),
        port_variable: "PORT".into(),
        ready_path: "/health".into(),
        endpoints: vec![contracts::e2e::Endpoint {
            path: "/".into(),
            contains: "shop".into(),
            ..Default::default()
        }],
        ..E2eTask::default()
    };
    let tested = tested_with(&[("app.py", SERVER)], task).await;
    tested.assert(Verdict::Passed, &[]);
    assert_eq!(tested.result.description_source, "task");
}

#[tokio::test]
async fn secrets_reach_the_app_and_missing_ones_prove_nothing() {
    let app = SERVER.replace("b\"<h1>shop</h1>\"", "os.environ[\"TOKEN\"].encode()");
    let yaml = |name: &str| {
        format!(
            "version: 1\napp:\n  start: {{command: [python3, app.py], secrets: [{name}]}}\n  ready: {{tcp: true}}\n  \
             endpoints: [{{path: /, contains: hidden value}}]\n"
        )
    };
    let good = tested(&[(".agentic/project.yaml", &yaml("TOKEN")), ("app.py", &app)]).await;
    good.assert(Verdict::Passed, &[]);
    let telling =
        format!("import os\nprint('my token is', os.environ['TOKEN'], flush=True)\n{app}");
    let telling = tested(&[
        (
            ".agentic/project.yaml",
            &yaml("TOKEN").replace("contains: hidden value", "contains: other"),
        ),
        ("app.py", &telling),
    ])
    .await;
    telling.assert(Verdict::Failed, &["[secret TOKEN]"]);
    assert!(
        telling
            .artifact("app.log")
            .contains("my token is [secret TOKEN]")
    );
    assert!(!format!("{:?}", telling.result).contains("hidden value"));

    let missing = tested(&[(".agentic/project.yaml", &yaml("OTHER")), ("app.py", &app)]).await;
    missing.assert(Verdict::NotProven, &["secret `OTHER`"]);
}

#[tokio::test]
async fn a_health_check_of_a_container_says_nothing_about_a_program() {
    let yaml =
        description(SHOP, "5s", ENDPOINTS).replace("http: {path: /health}", "docker_health: true");
    let tested = tested(&project(&yaml)).await;
    tested.assert(
        Verdict::NotProven,
        &["docker_health", "the app is a program"],
    );
}

#[tokio::test]
async fn a_build_that_fails_is_failed_before_anything_is_started() {
    let yaml = description(SHOP, "5s", ENDPOINTS)
        + "checks:\n  build: {command: [sh, -c, 'echo no compiler today; exit 1']}\n";
    let tested = tested(&project(&yaml)).await;
    tested.assert(Verdict::Failed, &["does not build", "no compiler today"]);
    assert!(!tested.artifact_names().contains(&"app.log"));
}

#[tokio::test]
async fn an_app_that_runs_already_is_tested_where_it_is() {
    let agent = ServedAgent::start().await;
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let app = agent_runtime::process::Command::new(["python3", "-c", SERVER])
        .environment("PORT", port.to_string())
        .start()
        .unwrap();
    let task = E2eTask {
        url: format!("http://127.0.0.1:{port}"),
        ready_path: "/health".into(),
        endpoints: vec![contracts::e2e::Endpoint {
            path: "/".into(),
            ..Default::default()
        }],
        ..E2eTask::default()
    };
    let result = agent.run(TaskContext::default(), task).await.unwrap();
    let outcome = result.outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Passed, "{}", outcome.summary);
    assert_eq!(result.app.unwrap().ending, "not ours");
    assert!(app.finished().is_none(), "what was not ours was stopped");
    app.stop(Duration::from_secs(5)).await.unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn a_task_without_a_subject_is_refused_by_field() {
    let agent = ServedAgent::start().await;
    let refused = agent
        .run(TaskContext::default(), E2eTask::default())
        .await
        .unwrap_err();
    let error = contracts::error::Error::from_status(&refused).unwrap();
    assert_eq!(error.fields[0].0, "context.repository.url");
    let repository = Repository::with_files([("app.py", SERVER)]).unwrap();
    let task = E2eTask {
        suites: vec!["endpoint".into()],
        ..E2eTask::default()
    };
    let refused = agent
        .run(context(&repository, "", ""), task)
        .await
        .unwrap_err();
    assert!(
        refused.message().contains("did you mean `endpoints`"),
        "{refused}"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_wrong_description_is_an_error_that_names_the_line() {
    let agent = ServedAgent::start().await;
    let repository =
        Repository::with_files([(".agentic/project.yaml", "version: 1\nap: {}\n")]).unwrap();
    let refused = agent
        .run(context(&repository, "", ""), E2eTask::default())
        .await
        .unwrap_err();
    assert!(
        refused.message().contains(".agentic/project.yaml:2:1"),
        "{refused}"
    );
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    agent.stop().await;
}

#[tokio::test]
async fn cancelling_stops_the_app_and_everything_it_started() {
    let agent = ServedAgent::start().await;
    let mark = format!("cancelled-{}", std::process::id());
    let start = format!("[sh, -c, '(setsid sleep 300 {mark} &) ; echo up; python3 app.py {mark}']");
    // `sleep` refuses the mark; a second daemon keeps it in its command line.
    let start = start.replace(
        "setsid sleep 300",
        "setsid python3 -c \"import time; time.sleep(300)\"",
    );
    let yaml = description(&start, "60s", ENDPOINTS).replace("/health", "/broken");
    let repository = Repository::with_files(project(&yaml)).unwrap();
    let mut context = context(&repository, "", "");
    context.task_id = "to-be-cancelled".into();
    let request = ExecuteRequest {
        context: Some(context),
        task: Some(E2eTask::default()),
    };
    let mut stream = agent.client().execute(request).await.unwrap().into_inner();
    loop {
        let message = stream
            .message()
            .await
            .unwrap()
            .expect("it runs until it is cancelled");
        if format!("{message:?}").contains("request /broken") {
            break;
        }
        assert!(!matches!(
            message.payload,
            Some(execute_response::Payload::Result(_))
        ));
    }
    assert!(processes_with(&mark).len() >= 2);
    let cancel = CancelRequest {
        task_id: "to-be-cancelled".into(),
        ..CancelRequest::default()
    };
    let stopped = agent.client().cancel(cancel).await.unwrap().into_inner();
    assert!(stopped.stopped);
    assert_eq!(processes_with(&mark), Vec::<String>::new());
    agent.stop().await;
}
