//! Secrets are planted in every input of a mesh of real processes that work with all their logs on: no output shows
//! one, in whatever form.

mod bed;
mod search;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use testkit::repository::{Commit, Repository};
use testkit::requirement::{Thing, is_met};

use crate::mesh::get;
use crate::shop;
use bed::Bed;

// Nobody knows that it is a secret, and the app prints it: what is searched is really searched.
const CONTROL: &str = "control-value-that-nobody-hides";

// An app that says all it knows, in all the ways that it can.
const TELLING: &str = r#"
import base64, json, sys, urllib.parse
token = os.environ["TOKEN"]
for behind in range(3):
    told = ("x" * behind + token).encode()
    print("base64", base64.b64encode(told).decode(), flush=True)
    print("base64url", base64.urlsafe_b64encode(told).decode(), file=sys.stderr, flush=True)
print("json", json.dumps({"token": token}), json.dumps(json.dumps(token)), flush=True)
print("url", urllib.parse.quote(token), urllib.parse.quote_plus(token), flush=True)
print("text", token, "x" * 65530 + token, flush=True)
print("all", dict(os.environ), flush=True)
"#;

fn project(name: &str) -> Result<Repository> {
    let description = format!(
        "\
version: 1
app:
  start: {{command: [python3, -m, shop, {name}], port_variable: PORT, secrets: [TOKEN]}}
  ready: {{http: {{path: /health, status: 200}}, within: 60s}}
  stop_within: 2s
  endpoints: [{{method: GET, path: /, status: 200, contains: shop}}]
checks:
  tests: {{command: [python3, -m, unittest, discover, -v], timeout: 60s}}
"
    );
    let control = STANDARD.encode(format!("y{CONTROL}"));
    let first = format!("{TELLING}\nprint(\"control {control}\", flush=True)");
    let tests = "import os, unittest\nimport shop\n\n\nclass Price(unittest.TestCase):\n    def test_price(self):\n        \
                 print(dict(os.environ), flush=True)\n        self.assertEqual(shop.price(), 2)\n";
    let mut repository = Repository::empty()?;
    repository.commit(
        Commit::on("main")
            .message("Begin")
            .write(".agentic/project.yaml", description)
            .write("shop/__init__.py", shop::library(""))
            .write("shop/__main__.py", shop::server(&first))
            .write("test_shop.py", tests),
    )?;
    repository.commit(
        Commit::on("change")
            .from("main")
            .message("Say so")
            .write("shop/__init__.py", shop::library("# A shop.")),
    )?;
    Ok(repository)
}

async fn work(bed: &mut Bed, name: &str) -> Result<()> {
    let repository = project(name)?;
    let url = repository.url();
    let run = [
        "run",
        "--type",
        "change",
        "--repository",
        &url,
        "--source",
        "change",
        "--target",
        "main",
        "--name",
        name,
        "--no-input",
        "--json",
    ];
    let ended = bed.say("ada.token", &run).await?;
    ensure!(ended.code == 0, "{} {}", ended.out, ended.err);
    // Refused, and nothing of it is kept.
    let password = bed.value("password in a repository's URL");
    for url in [
        format!("https://somebody:{password}@127.0.0.1:1/shop.git"),
        format!("https://{password}@127.0.0.1:1/shop.git"),
        format!("ssh://git:{password}@127.0.0.1:1/shop.git"),
    ] {
        let mut other = run;
        other[4] = &url;
        let refused = bed.say("ada.token", &other).await?;
        ensure!(refused.code == 2, "{refused:?}");
        ensure!(refused.err.contains("credential"), "{refused:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_any_input_is_in_any_output() -> Result<()> {
    let things = [Thing::Git, Thing::Python, Thing::Redis, Thing::Rotel];
    if !things.into_iter().all(is_met) {
        return Ok(());
    }
    let mut bed = Bed::start().await?;
    let file = bed.path("ada.token");
    let create = [
        "token", "create", "ada", "--role", "operator", "--output", &file,
    ];
    let made = bed.say("admin.token", &create).await?;
    ensure!(made.code == 0, "{made:?}");
    let ada = std::fs::read_to_string(&file)?.trim().to_owned();
    bed.planted.push(("token of a person", ada));
    let name = shop::unique("secrets");
    work(&mut bed, &name).await?;

    for arguments in [
        &["events", &name, "--json"][..],
        &["logs", &name],
        &["show", &name, "--json"],
        &["artifacts", "list", &name, "--json"],
        &["list", "--json"],
    ] {
        let ended = bed.say("ada.token", arguments).await?;
        ensure!(ended.code == 0, "{arguments:?}: {ended:?}");
    }
    for arguments in [
        &["audit", "export"][..],
        &["token", "list", "--json"],
        &["agents", "--json"],
    ] {
        let ended = bed.say("admin.token", arguments).await?;
        ensure!(ended.code == 0, "{arguments:?}: {ended:?}");
    }
    let (status, metrics) = get(&format!("{}/metrics", bed.http)).await?;
    ensure!(status == 200, "{metrics}");
    let shared = metrics
        .lines()
        .find(|line| line.starts_with("agentic_rate_limit_shared"));
    ensure!(
        shared.is_some_and(|line| line.ends_with(" 1")),
        "{shared:?}"
    );
    bed.outputs.add("metrics", metrics.as_bytes());
    bed.collect().await?;

    assert_eq!(bed.outputs.empty(), Vec::<&str>::new());
    // The apps had their secrets, and told them.
    assert!(bed.outputs.says("artifacts", "[secret TOKEN]")?);
    assert!(bed.outputs.says("data", "[secret development/TOKEN]")?);
    // Of each kind of telemetry there was some.
    for said in ["Span #", "Metric #", "LogRecord #"] {
        assert!(bed.outputs.says("telemetry", said)?, "no {said}");
    }
    let control = bed.outputs.find(CONTROL)?;
    for place in ["artifacts", "data", "agentic logs"] {
        let found = control.iter().find(|found| found.starts_with(place));
        found.with_context(|| format!("{place} was not searched: {control:?}"))?;
    }
    let mut shown = Vec::new();
    for (name, value) in &bed.planted {
        let places = bed.outputs.find(value)?;
        shown.extend(
            places
                .into_iter()
                .map(|place| json!([name, place]).to_string()),
        );
    }
    assert!(shown.is_empty(), "{}", shown.join("\n"));
    Ok(())
}
