//! JWTs of an OpenID provider that is a server of this test: good ones, and everything that is tried
//! with bad ones.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use contracts::error::Error;
use contracts::orchestrator::Role;
use orchestrator::access::oidc::OidcConfig;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use ring::{hmac, pkcs8::Document};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;

use super::bed::{Bed, admitted, call};

const LIST: &str = "agentic.orchestrator.v1.WorkflowService/ListWorkflows";
const CREATE: &str = "agentic.orchestrator.v1.WorkflowService/CreateWorkflow";
const AUDIENCE: &str = "agentic";

/// Signs as the provider does, or as somebody else would.
enum Signer {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    fn ed() -> Self {
        let document: Document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn ec() -> Self {
        let by = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(by, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(by, document.as_ref(), &random).unwrap())
    }

    // ring makes no RSA keys; this one was made for these tests.
    fn rsa() -> Self {
        let key = include_str!("rsa_key_of_the_tests.base64");
        let key = STANDARD.decode(key.replace('\n', "")).unwrap();
        Self::Rsa(RsaKeyPair::from_pkcs8(&key).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed(_) => "EdDSA",
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signed)
                    .unwrap();
                signed
            }
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            Self::Ed(key) => json!({
                "kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().as_ref()),
            }),
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({
                    "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]),
                })
            }
            Self::Rsa(key) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "n": encode(&public.n), "e": encode(&public.e)})
            }
        };
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().into();
        jwk
    }

    fn token(&self, kid: &str, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm(), "typ": "JWT", "kid": kid});
        self.sealed(&header, claims)
    }

    fn sealed(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let signed = self.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

struct Idp {
    issuer: String,
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicUsize>,
    serving: JoinSet<()>,
}

impl Idp {
    async fn start(keys: Vec<Value>) -> Self {
        service_runtime::tls::install_crypto();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(keys));
        let asked = Arc::new(AtomicUsize::new(0));
        let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
        let (shown, count) = (keys.clone(), asked.clone());
        let routes = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(move || async move { Json(discovery) }),
            )
            .route(
                "/keys",
                get(move || async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut keys = shown.lock().unwrap().clone();
                    // Of a kind that nobody knows yet.
                    keys.push(json!({"kty": "LATTICE", "kid": "future"}));
                    Json(json!({"keys": keys}))
                }),
            );
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            issuer,
            keys,
            asked,
            serving,
        }
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.issuer, "aud": AUDIENCE, "sub": "ada", "exp": now() + 300,
            "groups": ["developers", "people of no meaning"],
        })
    }

    async fn bed(&self) -> Bed {
        let config = OidcConfig {
            issuer: self.issuer.clone(),
            audience: AUDIENCE.to_owned(),
            keys_url: None,
            name_claim: "sub".to_owned(),
            role_claim: "groups".to_owned(),
            roles: vec![
                ("developers".to_owned(), Role::Operator),
                ("readers".to_owned(), Role::Viewer),
            ],
            namespace_claim: "namespaces".to_owned(),
        };
        Bed::start_with(|settings| settings.access.oidc = Some(config)).await
    }
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[tokio::test]
async fn tokens_of_the_provider_are_taken_in_each_algorithm_with_the_roles_they_mean() {
    let signers = [Signer::ed(), Signer::ec(), Signer::rsa()];
    let keys = signers.iter().map(|it| it.jwk(it.algorithm())).collect();
    let idp = Idp::start(keys).await;
    let bed = idp.bed().await;
    for signer in &signers {
        let token = signer.token(signer.algorithm(), &idp.claims());
        let answer = call(bed.with(&token), CREATE).await;
        assert!(admitted(&answer), "{}: {answer:?}", signer.algorithm());
        let reader = with(&idp.claims(), "groups", json!("readers others"));
        let token = signer.token(signer.algorithm(), &reader);
        assert!(admitted(&call(bed.with(&token), LIST).await));
        let status = call(bed.with(&token), CREATE).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        let nobody = without(&idp.claims(), "groups");
        let token = signer.token(signer.algorithm(), &nobody);
        let status = call(bed.with(&token), LIST).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
    }
    assert_eq!(idp.asked.load(Ordering::SeqCst), 1, "the keys are kept");
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table of forgeries")]
async fn forged_and_foreign_tokens_are_refused() {
    let (ed, ec, rsa, stranger) = (Signer::ed(), Signer::ec(), Signer::rsa(), Signer::ed());
    let encryption = {
        let mut jwk = Signer::ed().jwk("encryption");
        jwk["use"] = "enc".into();
        jwk
    };
    let keys = vec![ed.jwk("ed"), ec.jwk("ec"), rsa.jwk("rsa"), encryption];
    let idp = Idp::start(keys.clone()).await;
    let bed = idp.bed().await;
    let good = idp.claims();
    let hmac_with = |key: &[u8], kid: &str| {
        let message = unsigned(&json!({"alg": "HS256", "kid": kid}), &good);
        let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
    };
    let none = |algorithm: &str| {
        format!(
            "{}.",
            unsigned(&json!({"alg": algorithm, "kid": "ed"}), &good)
        )
    };
    let decoded = |text: &Value| URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap();
    let honest = ed.token("ed", &good);
    let (head, signed) = honest.rsplit_once('.').unwrap();
    let admin = unsigned(
        &json!({"alg": "EdDSA", "kid": "ed"}),
        &with(&good, "groups", json!(["developers", "admins"])),
    );
    let refused = [
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("no signature", format!("{head}.")),
        ("no signature part", head.to_owned()),
        (
            "other claims under a good signature",
            format!("{admin}.{signed}"),
        ),
        (
            "HMAC with the public key",
            hmac_with(&decoded(&keys[0]["x"]), "ed"),
        ),
        (
            "HMAC with the modulus",
            hmac_with(&decoded(&keys[2]["n"]), "rsa"),
        ),
        (
            "HMAC with the key as JSON",
            hmac_with(keys[0].to_string().as_bytes(), "ed"),
        ),
        ("a stranger's key", stranger.token("ed", &good)),
        ("a key that is not there", stranger.token("stranger", &good)),
        (
            "another kind of key",
            ed.sealed(&json!({"alg": "EdDSA", "kid": "ec"}), &good),
        ),
        (
            "another algorithm than the key's",
            ed.sealed(&json!({"alg": "ES256", "kid": "ed"}), &good),
        ),
        ("a key for encryption", stranger.token("encryption", &good)),
        ("no key id", ed.sealed(&json!({"alg": "EdDSA"}), &good)),
        (
            "expired",
            ed.token("ed", &with(&good, "exp", json!(now() - 60))),
        ),
        ("no expiry", ed.token("ed", &without(&good, "exp"))),
        (
            "expiry as text",
            ed.token("ed", &with(&good, "exp", json!("9999999999"))),
        ),
        (
            "not yet good",
            ed.token("ed", &with(&good, "nbf", json!(now() + 300))),
        ),
        (
            "another audience",
            ed.token("ed", &with(&good, "aud", json!("billing"))),
        ),
        ("no audience", ed.token("ed", &without(&good, "aud"))),
        (
            "another issuer",
            ed.token("ed", &with(&good, "iss", json!("https://evil.example"))),
        ),
        ("no issuer", ed.token("ed", &without(&good, "iss"))),
        ("nobody", ed.token("ed", &without(&good, "sub"))),
        ("no name", ed.token("ed", &with(&good, "sub", json!("  ")))),
        (
            "too long",
            ed.token("ed", &with(&good, "x", json!("y".repeat(7_000)))),
        ),
        ("words", "not.a.token".to_owned()),
    ];
    for (what, token) in refused {
        let answer = call(bed.with(&token), LIST).await;
        let status = answer.expect_err(what);
        assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status:?}");
        let error = Error::from_status(&status).unwrap();
        assert!(!error.message.contains(&token), "{what}");
    }
    assert!(call(bed.with(&honest), LIST).await.is_ok());
    assert!(
        idp.asked.load(Ordering::SeqCst) <= 2,
        "unknown keys do not make us ask each time"
    );
}

