//! The formats of well-known secrets, each with what makes a match a real one. A format is taken from its
//! issuer's documentation; knows nothing of encodings and of where the text came from.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use regex::Captures;

use super::plausible::{is_assigned_secret, is_placeholder, is_random, is_real_login};

/// Where a rule may be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The format alone shows what it is: also looked for in decoded and joined text.
    Token,
    /// Only the surroundings show what it is: looked for in plain text only, and not in examples.
    Assignment,
}

/// One format.
pub(super) struct Rule {
    /// Name, without `secret:`.
    pub id: &'static str,
    /// What it is, for people.
    pub title: &'static str,
    /// The secret is the group `secret`, else the whole match.
    pub pattern: &'static str,
    /// Where it may be applied.
    pub kind: Kind,
    /// Whether a match is a real secret.
    pub holds: fn(&Captures<'_>, &str) -> bool,
}

const fn token(
    id: &'static str,
    title: &'static str,
    pattern: &'static str,
    holds: fn(&Captures<'_>, &str) -> bool,
) -> Rule {
    Rule {
        id,
        title,
        pattern,
        kind: Kind::Token,
        holds,
    }
}

/// Every rule. Each has a known-bad fixture in the tests.
pub(super) const RULES: &[Rule] = &[
    token(
        "private-key",
        "private key",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?P<secret>(?:[^-]|-[^-]){64,})",
        |_, body| is_key_body(body),
    ),
    token(
        "putty-private-key",
        "PuTTY private key",
        r"PuTTY-User-Key-File-[23]:[\s\S]{0,4096}?Private-Lines: *\d+\s+(?P<secret>[A-Za-z0-9+/=\s]{64,})",
        |_, body| is_key_body(body),
    ),
    token(
        "age-secret-key",
        "age secret key",
        r"\bAGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}\b",
        |_, key| is_random(key, 3.0),
    ),
    token(
        "aws-access-key",
        "AWS access key id",
        r"\b(?P<secret>(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})\b",
        |_, key| is_random(after(key, 4), 2.8),
    ),
    token(
        "aws-secret-key",
        "AWS secret access key",
        r#"(?i)aws.{0,30}(?:secret|private|sk).{0,30}?[=:,\s"'](?P<secret>[A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|$)"#,
        |_, key| is_mixed(key) && is_random(key, 4.0),
    ),
    token(
        "github-token",
        "GitHub token",
        r"\bgh[pousr]_[A-Za-z0-9]{36,251}\b",
        |_, key| has_checksum(after(key, 4)) || is_random(after(key, 4), 3.0),
    ),
    token(
        "github-fine-grained-token",
        "GitHub fine-grained token",
        r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b",
        |_, key| is_random(after(key, 11), 3.5),
    ),
    token(
        "gitlab-token",
        "GitLab token",
        r"\bgl(?:pat|ptt|dt|rt|soat|ft|imt|agent|cbt|oas)-[A-Za-z0-9_-]{20,64}",
        |_, key| is_random(after(key, 6), 3.0),
    ),
    token(
        "npm-token",
        "npm token",
        r"\bnpm_[A-Za-z0-9]{36}\b",
        |_, key| has_checksum(after(key, 4)) || is_random(after(key, 4), 3.0),
    ),
    token(
        "pypi-token",
        "PyPI token",
        r"\bpypi-AgE[A-Za-z0-9_-]{60,}",
        |_, key| is_random(after(key, 8), 3.5),
    ),
    token(
        "crates-token",
        "crate registry token",
        r"\bcio[A-Za-z0-9]{32}\b",
        |_, key| is_mixed(key) && is_random(after(key, 3), 3.5),
    ),
    token(
        "rubygems-token",
        "RubyGems token",
        r"\brubygems_[a-f0-9]{48}\b",
        |_, key| is_random(after(key, 9), 3.0),
    ),
    token(
        "docker-token",
        "Docker Hub token",
        r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{27,32}",
        |_, key| is_random(after(key, 9), 3.3),
    ),
    token(
        "slack-token",
        "Slack token",
        r"\bxox(?:[abposr]|e(?:\.xox[bp])?)-(?:\d+-){0,3}[A-Za-z0-9-]{10,120}",
        |_, key| is_random(after(key, 5), 2.8) && key.bytes().any(|b| b.is_ascii_digit()),
    ),
    token(
        "slack-app-token",
        "Slack app token",
        r"\bxapp-\d-[A-Z0-9]+-\d+-[a-f0-9]{32,}",
        |_, key| is_random(after(key, 7), 3.0),
    ),
    token(
        "slack-webhook",
        "Slack webhook",
        r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Z0-9]{6,}/[A-Z0-9]{6,}/[A-Za-z0-9]{20,}",
        |_, url| is_random(url.rsplit('/').next().unwrap_or_default(), 3.0),
    ),
    token(
        "discord-webhook",
        "Discord webhook",
        r"https://(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks/\d{17,20}/[A-Za-z0-9_-]{60,}",
        |_, url| is_random(url.rsplit('/').next().unwrap_or_default(), 3.5),
    ),
    token(
        "discord-token",
        "Discord bot token",
        r"\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}\b",
        |_, key| is_discord(key),
    ),
    token(
        "telegram-token",
        "Telegram bot token",
        r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b",
        |_, key| is_random(key, 3.5),
    ),
    token(
        "stripe-key",
        "Stripe key",
        r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{24,247}\b",
        |_, key| is_random(after(key, 8), 3.0) && !is_documented(key),
    ),
    token(
        "stripe-webhook-secret",
        "Stripe webhook secret",
        r"\bwhsec_[A-Za-z0-9+/]{32,}",
        |_, key| is_random(after(key, 6), 3.3),
    ),
    token(
        "openai-key",
        "OpenAI key",
        r"\bsk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})",
        |_, key| is_random(after(key, 8), 3.5),
    ),
    token(
        "anthropic-key",
        "Anthropic key",
        r"\bsk-ant-[a-z]{3,6}\d{2}-[A-Za-z0-9_-]{80,}",
        |_, key| is_random(after(key, 13), 3.5),
    ),
    token(
        "google-api-key",
        "Google API key",
        r"\bAIza[A-Za-z0-9_-]{35}",
        |_, key| is_random(after(key, 4), 3.3),
    ),
    token(
        "google-oauth-secret",
        "Google OAuth client secret",
        r"\bGOCSPX-[A-Za-z0-9_-]{28}",
        |_, key| is_random(after(key, 7), 3.0),
    ),
    token(
        "google-refresh-token",
        "Google OAuth refresh token",
        r"\b1//0[A-Za-z0-9_-]{40,}",
        |_, key| is_mixed(key) && is_random(after(key, 4), 3.5),
    ),
    token(
        "sendgrid-key",
        "SendGrid key",
        r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b",
        |_, key| is_random(after(key, 3), 3.5),
    ),
    token(
        "twilio-key",
        "Twilio API key",
        r"\bSK[0-9a-f]{32}\b",
        |_, key| is_random(after(key, 2), 3.0),
    ),
    token(
        "mailgun-key",
        "Mailgun key",
        r"\bkey-[0-9a-f]{32}\b",
        |_, key| is_random(after(key, 4), 3.0),
    ),
    token(
        "digitalocean-token",
        "DigitalOcean token",
        r"\bdo[opr]_v1_[a-f0-9]{64}\b",
        |_, key| is_random(after(key, 7), 3.2),
    ),
    token(
        "shopify-token",
        "Shopify token",
        r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b",
        |_, key| is_random(after(key, 6), 3.0),
    ),
    token(
        "huggingface-token",
        "Hugging Face token",
        r"\b(?:hf|api_org)_[A-Za-z]{34}\b",
        |_, key| {
            is_random(after(key, 3), 3.5) && key.bytes().skip(3).any(|b| b.is_ascii_uppercase())
        },
    ),
    token(
        "databricks-token",
        "Databricks token",
        r"\bdapi[a-f0-9]{32}(?:-\d)?\b",
        |_, key| is_random(after(key, 4), 3.0),
    ),
    token(
        "vault-token",
        "Vault token",
        r"\bhv[sbr]\.[A-Za-z0-9_-]{24,300}",
        |_, key| is_mixed(key) && is_random(after(key, 4), 3.5),
    ),
    token(
        "terraform-token",
        "Terraform Cloud token",
        r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,70}",
        |_, key| is_random(after(key, 23), 3.5),
    ),
    token(
        "grafana-token",
        "Grafana token",
        r"\bglsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}\b",
        |_, key| is_random(after(key, 5), 3.3),
    ),
    token(
        "newrelic-key",
        "New Relic key",
        r"\bNRAK-[A-Z0-9]{27}\b",
        |_, key| is_random(after(key, 5), 3.0),
    ),
    token(
        "linear-key",
        "Linear key",
        r"\blin_(?:api|oauth)_[A-Za-z0-9]{40,64}\b",
        |_, key| is_random(after(key, 8), 3.3),
    ),
    token(
        "azure-storage-key",
        "Azure storage key",
        r"\bAccountKey=(?P<secret>[A-Za-z0-9+/]{86}==)",
        |_, key| {
            // The storage emulator's key is the same on every machine and documented.
            is_random(key, 4.0)
                && !key.starts_with("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6")
        },
    ),
    token(
        "azure-client-secret",
        "Azure client secret",
        r"\b[A-Za-z0-9_.~-]{3}[78]Q~[A-Za-z0-9_.~-]{31,34}",
        |_, key| is_random(key, 3.5),
    ),
    token(
        "json-web-token",
        "JSON web token",
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
        |_, key| is_live_web_token(key),
    ),
    Rule {
        id: "login-in-url",
        title: "password in a URL",
        pattern: r#"\b[a-z][a-z0-9+.-]{1,30}://[^\s:/@"'`<>]{0,64}:(?P<secret>[^\s/@"'`<>]{3,128})@(?P<host>[^\s"'`<>]{1,200})"#,
        kind: Kind::Assignment,
        holds: |captures, password| {
            is_real_login(
                password,
                captures.name("host").map_or("", |host| host.as_str()),
            )
        },
    },
    Rule {
        id: "assigned-secret",
        title: "secret in an assignment",
        pattern: r#"(?i)(?P<name>[a-z0-9_.-]{0,40}(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?key|encryption[_-]?key|credential)[a-z0-9_.-]{0,40})["']?\s*(?:=>|:=|[:=])\s*(?:[frbu]{0,2}["'`])(?P<secret>[^"'`\s\\]{12,256})["'`]"#,
        kind: Kind::Assignment,
        holds: |captures, value| {
            is_assigned_secret(
                captures.name("name").map_or("", |name| name.as_str()),
                value,
            )
        },
    },
    Rule {
        id: "configured-secret",
        title: "secret in a configuration line",
        pattern: r"(?im)^[ \t]*(?:export[ \t]+|set[ \t]+|ENV[ \t]+|-[ \t]+)?(?P<name>[a-z0-9_.-]{0,40}(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?key|encryption[_-]?key|credential)[a-z0-9_.-]{0,40})[ \t]*[:=][ \t]*(?P<secret>[A-Za-z0-9+/=_!#@^&*~?-]{16,256})[ \t]*\r?$",
        kind: Kind::Assignment,
        holds: |captures, value| {
            is_assigned_secret(
                captures.name("name").map_or("", |name| name.as_str()),
                value,
            )
        },
    },
];

