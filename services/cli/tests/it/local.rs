//! What needs no mesh: wrong command lines and variables, no mesh at all, projects, completions.

use anyhow::Result;
use serde_json::json;

use crate::command::{agentic, end};

async fn alone(arguments: &[&str], variables: &[(&str, &str)]) -> Result<crate::command::Ended> {
    let home = tempfile::tempdir()?;
    let mut command = agentic(home.path());
    command.args(arguments).envs(variables.iter().copied());
    end(command).await
}

#[tokio::test]
async fn wrong_command_lines_end_with_2() -> Result<()> {
    for arguments in [
        vec!["rnu"],
        vec!["run", "--nmae", "x"],
        vec!["run", "--priority", "urgent"],
        vec!["run", "--label", "novalue"],
        vec!["run", "--set", "noequals"],
        vec!["run", "--timeout", "soon"],
        vec!["run", "--type", "change"],
        vec!["run", "--type", "app"],
        vec![
            "run",
            "--repository",
            "/no/../such",
            "--requirements",
            "@/no/such/file",
        ],
        vec!["watch"],
        vec!["watch", "x", "--after", "-1"],
        vec!["revise", "x"],
        vec!["completions", "klingon"],
        vec!["list", "--orchestrator", "localhost:50051"],
        vec![],
    ] {
        let ended = alone(&arguments, &[]).await?;
        let is_file = arguments.contains(&"@/no/such/file");
        assert_eq!(
            ended.code,
            if is_file { 1 } else { 2 },
            "{arguments:?}: {ended:?}"
        );
        assert!(!ended.err.is_empty(), "{arguments:?}");
    }
    Ok(())
}

#[tokio::test]
async fn wrong_variables_end_with_64() -> Result<()> {
    for (name, value, expected) in [
        (
            "AGENTIC_ORCHESTRATR_URL",
            "http://x",
            "AGENTIC_ORCHESTRATOR_URL",
        ),
        (
            "AGENTIC_ORCHESTRATOR_URL",
            "nowhere",
            "http://127.0.0.1:50051",
        ),
        ("AGENTIC_TOKEN_FILE", "/no/such/file", "AGENTIC_TOKEN_FILE"),
        ("AGENTIC_LOG_FORMAT", "runes", "runes"),
        ("AGENTIC_LOG", "a=b=c", "log filter"),
    ] {
        let mut variables = vec![(name, value)];
        if name == "AGENTIC_TOKEN_FILE" {
            variables.push(("AGENTIC_ORCHESTRATOR_URL", "http://127.0.0.1:1"));
        }
        let ended = alone(&["list"], &variables).await?;
        assert_eq!(ended.code, 64, "{name}: {ended:?}");
        assert!(ended.err.contains(expected), "{name}: {}", ended.err);
    }
    Ok(())
}

#[tokio::test]
async fn variables_of_the_services_are_known() -> Result<()> {
    for name in [
        "AGENTIC_ADVERTISE",
        "AGENTIC_LISTEN",
        "AGENTIC_COMMITTER_NAME",
        "AGENTIC_DATABASE_URL",
    ] {
        let ended = alone(&["list"], &[(name, "x")]).await?;
        assert_eq!(ended.code, 4, "{name}: {ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn no_mesh_ends_with_4_and_says_what_to_do() -> Result<()> {
    let ended = alone(&["list"], &[]).await?;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.err.contains("agentic up"), "{}", ended.err);
    // Nobody listens on a port that was just free.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    drop(listener);
    let ended = alone(&["--orchestrator", &url, "list"], &[]).await?;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.err.contains(&url), "{}", ended.err);
    assert!(ended.err.contains("refused"), "{}", ended.err);
    Ok(())
}

#[tokio::test]
async fn help_and_version_end_with_0() -> Result<()> {
    for arguments in [
        vec!["--help"],
        vec!["--version"],
        vec!["run", "--help"],
        vec!["help", "artifacts", "download"],
    ] {
        let ended = alone(&arguments, &[]).await?;
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        assert!(!ended.out.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn completions_are_scripts() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let ended = alone(&["completions", shell], &[]).await?;
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.out.contains("agentic") && ended.out.contains("artifacts"));
    }
    Ok(())
}

#[tokio::test]
async fn a_project_is_explained() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("package.json"),
        r#"{"scripts": {"test": "node --test"}}"#,
    )?;
    let path = folder.path().to_str().unwrap();
    let ended = alone(&["project", "explain", path], &[]).await?;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("package.json"), "{}", ended.out);
    let ended = alone(&["project", "explain", path, "--json"], &[]).await?;
    assert_eq!(ended.json()?[0]["kind"], json!("library"));

    std::fs::create_dir(folder.path().join(".agentic"))?;
    std::fs::write(
        folder.path().join(".agentic/project.yaml"),
        "version: 1\nchekcs: {}\n",
    )?;
    let ended = alone(&["project", "explain", path], &[]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("checks"), "{}", ended.err);
    let ended = alone(&["project", "explain", "/no/such/folder"], &[]).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn the_doctor_says_what_is_missing_and_how_to_get_it() -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut command = agentic(home.path());
    command.env("PATH", home.path()).args(["doctor", "--json"]);
    let ended = end(command).await?;
    assert_eq!(ended.code, 1, "{ended:?}");
    let lines = ended.json()?;
    let git = lines
        .iter()
        .find(|line| line["name"] == json!("git"))
        .unwrap();
    assert_eq!(git["found"], json!(false));
    assert_eq!(git["required"], json!(true));
    assert!(git["howToGet"].as_str().unwrap().contains("install git"));
    Ok(())
}
