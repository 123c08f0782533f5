//! Makes a new cluster with its role and database. The cluster takes its final name only when it is complete, so that a process
//! killed half-way leaves nothing that looks like one.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::{
    DATABASE, Durability, ROLE,
    account::Account,
    binaries::Binaries,
    error::Error,
    layout::{Layout, make_private},
    log,
};

/// Making a cluster takes about a second; a disk that is slower than this is broken.
const STEP_WITHIN: Duration = Duration::from_mins(2);

/// Makes the cluster.
pub(super) async fn initialise(
    layout: &Layout,
    binaries: &Binaries,
    account: Option<&Account>,
    durability: Durability,
) -> Result<(), Error> {
    let new = layout.new_cluster();
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::folder("remove the unfinished", new)(error));
        }
        Ok(()) | Err(_) => {}
    }
    make_private(&new, account)?;

    let initdb = binaries.program("initdb");
    let mut command = Command::new(&initdb);
    command.args([
        "-A",
        "trust",
        "-U",
        ROLE,
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "-D",
    ]);
    run(command.arg(&new), account, "").await?;

    // The single-user server needs no socket and no client program.
    let mut command = Command::new(binaries.program("postgres"));
    command
        .args(["--single", "-D"])
        .arg(&new)
        .args(["-c", "exit_on_error=on", "postgres"]);
    run(
        &mut command,
        account,
        &format!("CREATE DATABASE {DATABASE}\n"),
    )
    .await?;

    if durability == Durability::Durable {
        let mut command = Command::new(&initdb);
        run(command.arg("--sync-only").arg("-D").arg(&new), account, "").await?;
    }
    fs::rename(&new, layout.cluster()).map_err(Error::folder("name", layout.cluster()))?;
    if let Some(home) = layout.cluster().parent() {
        sync(home).map_err(Error::folder("flush", home))?;
    }
    Ok(())
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

async fn run(command: &mut Command, account: Option<&Account>, input: &str) -> Result<(), Error> {
    let program = Path::new(command.as_std().get_program()).to_path_buf();
    let failed = |status: String, output: String| Error::Initialise {
        program: program.clone(),
        status,
        output,
    };
    if let Some(account) = account {
        account.lend_to(command);
    }
    let mut child = command
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| Error::Run {
            program: program.clone(),
            source,
        })?;
    let written = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that reads nothing closes its end; how it ends says whether that was right.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = timeout(STEP_WITHIN, written)
        .await
        .map_err(|_| failed(format!("no end within {STEP_WITHIN:?}"), String::new()))?
        .map_err(|source| Error::Run {
            program: program.clone(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(failed(
        output.status.to_string(),
        log::last_lines(&String::from_utf8_lossy(&said)),
    ))
}
