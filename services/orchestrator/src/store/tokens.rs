//! Questions about bearer tokens. Secrets are not among the rows: only their hashes.

use std::time::SystemTime;

use tokio_postgres::Row;

use contracts::id::TokenId;
use contracts::orchestrator::Role;

use super::connection::GenericClient;
use super::{StoreError, malformed};
use crate::access::identity::{Credential, Identity, Namespaces};
use crate::access::role::Roles;
use crate::access::secret::SecretHash;

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Id.
    pub token_id: TokenId,
    /// Who holds it.
    pub name: String,
    /// What it may do.
    pub roles: Roles,
    /// Where.
    pub namespaces: Namespaces,
    /// Who made it.
    pub creator: String,
    /// When.
    pub create_time: SystemTime,
    /// Until when.
    pub expire_time: Option<SystemTime>,
    /// Since when not.
    pub revoke_time: Option<SystemTime>,
}

impl TokenRow {
    /// Who somebody with this token is.
    pub fn into_identity(self) -> Identity {
        Identity {
            name: self.name,
            credential: Credential::Token(self.token_id),
            roles: self.roles,
            namespaces: self.namespaces,
            expire_time: self.expire_time,
        }
    }
}

const COLUMNS: &str =
    "token_id, name, roles, namespaces, creator, create_time, expire_time, revoke_time";

/// The token with that secret.
pub async fn find(
    client: &impl GenericClient,
    hash: &SecretHash,
) -> Result<Option<TokenRow>, StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM tokens WHERE secret_hash = $1"
        ))
        .await?;
    let row = client.query_opt(&statement, &[&hash.0.as_slice()]).await?;
    row.as_ref().map(read).transpose()
}

/// The token with that id.
pub async fn get(
    client: &impl GenericClient,
    token_id: TokenId,
) -> Result<Option<TokenRow>, StoreError> {
    let statement = client
        .prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE token_id = $1"))
        .await?;
    let row = client.query_opt(&statement, &[&token_id.0]).await?;
    row.as_ref().map(read).transpose()
}

/// Stores a token, unless one with that secret is there.
pub async fn keep(
    client: &impl GenericClient,
    hash: &SecretHash,
    token: &TokenRow,
) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached(
            "INSERT INTO tokens (token_id, secret_hash, name, roles, namespaces, creator,
                                 create_time, expire_time)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (secret_hash) DO NOTHING",
        )
        .await?;
    let roles: Vec<i16> = token.roles.iter().map(|role| role as i16).collect();
    client
        .execute(
            &statement,
            &[
                &token.token_id.0,
                &hash.0.as_slice(),
                &token.name,
                &roles,
                &token.namespaces.names(),
                &token.creator,
                &token.create_time,
                &token.expire_time,
            ],
        )
        .await?;
    Ok(())
}

/// Newest first, from before an id, and how many match in all.
pub async fn list(
    client: &impl GenericClient,
    include_ended: bool,
    before: Option<TokenId>,
    limit: i64,
) -> Result<(Vec<TokenRow>, i64), StoreError> {
    const MATCH: &str =
        "($1 OR (revoke_time IS NULL AND (expire_time IS NULL OR expire_time > now())))";
    let statement = client
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM tokens
             WHERE {MATCH} AND ($2::uuid IS NULL OR token_id < $2)
             ORDER BY token_id DESC LIMIT $3"
        ))
        .await?;
    let before = before.map(|id| id.0);
    let rows = client
        .query(&statement, &[&include_ended, &before, &limit])
        .await?;
    let statement = client
        .prepare_cached(&format!("SELECT count(*) FROM tokens WHERE {MATCH}"))
        .await?;
    let count = client
        .query_one(&statement, &[&include_ended])
        .await?
        .try_get(0)?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, count))
}

/// Ends a token; `None`: there is none. The first time holds.
pub async fn revoke(
    client: &impl GenericClient,
    token_id: TokenId,
) -> Result<Option<TokenRow>, StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "UPDATE tokens SET revoke_time = coalesce(revoke_time, now())
             WHERE token_id = $1 RETURNING {COLUMNS}"
        ))
        .await?;
    let row = client.query_opt(&statement, &[&token_id.0]).await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<TokenRow, StoreError> {
    let numbers: Vec<i16> = row.try_get(2)?;
    let roles: Result<Vec<Role>, _> = numbers
        .into_iter()
        .map(|number| Role::try_from(i32::from(number)))
        .collect();
    let namespaces: Vec<String> = row.try_get(3)?;
    Ok(TokenRow {
        token_id: TokenId(row.try_get(0)?),
        name: row.try_get(1)?,
        roles: Roles::of(&roles.map_err(|error| malformed("tokens", &error))?),
        namespaces: Namespaces::of(&namespaces),
        creator: row.try_get(4)?,
        create_time: row.try_get(5)?,
        expire_time: row.try_get(6)?,
        revoke_time: row.try_get(7)?,
    })
}