#[tokio::test]
async fn a_new_key_is_found_and_one_that_was_taken_away_is_not_asked_for_again_and_again() {
    let old = Signer::ed();
    let idp = Idp::start(vec![old.jwk("old")]).await;
    let bed = idp.bed().await;
    // Nothing was asked before: the new key is there at the first look.
    let new = Signer::ec();
    *idp.keys.lock().unwrap() = vec![new.jwk("new")];
    assert!(
        call(bed.with(&new.token("new", &idp.claims())), LIST)
            .await
            .is_ok()
    );
    for _ in 0..20 {
        let status = call(bed.with(&old.token("old", &idp.claims())), LIST).await;
        assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
    }
    assert_eq!(idp.asked.load(Ordering::SeqCst), 1);
    // Rotation: another key comes, and is asked for once it may be.
    let newer = Signer::rsa();
    idp.keys.lock().unwrap().push(newer.jwk("newer"));
    let token = newer.token("newer", &idp.claims());
    let found = crate::mesh::eventually(|| call(bed.with(&token), LIST), Result::is_ok).await;
    assert!(found.is_ok());
    assert_eq!(idp.asked.load(Ordering::SeqCst), 2);
    assert!(
        call(bed.with(&new.token("new", &idp.claims())), LIST)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn without_the_provider_its_tokens_wait_and_ours_go_on() {
    let key = Signer::ed();
    let mut idp = Idp::start(vec![key.jwk("ed")]).await;
    let bed = idp.bed().await;
    idp.serving.shutdown().await;
    let status = call(bed.with(&key.token("ed", &idp.claims())), LIST).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let error = Error::from_status(&status).unwrap();
    assert!(
        error
            .retry_after
            .is_some_and(|delay| delay > Duration::ZERO)
    );
    assert!(call(bed.admin(), LIST).await.is_ok());
}
