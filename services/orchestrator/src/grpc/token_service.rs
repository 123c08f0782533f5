//! `TokenService`.

use std::time::{Duration, SystemTime};

use tonic::{Request, Response, Status, async_trait};

use contracts::error::Error;
use contracts::error_reason::ErrorReason;
use contracts::id::TokenId;
use contracts::orchestrator::token_service_server::TokenService as Service;
use contracts::orchestrator::{
    CreateTokenRequest, CreateTokenResponse, ListTokensRequest, ListTokensResponse,
    RevokeTokenRequest, RevokeTokenResponse, Role, Token,
};
use contracts::parse::Fields;
use contracts::wire_time;

use super::{actor, page_token, read_page, request_row, store_error};
use crate::access::Tokens;
use crate::access::audit::Subject;
use crate::access::identity::Namespaces;
use crate::access::role::Roles;
use crate::access::secret::Secret;
use crate::engine::Engine;
use crate::engine::submit::digest;
use crate::store::tokens::{self, TokenRow};
use crate::store::{StoreError, requests};

// Tokens are the mesh's, not a namespace's.
const NAMESPACE: &str = "default";
const CREATE: &str = "CreateToken";
const SHORTEST: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_hours(366 * 24);
const USUAL: Duration = Duration::from_hours(90 * 24);
const NAMESPACE_COUNT: usize = 64;
// These stand for nobody in events and decisions, and must go on to do so.
const RESERVED: [&str; 3] = ["anonymous", "automatic", "timeout"];

/// `agentic.orchestrator.v1.TokenService`.
#[derive(Debug, Clone)]
pub struct TokenService {
    engine: Engine,
    tokens: Tokens,
}

impl TokenService {
    /// Serves the tokens of an engine's store.
    pub fn new(engine: Engine, tokens: Tokens) -> Self {
        Self { engine, tokens }
    }

    async fn create(
        &self,
        request: CreateTokenRequest,
        creator: String,
    ) -> Result<CreateTokenResponse, Error> {
        let content = digest(&request);
        let now = self.engine.clock().now();
        let token = parse(&request, creator, now)?;
        let earlier = self
            .engine
            .earlier_subject(NAMESPACE, CREATE, &request.request_id, &content)
            .await?;
        if let Some(id) = earlier {
            let id = id.parse().map_err(|_| Error::internal())?;
            return Ok(CreateTokenResponse {
                token: Some(self.get(id).await?),
                secret: String::new(),
            });
        }
        let secret = Secret::random();
        let id = token.token_id.to_string();
        let made = request_row(&request.request_id, CREATE, content.clone(), id, now);
        let stored = async {
            let mut client = self.engine.store().client().await?;
            let transaction = client.transaction().await?;
            if let Some(made) = &made
                && !requests::record(&transaction, NAMESPACE, made).await?
            {
                return Ok(false);
            }
            tokens::keep(&transaction, &secret.hash(), &token).await?;
            transaction.commit().await?;
            Ok::<_, StoreError>(true)
        };
        if !stored.await.map_err(store_error)? {
            // Somebody else made the same call a moment ago: theirs was the first.
            return Box::pin(self.create(request, token.creator)).await;
        }
        Ok(CreateTokenResponse {
            token: Some(self.get(token.token_id).await?),
            secret: secret.reveal().to_owned(),
        })
    }

    async fn get(&self, id: TokenId) -> Result<Token, Error> {
        let found = async {
            let client = self.engine.store().client().await?;
            tokens::get(&client, id).await
        };
        let found = found.await.map_err(store_error)?;
        found.as_ref().map(to_wire).ok_or_else(|| no_such_token(id))
    }

    async fn list(&self, request: ListTokensRequest) -> Result<ListTokensResponse, Error> {
        let mut fields = Fields::new();
        let size = fields.page_size(request.page_size);
        let size = fields.finish(size)?;
        let before: Option<TokenId> = read_page(&request.page_token)?;
        let found = async {
            let client = self.engine.store().client().await?;
            tokens::list(&client, request.include_ended, before, size + 1).await
        };
        let (mut rows, total_count) = found.await.map_err(store_error)?;
        let more = rows.len() > usize::try_from(size).unwrap_or(usize::MAX);
        if more {
            rows.pop();
        }
        let next_page_token = rows
            .last()
            .filter(|_| more)
            .map_or_else(String::new, |last| page_token(&last.token_id.to_string()));
        Ok(ListTokensResponse {
            tokens: rows.iter().map(to_wire).collect(),
            next_page_token,
            total_count,
        })
    }

    async fn revoke(&self, request: &RevokeTokenRequest) -> Result<Token, Error> {
        let mut fields = Fields::new();
        let id: Option<TokenId> = fields.id("token_id", &request.token_id);
        let id = fields.finish(id)?.ok_or_else(Error::internal)?;
        let ended = async {
            let client = self.engine.store().client().await?;
            tokens::revoke(&client, id).await
        };
        let ended = ended.await.map_err(store_error)?;
        self.tokens.forget();
        ended.as_ref().map(to_wire).ok_or_else(|| no_such_token(id))
    }
}

fn no_such_token(id: TokenId) -> Error {
    Error::new(
        ErrorReason::TokenNotFound,
        format!("there is no token {id}"),
    )
}

fn parse(
    request: &CreateTokenRequest,
    creator: String,
    now: SystemTime,
) -> Result<TokenRow, Error> {
    let mut fields = Fields::new();
    fields.request_id(&request.request_id);
    fields.name("name", &request.name);
    if RESERVED.contains(&request.name.as_str()) {
        fields.wrong("name", "stands for nobody; choose another one");
    }
    let roles: Vec<Role> = request
        .roles
        .iter()
        .map(|role| fields.required_enum("roles", *role))
        .collect();
    if roles.is_empty() {
        fields.wrong("roles", "needs one role at least");
    }
    if request.namespaces.len() > NAMESPACE_COUNT {
        fields.wrong(
            "namespaces",
            format!(
                "has {} entries, at most {NAMESPACE_COUNT}",
                request.namespaces.len()
            ),
        );
    }
    if request.namespaces != ["*"] {
        for namespace in &request.namespaces {
            fields.slug("namespaces", namespace);
        }
    }
    let lifetime = fields.duration("lifetime", request.lifetime, SHORTEST, LONGEST);
    fields.finish(TokenRow {
        token_id: TokenId::new(),
        name: request.name.clone(),
        roles: Roles::of(&roles),
        namespaces: Namespaces::of(&request.namespaces),
        creator,
        create_time: now,
        expire_time: Some(now + lifetime.unwrap_or(USUAL)),
        revoke_time: None,
    })
}

fn to_wire(row: &TokenRow) -> Token {
    Token {
        token_id: row.token_id.to_string(),
        name: row.name.clone(),
        roles: row.roles.iter().map(i32::from).collect(),
        namespaces: row.namespaces.names(),
        create_time: Some(wire_time::timestamp(row.create_time)),
        expire_time: row.expire_time.map(wire_time::timestamp),
        revoke_time: row.revoke_time.map(wire_time::timestamp),
        creator: row.creator.clone(),
    }
}

#[async_trait]
impl Service for TokenService {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let creator = actor(&request, "");
        let made = self.create(request.into_inner(), creator).await?;
        let id = made.token.as_ref().map_or("", |token| &token.token_id);
        let subject = format!("token/{id}");
        let mut response = Response::new(made);
        response.extensions_mut().insert(Subject(subject));
        Ok(response)
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let token = Some(self.revoke(request.get_ref()).await?);
        Ok(Response::new(RevokeTokenResponse { token }))
    }
}
