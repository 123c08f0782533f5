//! Every rule is seen red on a fixture that is put together here: no literal secret stands in this
//! repository. And what only looks like a secret is seen green.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{RULES, Scanner, Secret};

/// Letters and digits without a pattern, drawn by a fixed generator.
fn random(seed: u64, length: usize, alphabet: &str) -> String {
    let alphabet = alphabet.as_bytes();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(alphabet[(state >> 33) as usize % alphabet.len()])
        })
        .collect()
}

const ALNUM: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const HEX: &str = "0123456789abcdef";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn alnum(length: usize) -> String {
    random(7, length, ALNUM)
}

fn hexadecimal(length: usize) -> String {
    random(11, length, HEX)
}

fn private_key(label: &str) -> String {
    let body: Vec<String> = (1..6).map(|line| random(line, 64, ALNUM)).collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        body.join("\n")
    )
}

/// A known-bad text for every rule.
fn fixture(rule: &str) -> String {
    let join = |prefix: &str, rest: String| format!("value {prefix}{rest} end");
    match rule {
        "private-key" => private_key(&["RSA PRIV", "ATE KEY"].concat()),
        "putty-private-key" => format!(
            "PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 2\n{}\n{}\n",
            random(1, 64, ALNUM),
            random(2, 64, ALNUM)
        ),
        "age-secret-key" => join(
            "AGE-SECRET-KEY-1",
            random(3, 58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
        ),
        "aws-access-key" => join("AKIA", random(5, 16, UPPER)),
        "aws-secret-key" => format!("aws_secret_access_key = \"{}\"", alnum(40)),
        "github-token" => join("ghp_", alnum(36)),
        "github-fine-grained-token" => join(
            "github_pat_",
            format!("{}_{}", alnum(22), random(8, 59, ALNUM)),
        ),
        "gitlab-token" => join("glpat-", alnum(20)),
        "npm-token" => join("npm_", alnum(36)),
        "pypi-token" => join("pypi-AgE", alnum(80)),
        "crates-token" => join("cio", alnum(32)),
        "rubygems-token" => join("rubygems_", hexadecimal(48)),
        "docker-token" => join("dckr_pat_", alnum(27)),
        "slack-token" => join("xoxb-", format!("123456789012-{}", alnum(24))),
        "slack-app-token" => join("xapp-1-A012-345-", hexadecimal(64)),
        "slack-webhook" => join(
            "https://hooks.slack.com/services/T0ABCDEF1/B0ABCDEF2/",
            alnum(24),
        ),
        "discord-webhook" => join(
            "https://discord.com/api/webhooks/123456789012345678/",
            alnum(68),
        ),
        "discord-token" => join(
            "",
            format!(
                "{}.{}.{}",
                STANDARD.encode("862741093586472109").trim_end_matches('='),
                alnum(6),
                alnum(38)
            ),
        ),
        "telegram-token" => join("582913746:AA", alnum(33)),
        "stripe-key" => join("sk_live_", alnum(24)),
        "stripe-webhook-secret" => join("whsec_", alnum(32)),
        "openai-key" => join("sk-proj-", alnum(60)),
        "anthropic-key" => join("sk-ant-api03-", alnum(95)),
        "google-api-key" => join("AIza", alnum(35)),
        "google-oauth-secret" => join("GOCSPX-", alnum(28)),
        "google-refresh-token" => join("1//0", alnum(60)),
        "sendgrid-key" => join("SG.", format!("{}.{}", alnum(22), random(8, 43, ALNUM))),
        "twilio-key" => join("SK", hexadecimal(32)),
        "mailgun-key" => join("key-", hexadecimal(32)),
        "digitalocean-token" => join("dop_v1_", hexadecimal(64)),
        "shopify-token" => join("shpat_", hexadecimal(32)),
        "huggingface-token" => join("hf_", random(9, 34, LETTERS)),
        "databricks-token" => join("dapi", hexadecimal(32)),
        "vault-token" => join("hvs.", alnum(90)),
        "terraform-token" => join(
            "",
            format!("{}.atlasv1.{}", alnum(14), random(8, 64, ALNUM)),
        ),
        "grafana-token" => join("glsa_", format!("{}_{}", alnum(32), hexadecimal(8))),
        "newrelic-key" => join("NRAK-", random(4, 27, UPPER)),
        "linear-key" => join("lin_api_", alnum(40)),
        "azure-storage-key" => join("AccountKey=", format!("{}==", alnum(86))),
        "azure-client-secret" => join("", format!("{}8Q~{}", random(4, 3, ALNUM), alnum(34))),
        "json-web-token" => {
            let encode = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
            join(
                "",
                format!(
                    "{}.{}.{}",
                    encode(r#"{"alg":"HS256","typ":"JWT"}"#),
                    encode(r#"{"sub":"service-42","role":"admin"}"#),
                    alnum(43)
                ),
            )
        }
        "login-in-url" => format!(
            "url: postgres://shop:{}@db.internal.net:5432/shop",
            alnum(16)
        ),
        "assigned-secret" => format!("db_password = \"{}\"", alnum(24)),
        "configured-secret" => format!("API_TOKEN={}\n", alnum(32)),
        other => panic!("rule `{other}` has no known-bad fixture"),
    }
}

static SCANNER: LazyLock<Scanner> = LazyLock::new(|| Scanner::new().unwrap());

fn scan(text: &str) -> Vec<Secret> {
    SCANNER.scan("src/settings.txt", text)
}

fn rules(text: &str) -> Vec<String> {
    scan(text).into_iter().map(|secret| secret.rule).collect()
}

#[test]
fn every_rule_is_seen_red() {
    for rule in RULES {
        let text = fixture(rule.id);
        let found = rules(&text);
        assert!(
            found.contains(&format!("secret:{}", rule.id)),
            "{}: {found:?} in {text}",
            rule.id
        );
    }
}

#[test]
fn nothing_that_is_returned_carries_the_secret() {
    for rule in RULES {
        let text = fixture(rule.id);
        for secret in scan(&text) {
            let told = format!("{secret:?}");
            for word in text
                .split([' ', '\n', '"', '=', ':', '@', '/'])
                .filter(|word| word.len() >= 16)
            {
                assert!(!told.contains(word), "{told} repeats {word}");
            }
        }
    }
}

#[test]
fn lines_are_counted_from_one() {
    let text = format!("first\nsecond\n{}\n", fixture("github-token"));
    assert_eq!(scan(&text)[0].line, 3);
}

#[test]
fn encoded_secrets_are_found() {
    let token = format!("ghp_{}", alnum(36));
    let once = STANDARD.encode(format!("token={token}"));
    for text in [
        format!("data: {once}"),
        format!("data: {}", STANDARD.encode(&once)),
        format!("x = bytes.fromhex('{}')", hex::encode(&token)),
        format!(
            "k8s: {}",
            STANDARD.encode(private_key(&["PRIV", "ATE KEY"].concat()))
        ),
        token
            .bytes()
            .map(|byte| byte.to_string())
            .collect::<Vec<_>>()
            .join(","),
    ] {
        assert_eq!(rules(&text).len(), 1, "{text}");
    }
}

#[test]
fn split_secrets_are_found() {
    let (head, tail) = (
        format!("ghp_{}", random(7, 14, ALNUM)),
        random(8, 22, ALNUM),
    );
    for text in [
        format!("t = \"{head}\" + \"{tail}\""),
        format!("t = ('{head}'\n     '{tail}')"),
        format!("a = '{head}'\nb = '{tail}'\nsend(a + b)\n"),
        format!("const a = \"{head}\";\nconst b = \"{tail}\";\nsend(`${{a}}${{b}}`);\n"),
        format!("[\"{head}\", \"{tail}\"].join('')"),
        format!(
            "t = \"{}\" + \"{}\"",
            STANDARD.encode(format!("{head}{tail}")).split_at(20).0,
            STANDARD.encode(format!("{head}{tail}")).split_at(20).1
        ),
    ] {
        assert!(
            rules(&text).contains(&"secret:github-token".to_owned()),
            "{text}: {:?}",
            rules(&text)
        );
    }
}

#[test]
fn a_known_token_in_an_assignment_is_one_finding() {
    assert_eq!(
        rules(&format!("api_token = \"ghp_{}\"", alnum(36))),
        ["secret:github-token"]
    );
}

#[test]
fn a_right_checksum_makes_a_placeholder_word_a_token() {
    // 30 characters that count up, and their real CRC-32 in base 62.
    let body = "abcdefghijklmnopqrstuvwxyzABCD";
    let mut checksum = crc32fast::hash(body.as_bytes());
    let mut digits = [0_u8; 6];
    for digit in digits.iter_mut().rev() {
        *digit = ALNUM.as_bytes()[(checksum % 62) as usize];
        checksum /= 62;
    }
    let token = format!("ghp_{body}{}", String::from_utf8(digits.to_vec()).unwrap());
    assert_eq!(rules(&token), ["secret:github-token"]);
    assert!(rules(&format!("ghp_{body}000000")).is_empty());
}

#[test]
fn examples_public_keys_hashes_and_vectors_are_none() {
    for text in [
        "aws_access_key_id = AKIAIOSFODNN7EXAMPLE".to_owned(),
        format!(
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/{}",
            "bPxRfiCYEXAMPLEKEY"
        ),
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
            random(1, 64, ALNUM)
        ),
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----",
            random(1, 64, ALNUM)
        ),
        format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} me@host", alnum(43)),
        format!("sha256 = \"{}\"", hexadecimal(64)),
        format!("commit {}", hexadecimal(40)),
        format!("\"integrity\": \"sha512-{}==\"", alnum(86)),
        format!("password_hash = \"$2b$12${}\"", alnum(53)),
        "token = \"your-token-goes-here-0001\"".to_owned(),
        "API_KEY=${API_KEY_FROM_VAULT_1}".to_owned(),
        format!("ghp_{}", "x".repeat(36)),
        "DATABASE_URL=postgres://postgres:postgres@localhost:5432/test".to_owned(),
        format!(
            "-----BEGIN {}-----\n...\n-----END {0}-----",
            ["PRIV", "ATE KEY"].concat()
        ),
        "id: 0198c5b2-7a61-7e0f-9d3c-2f1a6b7c8d9e".to_owned(),
        "const tokenPattern = /ghp_[A-Za-z0-9]{36}/;".to_owned(),
        "AKIA2E0A8F3B244C9986".replace('0', "1").replace('8', "9"),
    ] {
        assert!(rules(&text).is_empty(), "{text}: {:?}", rules(&text));
    }
}

#[test]
fn assignments_in_tests_and_documents_are_examples() {
    let text = fixture("assigned-secret");
    assert!(SCANNER.scan("tests/login.py", &text).is_empty());
    assert!(SCANNER.scan("README.md", &text).is_empty());
    assert_eq!(SCANNER.scan("src/login.py", &text).len(), 1);
    // A token whose format alone shows it counts wherever it stands.
    assert_eq!(
        SCANNER
            .scan("tests/login.py", &fixture("github-token"))
            .len(),
        1
    );
}

#[test]
fn hostile_text_is_scanned_in_time() {
    let long =
        format!("{}{}", "-----BEGIN PRIV", "ATE KEY-----").repeat(2_000) + &"a+'".repeat(100_000);
    let started = std::time::Instant::now();
    scan(&long);
    assert!(
        started.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}
