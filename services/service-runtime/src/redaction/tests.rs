use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::*;

const HOSTILE: &str = "pä\"ss/w?o>r d\\&~🔑+=%";

fn one(value: &str) -> Secrets {
    let secrets = Secrets::new();
    assert!(secrets.register("IT", value));
    secrets
}

#[test]
fn values_are_replaced_by_names_and_the_longest_first() {
    let secrets = Secrets::new();
    assert!(!secrets.register("SHORT", "abcde"));
    secrets.register("INNER", "hunter2");
    secrets.register("OUTER", "my-hunter2-key");
    assert_eq!(
        secrets.clean("abcde hunter2 my-hunter2-key"),
        "abcde [secret INNER] [secret OUTER]"
    );
    assert!(matches!(secrets.clean("nothing here"), Cow::Borrowed(_)));
}

#[test]
fn every_form_that_programs_write_is_found() {
    let secrets = one(HOSTILE);
    let json = serde_json::to_string(HOSTILE).unwrap();
    let twice = serde_json::to_string(&json).unwrap();
    let python = r#""p\u00e4\"ss/w?o>r d\\&~\ud83d\udd11+=%""#;
    let go = r#""pä\"ss/w?o\u003er d\\\u0026~🔑+=%""#;
    let form: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    let texts = [
        HOSTILE.to_owned(),
        json,
        twice,
        python.to_owned(),
        go.to_owned(),
        format!("{HOSTILE:?}"),
        format!("'{}'", HOSTILE.replace('\\', "\\\\")),
        form.clone(),
        form.replace('+', "%20"),
        hex::encode(HOSTILE),
        hex::encode_upper(HOSTILE),
    ];
    for text in texts {
        let cleaned = secrets.clean(&text);
        assert!(cleaned.contains("[secret IT]"), "{text} gave {cleaned}");
        assert!(!cleaned.contains("ss"), "{text} gave {cleaned}");
    }
}

#[test]
fn base64_is_found_at_every_alignment() {
    for value in ["hunter", "hunter2", "hunter22", HOSTILE] {
        let secrets = one(value);
        for before in 0..6 {
            for after in 0..4 {
                let text = format!("{}{value}{}", "x".repeat(before), "y".repeat(after));
                for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                    let cleaned = secrets.clean(&encoded);
                    assert!(cleaned.contains("[secret IT]"), "{text}: {encoded}");
                    assert!(
                        cleaned.len() - "[secret IT]".len() <= (before + after) * 4 / 3 + 6,
                        "{text}: of {encoded} there is left {cleaned}"
                    );
                }
            }
        }
    }
}

#[test]
fn pieces_are_cleaned_wherever_they_are_cut() {
    let secrets = one("my-hunter2-key");
    secrets.register("INNER", "hunter2");
    let text = "a my-hunter2-key b hunter2 my-hunter2-ke my-my-hunter2-key";
    let whole = secrets.clean(text).into_owned();
    assert!(!whole.contains("hunter2"));
    for size in 1..text.len() {
        let mut stream = secrets.stream();
        let mut cleaned = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            cleaned.extend(stream.push(piece));
        }
        cleaned.extend(stream.finish());
        assert_eq!(
            String::from_utf8(cleaned).unwrap(),
            whole,
            "pieces of {size}"
        );
    }
}

#[test]
fn a_mask_is_as_long_as_what_it_hides_wherever_pieces_are_cut() {
    let secrets = one("my-hunter2-key");
    let text = b"\0a my-hunter2-key\xff bXktaHVudGVyMi1rZXk= my-hunter2-ke";
    let masked = b"\0a **************\xff ******************k= my-hunter2-ke";
    for size in 1..text.len() {
        let mut stream = secrets.masking_stream();
        let mut cleaned = Vec::new();
        for piece in text.chunks(size) {
            cleaned.extend(stream.push(piece));
        }
        cleaned.extend(stream.finish());
        assert_eq!(cleaned.len(), text.len());
        assert_eq!(
            String::from_utf8_lossy(&cleaned),
            String::from_utf8_lossy(masked),
            "pieces of {size}"
        );
    }
}

#[test]
fn a_stream_holds_back_no_more_than_a_secret() {
    let secrets = one("0123456789");
    let mut stream = secrets.stream();
    let passed = stream.push(&vec![b'x'; 100_000]).len();
    assert!(passed > 99_900, "{passed}");
}

#[test]
fn each_line_of_a_key_is_taken_out() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEHBG0w\n-----END PRIVATE KEY-----\n";
    let secrets = one(key);
    assert_eq!(
        secrets.clean("so AgEGCCqGSM49AwEHBG0w it -----BEGIN PRIVATE KEY-----"),
        "so [secret IT] it -----BEGIN PRIVATE KEY-----"
    );
    assert_eq!(
        secrets
            .clean(&key.replace('\n', "\\n"))
            .matches("[secret IT]")
            .count(),
        1
    );
}

#[test]
fn what_one_work_knows_is_not_taken_out_of_another_but_never_logged() {
    let mine = one("the-value-of-one");
    let other = one("the-value-of-another");
    assert_eq!(mine.clean("the-value-of-another"), "the-value-of-another");
    let mut log = Vec::new();
    CleanWriter(&mut log)
        .write_all(b"the-value-of-one the-value-of-another\n")
        .unwrap();
    assert_eq!(String::from_utf8(log).unwrap(), "[secret IT] [secret IT]\n");
    drop((mine, other));
    assert_eq!(*clean_log_line(b"the-value-of-one"), *b"the-value-of-one");
}

#[test]
fn what_the_process_knows_is_taken_out_of_everything() {
    let work = Secrets::new();
    process().register("password of the test", "correct-horse-battery");
    assert_eq!(
        work.clean("it is correct-horse-battery"),
        "it is [secret password of the test]"
    );
    let mut stream = work.stream();
    let mut cleaned = stream.push(b"it is correct-horse");
    cleaned.extend(stream.push(b"-battery"));
    cleaned.extend(stream.finish());
    assert_eq!(cleaned, b"it is [secret password of the test]");
}

#[test]
fn a_renewed_secret_keeps_its_last_values() {
    let secrets = Secrets::new();
    for round in 0..10 {
        secrets.register("TOKEN", &format!("value-number-{round}"));
    }
    assert_eq!(
        secrets.clean("value-number-9 value-number-6"),
        "[secret TOKEN] [secret TOKEN]"
    );
    assert_eq!(lock(&secrets.known.values).len(), VALUES_OF_A_NAME);
}
