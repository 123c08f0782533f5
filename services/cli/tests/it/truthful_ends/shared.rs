//! One mesh for all tests of the module: started by the first that wants it, stopped when the test
//! binary ends, however that ends.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

use crate::mesh::Place;

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

fn start() -> Result<Shared> {
    let place = Place::new()?;
    let data = place.data();
    let folder = data.parent().context("a data folder has a parent")?;
    std::fs::create_dir_all(&data)?;
    let log = folder.join("mesh.log");
    let up = place.up(&["--json"]);
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
