//! Whether the project is an app, that is, starts and serves, and how. A start that is only detected is a
//! guess: agents treat one that does not work as a guess that was wrong.

use super::{Detected, Found, Language, View, node};
use crate::project::{description::Start, value::Argv};

/// Crates that serve HTTP or gRPC.
const RUST_SERVERS: [&str; 9] = [
    "axum",
    "actix-web",
    "rocket",
    "warp",
    "hyper",
    "tonic",
    "tiny_http",
    "poem",
    "salvo",
];

/// Packages that serve HTTP.
const NODE_SERVERS: [&str; 14] = [
    "express",
    "koa",
    "fastify",
    "@hapi/hapi",
    "next",
    "nuxt",
    "@nestjs/core",
    "restify",
    "polka",
    "hono",
    "http-server",
    "serve",
    "sirv-cli",
    "@remix-run/serve",
];

/// Files at the root that start Python apps by custom.
const PYTHON_ENTRIES: [&str; 5] = ["app.py", "main.py", "server.py", "wsgi.py", "asgi.py"];

/// Programs whose command in a Dockerfile also works in a checkout.
const DOCKER_PROGRAMS: [&str; 8] = [
    "python",
    "python3",
    "node",
    "npm",
    "uvicorn",
    "gunicorn",
    "flask",
    "hypercorn",
];

pub(super) fn start(view: &View<'_>, detected: &Detected) -> Option<Found<Start>> {
    let is = |language| {
        detected
            .languages
            .iter()
            .any(|found| found.value == language)
    };
    procfile(view)
        .or_else(|| dockerfile(view))
        .or_else(|| is(Language::Node).then(|| package_script(view)).flatten())
        .or_else(|| is(Language::Python).then(|| python(view)).flatten())
        .or_else(|| is(Language::Rust).then(|| rust(view)).flatten())
        .or_else(|| is(Language::Go).then(|| go(view)).flatten())
        .or_else(|| {
            detected
                .languages
                .is_empty()
                .then(|| static_site(view))
                .flatten()
        })
}

fn found(argv: &[&str], origin: impl Into<String>) -> Option<Found<Start>> {
    let argv = argv.iter().map(|argument| (*argument).to_owned()).collect();
    Some(Found {
        value: Start::command(Argv::parse(argv).ok()?),
        origin: origin.into(),
    })
}

/// A command line that needs the port as an argument. The text is ours; nothing is built into it.
fn with_port(script: &'static str, origin: impl Into<String>) -> Option<Found<Start>> {
    found(&["sh", "-c", script], origin)
}

/// A Procfile's lines are shell command lines by definition.
fn procfile(view: &View<'_>) -> Option<Found<Start>> {
    let text = view.text("Procfile")?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("web:"))?
        .trim();
    (!line.is_empty())
        .then(|| found(&["sh", "-c", line], "Procfile web"))
        .flatten()
}

/// The last `CMD` in exec form, of an image that says on which port it serves.
fn dockerfile(view: &View<'_>) -> Option<Found<Start>> {
    let text = view.text("Dockerfile")?;
    let instruction = |name: &str| {
        text.lines().rev().map(str::trim).find_map(|line| {
            let (word, rest) = line.split_once(char::is_whitespace)?;
            word.eq_ignore_ascii_case(name).then_some(rest.trim())
        })
    };
    instruction("EXPOSE")?;
    if instruction("ENTRYPOINT").is_some() {
        return None;
    }
    let command: Vec<String> = serde_json::from_str(instruction("CMD")?).ok()?;
    let program = command.first()?;
    if !DOCKER_PROGRAMS.contains(&program.as_str()) {
        return None;
    }
    // Images call it `python`; bare machines often have only `python3`.
    let mut argv: Vec<&str> = command.iter().map(String::as_str).collect();
    if argv[0] == "python" {
        argv[0] = "python3";
    }
    found(&argv, "Dockerfile CMD")
}

