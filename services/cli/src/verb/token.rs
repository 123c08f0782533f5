//! `agentic token`: who may call the mesh.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use contracts::orchestrator::{
    CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, Role, Token,
};
use contracts::wire_time;
use orchestrator::access::role::role_name;

use crate::error::Error;
use crate::exit::Exit;
use crate::mesh::{Mesh, call, secret_file};
use crate::output::{Output, Table, clean};
use crate::pages::{self, Page};
use crate::surroundings::Surroundings;
use crate::{request_id, words};

const AFTER_HELP: &str = "\
Examples:
  agentic token create ada --role operator --role approver
  agentic token create chat-bot --role operator --namespace team-a --lifetime 30d --output bot.token
  agentic token list
  agentic token revoke 0198c0de-0000-7000-8000-000000000000";

const CREATE_HELP: &str = "\
Examples:
  agentic token create ada --role operator --output ada.token
  agentic token create build-server --role operator --namespace team-a --lifetime 30d > server.token";

const LIST_HELP: &str = "\
Examples:
  agentic token list
  agentic token list --all --json";

const REVOKE_HELP: &str = "\
Examples:
  agentic token revoke 0198c0de-0000-7000-8000-000000000000";

const LIMIT: usize = 100_000;

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct TokenArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a token. Its secret is shown this once, and kept nowhere.
    #[command(after_help = CREATE_HELP)]
    Create(CreateArgs),
    /// List tokens, without their secrets.
    #[command(visible_alias = "ls", after_help = LIST_HELP)]
    List {
        /// Those that ran out or were revoked, too.
        #[arg(long)]
        all: bool,
    },
    /// End a token.
    #[command(after_help = REVOKE_HELP)]
    Revoke {
        /// Id.
        token: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Who will hold it; this name stands in events, decisions and the audit log.
    name: String,
    /// What it may do; several times for several roles.
    #[arg(long = "role", value_enum, required = true)]
    roles: Vec<RoleName>,
    /// Namespace that it may name, or `*`; several times for several. Left out: `default`.
    #[arg(long = "allow-namespace", value_name = "NAME")]
    namespaces: Vec<String>,
    /// How long it is good for, at most 366d.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    /// File for the secret, which nobody else may read; it must not be there yet. Left out: it is printed.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// Reads everything.
    Viewer,
    /// Submits and steers work.
    Operator,
    /// Makes decisions.
    Approver,
    /// Everything that people do.
    Admin,
    /// Connects as an agent.
    Agent,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Approver => Self::Approver,
            RoleName::Admin => Self::Admin,
            RoleName::Agent => Self::Agent,
        }
    }
}

/// Makes, lists or ends tokens.
pub async fn run(args: TokenArgs, surroundings: &Surroundings) -> Result<Exit, Error> {
    let output = &surroundings.output;
    let mesh = surroundings.mesh()?;
    match args.what {
        What::Create(args) => create(&mesh, args, output).await,
        What::List { all } => list(&mesh, all, output).await,
        What::Revoke { token } => {
            let request = RevokeTokenRequest { token_id: token };
            let answer = call!(mesh, tokens.revoke_token(request))?;
            let token = answer.token.unwrap_or_default();
            if output.is_json() {
                output.message(&token)?;
            } else {
                output.note(format!(
                    "the token of {} is good for nothing any more",
                    clean(&token.name)
                ));
            }
            Ok(Exit::Succeeded)
        }
    }
}

async fn create(mesh: &Mesh, args: CreateArgs, output: &Output) -> Result<Exit, Error> {
    let file = args
        .output
        .as_deref()
        .map(secret_file::reserve)
        .transpose()?;
    let request = CreateTokenRequest {
        request_id: request_id::fresh(),
        name: args.name,
        roles: args
            .roles
            .into_iter()
            .map(|role| Role::from(role).into())
            .collect(),
        namespaces: args.namespaces,
        lifetime: Some(wire_time::wire_duration(args.lifetime)),
    };
    let answer = call!(mesh, tokens.create_token(request))?;
    let token = answer.token.clone().unwrap_or_default();
    if answer.secret.is_empty() {
        return Err(Error::Failed(format!(
            "token {} was made, but the answer with its secret was lost on the way: revoke it, and make another one",
            clean(&token.token_id)
        )));
    }
    if let Some(file) = file {
        file.write(&answer.secret)?;
    } else if output.is_json() {
        output.message(&answer)?;
        return Ok(Exit::Succeeded);
    } else {
        output.line(&answer.secret)?;
    }
    output.note(format!(
        "token {} of {}: {}, until {}",
        clean(&token.token_id),
        clean(&token.name),
        roles(&token),
        words::moment(token.expire_time),
    ));
    Ok(Exit::Succeeded)
}

async fn list(mesh: &Mesh, all: bool, output: &Output) -> Result<Exit, Error> {
    let mut table = Table::new(["id", "name", "roles", "namespaces", "until", "made by"]);
    pages::read(
        LIMIT,
        |size, token| page(mesh, all, size, token),
        |token| {
            if output.is_json() {
                return output.message(&token);
            }
            let until = match (token.revoke_time, token.expire_time) {
                (Some(revoked), _) => format!("revoked {}", words::moment(Some(revoked))),
                (None, Some(expires)) => words::moment(Some(expires)),
                (None, None) => "revoked".to_owned(),
            };
            table.row([
                clean(&token.token_id),
                clean(&token.name),
                roles(&token),
                clean(&token.namespaces.join(", ")),
                until,
                clean(&token.creator),
            ]);
            Ok(())
        },
    )
    .await?;
    if !output.is_json() {
        for line in table.lines() {
            output.line(line)?;
        }
    }
    Ok(Exit::Succeeded)
}

async fn page(mesh: &Mesh, all: bool, size: i32, token: String) -> Result<Page<Token>, Error> {
    let request = ListTokensRequest {
        page_size: size,
        page_token: token,
        include_ended: all,
    };
    let answer = call!(mesh, tokens.list_tokens(request))?;
    Ok(Page {
        items: answer.tokens,
        next: answer.next_page_token,
    })
}

fn roles(token: &Token) -> String {
    let names: Vec<_> = token.roles().map(role_name).collect();
    names.join(", ")
}
