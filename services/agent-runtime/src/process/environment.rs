//! What a child process may know of the machine: an allow-list of variables, the folders of toolchains,
//! and where programs are found. It refuses to pass on anything it does not name.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::ProcessError;

/// Carries the identity of a run into every descendant, however detached. Nested runs append to it.
pub(super) const MARKER_VARIABLE: &str = "AGENTIC_PROCESS_ID";

/// Used where the host has no `PATH`.
const FALLBACK_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Inherited as they are: locale, time zone, temporary folder, certificates.
const INHERITED: &[&str] = &[
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];

/// Folders of toolchains; where the variable is not set, the usual place under the real home, if it exists.
const TOOLCHAINS: &[(&str, &str)] = &[
    ("CARGO_HOME", ".cargo"),
    ("RUSTUP_HOME", ".rustup"),
    ("PYENV_ROOT", ".pyenv"),
    ("NVM_DIR", ".nvm"),
    ("VOLTA_HOME", ".volta"),
    ("GOROOT", ""),
    ("GOPATH", "go"),
    ("GOCACHE", ".cache/go-build"),
    ("JAVA_HOME", ""),
    ("DOTNET_ROOT", ""),
];

/// Inherited only by steps that may use the network.
const NETWORK: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "GOPROXY",
    "GONOSUMDB",
    "GOFLAGS",
    "GOSUMDB",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_CONFIG_FILE",
    "UV_INDEX_URL",
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
];

/// The variables a child starts with, before what its caller adds.
pub(super) fn scrubbed(home: &Path, network: bool, marker: &str) -> BTreeMap<OsString, OsString> {
    let mut variables = BTreeMap::new();
    variables.insert("PATH".into(), FALLBACK_PATH.into());
    variables.insert("LANG".into(), "C.UTF-8".into());
    let inherited = INHERITED
        .iter()
        .chain(if network { NETWORK } else { &[] })
        .filter_map(|name| Some((*name, env::var_os(name)?)));
    for (name, value) in inherited {
        variables.insert(name.into(), value);
    }
    let real_home = env::var_os("HOME").map(PathBuf::from);
    for (name, usual) in TOOLCHAINS {
        let at_usual_place = || {
            let folder = real_home.as_ref()?.join(usual);
            (!usual.is_empty() && folder.is_dir()).then(|| folder.into_os_string())
        };
        if let Some(folder) = env::var_os(name).or_else(at_usual_place) {
            variables.insert(name.into(), folder);
        }
    }
    variables.insert("HOME".into(), home.into());
    // Nothing may wait for an answer on a terminal that is not there.
    variables.insert("GIT_TERMINAL_PROMPT".into(), "0".into());
    variables.insert("TERM".into(), "dumb".into());
    variables.insert(MARKER_VARIABLE.into(), nested_marker(marker));
    let parent = contracts::trace::traceparent(&tracing::Span::current());
    if !parent.is_empty() {
        variables.insert("TRACEPARENT".into(), parent.into());
    }
    variables
}

/// A run inside a run carries both identities, so that the outer one still finds its descendants.
fn nested_marker(marker: &str) -> OsString {
    match env::var_os(MARKER_VARIABLE) {
        Some(mut outer) if !outer.is_empty() => {
            outer.push(":");
            outer.push(marker);
            outer
        }
        Some(_) | None => marker.into(),
    }
}

/// This process's `PATH` with one more folder, which is searched first.
pub fn path_with(folder: &Path) -> OsString {
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_else(|| FALLBACK_PATH.into()));
    path
}

/// Where a program is, looked up in this process's `PATH` as a run of it would.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let search = env::var_os("PATH").unwrap_or_else(|| FALLBACK_PATH.into());
    resolve(OsStr::new(program), &search, Path::new("/")).ok()
}

/// The file that `program` stands for in `search`, or from `directory` when it contains a slash.
pub(super) fn resolve(
    program: &OsStr,
    search: &OsStr,
    directory: &Path,
) -> Result<PathBuf, ProcessError> {
    let named = program.to_string_lossy().into_owned();
    if named.contains('/') {
        let path = directory.join(program);
        return match fs::metadata(&path) {
            Err(_) => Err(ProcessError::ProgramNotFound { program: named }),
            Ok(found) if is_executable(&found) => Ok(path),
            Ok(_) => Err(ProcessError::NotExecutable {
                program: named,
                path,
            }),
        };
    }
    let mut present = None;
    for folder in env::split_paths(search) {
        // An empty or relative entry would make the meaning depend on the checkout.
        if named.is_empty() || !folder.is_absolute() {
            continue;
        }
        let path = folder.join(program);
        match fs::metadata(&path) {
            Ok(found) if is_executable(&found) => return Ok(path),
            Ok(found) if found.is_file() => present = present.or(Some(path)),
            Ok(_) | Err(_) => {}
        }
    }
    match present {
        Some(path) => Err(ProcessError::NotExecutable {
            program: named,
            path,
        }),
        None => Err(ProcessError::ProgramNotFound { program: named }),
    }
}

fn is_executable(found: &fs::Metadata) -> bool {
    found.is_file() && found.permissions().mode() & 0o111 != 0
}
