//! One mesh for all tests that need none of their own: started by the first that wants it, stopped when
//! the test binary ends, however that ends.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::{Place, finished, repairing, waiting};

// A static is never dropped. The shell sees the end of this process at its standard input; the rest
// of standard output is closed, so that the end of a mesh that does not start is seen, too.
const KEEPER: &str = r#"
"$@" & mesh=$!
exec >&-
cat > /dev/null
kill -TERM $mesh
wait $mesh
rm -rf "$0"
"#;

struct Shared {
    place: Place,
    _keeper: Child,
}

static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();

/// Where the mesh runs.
pub fn place() -> Result<&'static Place> {
    let shared = SHARED.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    match shared {
        Ok(shared) => Ok(&shared.place),
        Err(error) => Err(anyhow!("{error}")),
    }
}

/// A workflow of it, as every client gets it.
pub async fn workflow(name: &str) -> Result<Value> {
    let ended = place()?.run(&["show", name, "--json"]).await?;
    ensure!(ended.code == 0, "{ended:?}");
    finished(&ended)
}

fn start() -> Result<Shared> {
    let place = Place::new()?;
    let data = place.data();
    let folder = data.parent().context("a data folder has a parent")?;
    std::fs::create_dir_all(&data)?;
    let log = folder.join("mesh.log");
    let cassette = folder.join("cassette");
    record(&cassette)?;
    let cassette = cassette.to_str().context("a path that is text")?;
    let up = place.up(&["--json", "--cassette", cassette]);
    let up = up.as_std();
    let mut keeper = Command::new("/bin/sh")
        .args(["-c", KEEPER])
        .arg(folder)
        .arg(up.get_program())
        .args(up.get_args())
        .env_clear()
        .envs(
            up.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?)
        .spawn()?;
    let out = keeper.stdout.take().context("no standard output")?;
    let mut ready = String::new();
    BufReader::new(out).read_line(&mut ready)?;
    ensure!(
        !ready.is_empty(),
        "the mesh did not start: {}",
        std::fs::read_to_string(&log)?
    );
    Ok(Shared {
        place,
        _keeper: keeper,
    })
}

// Everything that a model does in these tests. In a thread: whoever comes first is in a runtime already.
fn record(cassette: &Path) -> Result<()> {
    let cassette = cassette.to_owned();
    let recording = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            repairing::record(&cassette).await?;
            waiting::record(&cassette).await
        })
    });
    recording
        .join()
        .map_err(|_| anyhow!("recording panicked"))?
}