fn package_script(view: &View<'_>) -> Option<Found<Start>> {
    let package = view.json("package.json")?;
    let script = node::script(&package, "start")?;
    let watches = ["watch", " dev", "--dev", "storybook"]
        .iter()
        .any(|word| script.contains(word));
    let serves = node::depends_on(&package, &NODE_SERVERS)
        || script
            .split_whitespace()
            .filter(|word| {
                [".js", ".mjs", ".cjs"]
                    .iter()
                    .any(|end| word.ends_with(end))
            })
            .any(|file| {
                let file = file.trim_start_matches("./");
                view.text(file)
                    .is_some_and(|text| text.contains("createServer("))
            });
    (serves && !watches)
        .then(|| found(&["npm", "start"], "package.json scripts.start"))
        .flatten()
}

fn python(view: &View<'_>) -> Option<Found<Start>> {
    if view
        .text("manage.py")
        .is_some_and(|text| text.contains("django"))
    {
        let script = r#"exec python3 manage.py runserver --noreload "127.0.0.1:$PORT""#;
        return with_port(script, "manage.py");
    }
    let (file, text) = PYTHON_ENTRIES
        .iter()
        .find_map(|file| Some((*file, view.text(file)?)))?;
    if text.contains("HTTPServer(") && text.contains("PORT") {
        return found(&["python3", file], file);
    }
    // `app = Flask(…)`, `app = FastAPI(…)`: the variable that their runners look for.
    let makes = |class: &str| {
        text.lines()
            .any(|line| line.replace(' ', "").starts_with(&format!("app={class}(")))
    };
    if makes("Flask") {
        return match file {
            "app.py" => with_port(
                r#"exec python3 -m flask --app app run --port "$PORT""#,
                file,
            ),
            "main.py" => with_port(
                r#"exec python3 -m flask --app main run --port "$PORT""#,
                file,
            ),
            "server.py" => with_port(
                r#"exec python3 -m flask --app server run --port "$PORT""#,
                file,
            ),
            _ => with_port(
                r#"exec python3 -m flask --app wsgi run --port "$PORT""#,
                file,
            ),
        };
    }
    if makes("FastAPI") || makes("Starlette") {
        return match file {
            "app.py" => with_port(r#"exec python3 -m uvicorn app:app --port "$PORT""#, file),
            "main.py" => with_port(r#"exec python3 -m uvicorn main:app --port "$PORT""#, file),
            "server.py" => with_port(r#"exec python3 -m uvicorn server:app --port "$PORT""#, file),
            _ => with_port(r#"exec python3 -m uvicorn asgi:app --port "$PORT""#, file),
        };
    }
    None
}

/// One binary, in a package that depends on a server and reads its port.
fn rust(view: &View<'_>) -> Option<Found<Start>> {
    let manifest = view.toml("Cargo.toml")?;
    manifest.get("package")?;
    let depends = manifest
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .is_some_and(|table| RUST_SERVERS.iter().any(|name| table.contains_key(*name)));
    let main = view.text("src/main.rs")?;
    let serves = depends || main.contains("TcpListener");
    let more =
        view.files().any(|path| path.starts_with("src/bin/")) || manifest.contains_key("bin");
    let argv: &[&str] = if view.has("Cargo.lock") {
        &["cargo", "run", "--quiet", "--locked"]
    } else {
        &["cargo", "run", "--quiet"]
    };
    (serves && main.contains("PORT") && !more)
        .then(|| found(argv, "src/main.rs"))
        .flatten()
}

fn go(view: &View<'_>) -> Option<Found<Start>> {
    let text = view.text("main.go")?;
    let serves =
        text.contains("package main") && text.contains("ListenAndServe") && text.contains("PORT");
    serves
        .then(|| found(&["go", "run", "."], "main.go"))
        .flatten()
}

fn static_site(view: &View<'_>) -> Option<Found<Start>> {
    let script = r#"exec python3 -m http.server --bind 127.0.0.1 "$PORT""#;
    let public = r#"exec python3 -m http.server --bind 127.0.0.1 --directory public "$PORT""#;
    match view.first(&["index.html", "public/index.html"])? {
        "index.html" => with_port(script, "index.html"),
        file => with_port(public, file),
    }
}