fn after(text: &str, count: usize) -> &str {
    text.get(count..).unwrap_or_default()
}

fn is_mixed(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && text.bytes().any(|b| b.is_ascii_uppercase())
}

/// Base64 lines, perhaps with headers, escapes or quotes between them.
fn is_key_body(body: &str) -> bool {
    let body: String = body.replace("\\n", "\n").replace("\\r", "");
    let random: String = body
        .lines()
        .map(|line| line.trim_matches(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c)))
        .filter(|line| !line.contains(": "))
        .flat_map(str::chars)
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/'))
        .collect();
    random.len() >= 48 && is_random(&random, 4.0)
}

/// GitHub's and npm's tokens end in six base-62 digits of the CRC-32 of what stands before:
/// github.blog/engineering/behind-githubs-new-authentication-token-formats.
fn has_checksum(body: &str) -> bool {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some((random, checksum)) = body
        .len()
        .checked_sub(6)
        .and_then(|at| body.split_at_checked(at))
    else {
        return false;
    };
    let mut expected = crc32fast::hash(random.as_bytes());
    checksum.bytes().rev().all(|digit| {
        let right = DIGITS.get((expected % 62) as usize) == Some(&digit);
        expected /= 62;
        right
    })
}

/// Keys that their issuer prints in its documentation, by the end that is theirs alone.
fn is_documented(key: &str) -> bool {
    ["4eC39HqLyjWDarjtT1zdp7dc", "BQokikJOvBiI2HlWgH4olfQ2"]
        .iter()
        .any(|end| key.ends_with(end))
}

/// The first part is the decimal id of the bot.
fn is_discord(key: &str) -> bool {
    let first = key.split('.').next().unwrap_or_default();
    URL_SAFE_NO_PAD
        .decode(first)
        .is_ok_and(|id| id.len() >= 17 && id.iter().all(u8::is_ascii_digit))
        && is_random(key, 3.5)
}

/// A signed token whose claims are not those of a documented example.
fn is_live_web_token(key: &str) -> bool {
    let mut parts = key.split('.').map(|part| {
        URL_SAFE_NO_PAD
            .decode(part)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
    });
    let (Some(Some(header)), Some(Some(claims))) = (parts.next(), parts.next()) else {
        return false;
    };
    let signed = header
        .get("alg")
        .and_then(serde_json::Value::as_str)
        .is_some_and(|algorithm| !algorithm.eq_ignore_ascii_case("none"));
    let claims = claims.to_string();
    signed
        && !["John Doe", "1234567890", "\"joe\""]
            .iter()
            .any(|known| claims.contains(known))
        && !is_placeholder(&claims.replace(['<', '>'], ""))
}
