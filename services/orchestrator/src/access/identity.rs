//! Who calls, and what a call says about itself in its metadata.

use std::fmt;
use std::time::SystemTime;

use contracts::error::Error;
use contracts::id::TokenId;
use contracts::orchestrator::Role;
use contracts::{DEFAULT_NAMESPACE, NAMESPACE_HEADER};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::role::Roles;
use super::unauthenticated;

/// Somebody who showed a valid credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name, as it stands in events, decisions and the audit log.
    pub name: String,
    /// What showed it.
    pub credential: Credential,
    /// What it may do.
    pub roles: Roles,
    /// Where.
    pub namespaces: Namespaces,
    /// Until when.
    pub expire_time: Option<SystemTime>,
}

impl Identity {
    /// An agent that showed its certificate. It was verified when the connection was opened.
    pub fn of_agent(agent: &service_runtime::tls::Identity) -> Self {
        Self {
            name: agent.to_string(),
            credential: Credential::Certificate(agent.to_string()),
            roles: Roles::of(&[Role::Agent]),
            namespaces: Namespaces::All,
            expire_time: None,
        }
    }

    /// Whether it is an agent, and nothing else.
    pub fn is_agent(&self) -> bool {
        self.roles == Roles::of(&[Role::Agent])
    }

    /// Whether its credential is no longer good.
    pub fn has_run_out(&self, now: SystemTime) -> bool {
        self.expire_time.is_some_and(|expire| expire <= now)
    }
}

/// What showed who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token of ours.
    Token(TokenId),
    /// A certificate, by the identity that it names.
    Certificate(String),
    /// A JWT of an OpenID provider.
    Jwt {
        /// The provider.
        issuer: String,
        /// Whom it stands for there.
        subject: String,
    },
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => write!(f, "token:{id}"),
            Self::Certificate(identity) => write!(f, "certificate:{identity}"),
            Self::Jwt { issuer, subject } => write!(f, "jwt:{issuer}#{subject}"),
        }
    }
}

/// Namespaces that somebody may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// All.
    All,
    /// These.
    Named(Vec<String>),
}

impl Namespaces {
    /// From names, or `*` alone.
    pub fn of(names: &[String]) -> Self {
        match names {
            [all] if all == "*" => Self::All,
            [] => Self::Named(vec![DEFAULT_NAMESPACE.to_owned()]),
            names => Self::Named(names.to_vec()),
        }
    }

    /// As names.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::All => vec!["*".to_owned()],
            Self::Named(names) => names.clone(),
        }
    }

    /// Whether it is one of them.
    pub fn contain(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| name == namespace),
        }
    }
}

/// The bearer token of a call. `Ok(None)`: it has no credential at all.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .map(|(_, token)| token.trim());
    match (token, given.next()) {
        (Some(token), None) => Ok(Some(token)),
        _ => Err(unauthenticated(
            "`authorization` is not one `Bearer <token>`",
        )),
    }
}

/// The namespace that a call names. What is malformed is in nobody's list, and the service says why.
pub(super) fn namespace(headers: &HeaderMap) -> &str {
    headers
        .get(NAMESPACE_HEADER)
        .map_or(DEFAULT_NAMESPACE, |value| value.to_str().unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values
            .iter()
            .map(|value| (AUTHORIZATION, value.parse().unwrap()));
        values.fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
    }

    #[test]
    fn one_bearer_token_is_read_and_anything_else_is_refused() {
        assert_eq!(bearer(&headers(&[])).unwrap(), None);
        assert_eq!(bearer(&headers(&["Bearer a"])).unwrap(), Some("a"));
        assert_eq!(bearer(&headers(&["bearer a"])).unwrap(), Some("a"));
        for wrong in [
            &["a"][..],
            &["Basic YTpi"],
            &["Bearer "],
            &["Bearer"],
            &[""],
            &["Bearer a", "Bearer b"],
        ] {
            assert!(bearer(&headers(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn who_names_no_namespace_is_in_the_default_one() {
        let named = |name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(NAMESPACE_HEADER, name.parse().unwrap());
            namespace(&headers).to_owned()
        };
        assert_eq!(namespace(&HeaderMap::new()), "default");
        assert_eq!(named("team-a"), "team-a");
        let some = Namespaces::of(&["team-a".to_owned()]);
        assert!(some.contain("team-a") && !some.contain("default") && !some.contain("*"));
        assert!(Namespaces::of(&["*".to_owned()]).contain("anything"));
        assert!(!Namespaces::of(&[]).contain("team-a"));
    }
}
