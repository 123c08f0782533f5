//! Runs real programs that misbehave and looks at what is left of them.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nix::{sys::signal::kill, unistd::Pid};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{Command, Ending, LogStream, ProcessError};

const LONG: Duration = Duration::from_mins(1);

fn sh(script: &str) -> Command {
    Command::new(["sh", "-c", script]).timeout(LONG)
}

/// Whether a process with this number is there and not only a zombie.
fn is_alive(pid: i32) -> bool {
    let zombie = || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
            stat.rsplit(')')
                .next()
                .unwrap()
                .trim()
                .starts_with(['Z', 'X'])
        })
    };
    kill(Pid::from_raw(pid), None).is_ok() && !zombie()
}

/// Waits for a script to write a process id into a file.
async fn pid_in(file: &Path) -> i32 {
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(text) = fs::read_to_string(file)
            && let Some(line) = text.strip_suffix('\n')
        {
            return line.trim().parse().unwrap();
        }
        assert!(
            Instant::now() < give_up,
            "{} was never written",
            file.display()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn assert_gone(pid: i32) {
    let give_up = Instant::now() + Duration::from_secs(5);
    while is_alive(pid) {
        assert!(Instant::now() < give_up, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn output_exit_code_and_arguments_are_kept() {
    let finished = sh("echo out; echo err >&2; exit 7").run().await.unwrap();
    assert_eq!(finished.ending, Ending::Exited(7));
    assert_eq!(finished.stdout.text(), "out\n");
    assert_eq!(finished.stderr.text(), "err\n");
    assert_eq!(finished.argv[0], "sh");
    assert_eq!(finished.left_behind_count, 0);
}

#[tokio::test]
async fn a_signal_is_told_from_an_exit() {
    let finished = sh("kill -SEGV $$").run().await.unwrap();
    assert_eq!(finished.ending, Ending::Signalled(11));
}

#[tokio::test]
async fn input_reaches_the_program_and_an_unread_one_harms_nobody() {
    let finished = Command::new(["cat"]).input(*b"hello").run().await.unwrap();
    assert_eq!(finished.stdout.text(), "hello");
    let unread = Command::new(["true"])
        .input(vec![0; 1 << 20])
        .run()
        .await
        .unwrap();
    assert!(unread.is_success());
}

#[tokio::test]
async fn lines_are_handed_on_with_their_stream() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let lines = Arc::clone(&lines);
        move |stream: LogStream, text: &str| lines.lock().unwrap().push((stream, text.to_owned()))
    };
    sh("echo one; echo two >&2")
        .sink(Arc::new(sink))
        .run()
        .await
        .unwrap();
    let mut lines = lines.lock().unwrap().clone();
    lines.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(
        lines,
        [
            (LogStream::Stdout, "one".into()),
            (LogStream::Stderr, "two".into())
        ]
    );
}

#[tokio::test]
async fn only_the_tail_of_endless_output_is_kept() {
    let finished = sh("yes 0123456789 | head -c 3000000; echo end")
        .capture_bytes(1000)
        .run()
        .await
        .unwrap();
    assert_eq!(finished.stdout.bytes.len(), 1000);
    assert!(finished.stdout.truncated);
    assert_eq!(finished.stdout.total_bytes, 3_000_004);
    assert!(finished.stdout.text().ends_with("end\n"));
}

#[tokio::test]
async fn the_environment_is_scrubbed_and_home_is_not_the_hosts() {
    let finished = Command::new(["env"])
        .environment("GIVEN", "yes")
        .run()
        .await
        .unwrap();
    let text = finished.stdout.text();
    // Cargo gives every test this variable, so it is in our own environment.
    assert!(!text.contains("CARGO_MANIFEST_DIR"), "{text}");
    assert!(text.contains("GIVEN=yes"), "{text}");
    assert!(text.contains("/agentic-home-"), "{text}");
    let home = text
        .lines()
        .find_map(|line| line.strip_prefix("HOME="))
        .unwrap();
    assert!(
        !Path::new(home).exists(),
        "the stand-in home outlives the run"
    );
}

#[tokio::test]
async fn a_program_is_told_the_trace_that_it_belongs_to() {
    use opentelemetry::trace::TracerProvider as _;
    use tracing::Instrument as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    let traces = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer("test"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let span = tracing::info_span!("task");
    let outer = contracts::trace::traceparent(&span);
    let finished = async { Command::new(["env"]).run().await.unwrap() }
        .instrument(span)
        .await;
    let text = finished.stdout.text();
    let parent = text
        .lines()
        .find_map(|line| line.strip_prefix("TRACEPARENT="))
        .expect("there is a trace");
    let part = |text: &str, index: usize| text.split('-').nth(index).unwrap().to_owned();
    assert_eq!(part(parent, 1), part(&outer, 1), "the same trace");
    assert_ne!(part(parent, 2), part(&outer, 2), "a span of its own");
}

#[tokio::test]
async fn missing_tools_folders_and_permissions_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let missing = Command::new(["no-such-tool-here"]).run().await.unwrap_err();
    assert!(missing.is_tool_missing());
    assert!(missing.to_string().contains("no-such-tool-here"));

    fs::write(folder.path().join("plain"), "text").unwrap();
    let plain = Command::new(["./plain"])
        .directory(folder.path())
        .run()
        .await
        .unwrap_err();
    assert!(
        matches!(plain, ProcessError::NotExecutable { .. }),
        "{plain}"
    );

    let script = folder.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    let script = Command::new(["./script"])
        .directory(folder.path())
        .run()
        .await
        .unwrap_err();
    assert!(
        matches!(script, ProcessError::InterpreterNotFound { .. }),
        "{script}"
    );

    let nowhere = Command::new(["true"])
        .directory("/no/such/folder")
        .run()
        .await
        .unwrap_err();
    assert!(
        matches!(nowhere, ProcessError::DirectoryMissing { .. }),
        "{nowhere}"
    );

    let nothing = Command::new(Vec::<String>::new()).run().await.unwrap_err();
    assert!(matches!(nothing, ProcessError::EmptyArgv), "{nothing}");
}

#[tokio::test]
async fn a_deadline_kills_children_that_ignore_requests() {
    let folder = TempDir::new().unwrap();
    let started = Instant::now();
    let finished =
        sh("trap '' TERM; (trap '' TERM; sh -c 'echo $PPID' > child; sleep 300) & sleep 300")
            .directory(folder.path())
            .timeout(Duration::from_millis(500))
            .grace(Duration::from_millis(200))
            .run()
            .await
            .unwrap();
    assert_eq!(finished.ending, Ending::TimedOut);
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(!is_alive(pid_in(&folder.path().join("child")).await));
}

#[tokio::test]
async fn a_program_may_tidy_up_within_its_grace() {
    let finished = sh("trap 'echo tidy; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
        .timeout(Duration::from_millis(500))
        .run()
        .await
        .unwrap();
    assert_eq!(finished.ending, Ending::TimedOut);
    assert!(finished.stdout.text().contains("tidy"));
}

#[tokio::test]
async fn cancelling_kills_daemons_that_left_the_session() {
    let folder = TempDir::new().unwrap();
    let cancel = CancellationToken::new();
    let running = sh(
        "(setsid sh -c 'echo $$ > daemon.new; mv daemon.new daemon; exec sleep 300' \
         >/dev/null 2>&1 </dev/null &) ; sleep 300",
    )
    .directory(folder.path())
    .cancel(cancel.clone())
    .start()
    .unwrap();
    let daemon = pid_in(&folder.path().join("daemon")).await;
    assert!(is_alive(daemon));
    cancel.cancel();
    assert_eq!(running.wait().await.unwrap().ending, Ending::Cancelled);
    assert!(!is_alive(daemon));
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_counted_and_killed() {
    let folder = TempDir::new().unwrap();
    let finished = sh("setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $! > daemon; exit 0")
        .directory(folder.path())
        .run()
        .await
        .unwrap();
    assert_eq!(finished.ending, Ending::Exited(0));
    assert_eq!(finished.left_behind_count, 1);
    assert!(!is_alive(pid_in(&folder.path().join("daemon")).await));
}

#[tokio::test]
async fn a_child_that_keeps_the_pipe_open_does_not_hold_up_the_end() {
    let started = Instant::now();
    let finished = sh("sleep 300 & echo done").run().await.unwrap();
    assert_eq!(finished.stdout.text(), "done\n");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_child_that_cleared_its_environment_and_session_is_found_by_parentage() {
    let folder = TempDir::new().unwrap();
    let running = sh("env -i setsid sh -c 'echo $$ > child; exec sleep 300' & sleep 300")
        .directory(folder.path())
        .start()
        .unwrap();
    let child = pid_in(&folder.path().join("child")).await;
    running.stop(Duration::from_secs(5)).await.unwrap();
    assert!(!is_alive(child));
}

#[tokio::test]
async fn dropping_a_run_kills_its_tree() {
    let folder = TempDir::new().unwrap();
    let running = sh("trap '' TERM; setsid sleep 300 & echo $! > child; wait")
        .directory(folder.path())
        .start()
        .unwrap();
    let (leader, child) = (
        running.id().cast_signed(),
        pid_in(&folder.path().join("child")).await,
    );
    assert!(is_alive(leader));
    drop(running);
    assert_gone(leader).await;
    assert_gone(child).await;
}

#[tokio::test]
async fn giving_up_on_a_run_kills_its_tree() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("leader");
    let run = sh("echo $$ > leader; exec sleep 300")
        .directory(folder.path())
        .run();
    let leader = tokio::select! {
        _ = run => panic!("it cannot be over"),
        leader = pid_in(&file) => leader,
    };
    assert_gone(leader).await;
}

#[tokio::test]
async fn a_stopped_program_says_how_it_really_ended_and_shows_its_log() {
    let running = sh("trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done")
        .start()
        .unwrap();
    while !running.last_lines(5).contains("ready") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(running.finished().is_none());
    let finished = running.stop(Duration::from_secs(20)).await.unwrap();
    assert_eq!(finished.ending, Ending::Exited(4));
    assert!(finished.last_lines(3).starts_with("ready"));
    // Waiting again tells the same.
    assert_eq!(running.wait().await.unwrap().ending, Ending::Exited(4));
}

#[tokio::test]
async fn a_program_that_left_is_known_to_have_left_before_its_children_are_gone() {
    let folder = TempDir::new().unwrap();
    let running = sh("setsid sleep 300 & echo $! > child; exit 0")
        .directory(folder.path())
        .start()
        .unwrap();
    let child = pid_in(&folder.path().join("child")).await;
    while !running.has_left() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(running.finished().is_none() && is_alive(child));
    assert_eq!(running.wait().await.unwrap().left_behind_count, 1);
}

#[tokio::test]
async fn a_run_inside_a_run_belongs_to_both() {
    let inner =
        "AGENTIC_PROCESS_ID=$AGENTIC_PROCESS_ID:inner setsid sh -c 'echo $$ > child; sleep 300' &";
    let folder = TempDir::new().unwrap();
    let running = sh(&format!("({inner}) ; sleep 300"))
        .directory(folder.path())
        .start()
        .unwrap();
    let child = pid_in(&folder.path().join("child")).await;
    running.stop(Duration::from_millis(200)).await.unwrap();
    assert!(!is_alive(child));
}
