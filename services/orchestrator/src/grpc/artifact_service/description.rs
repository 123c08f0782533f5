//! Reads what an uploader says of its artifact. Every wrong field is named at once.

use contracts::{
    error::Error,
    id::{TaskId, WorkflowId},
    orchestrator::ArtifactDescription,
    parse::{Fields, is_slug},
};

use crate::{
    artifacts::{ARTIFACT_BYTES, Digest},
    store::artifacts::NewArtifact,
};

/// Longest name (`Artifact.name`).
const NAME_BYTES: usize = 256;

/// Longest media type: two names of at most 127 characters and the slash (RFC 6838, section 4.2).
const MEDIA_TYPE_BYTES: usize = 255;

/// What is going to be uploaded.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) row: NewArtifact,
}

impl Description {
    pub(super) fn parse(namespace: &str, description: ArtifactDescription) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let artifact = description.artifact.unwrap_or_else(|| {
            fields.wrong("artifact", "is required");
            contracts::task::Artifact::default()
        });
        if fields.any_wrong() {
            return fields.finish(()).and(Err(Error::internal()));
        }
        let digest = digest(&mut fields, "artifact.digest", &artifact.digest);
        let size = u64::try_from(artifact.size_bytes)
            .ok()
            .filter(|size| *size <= ARTIFACT_BYTES);
        if size.is_none() {
            let problem = format!(
                "{} is not between 0 and {ARTIFACT_BYTES}",
                artifact.size_bytes
            );
            fields.wrong("artifact.size_bytes", problem);
        }
        if !is_name(&artifact.name) {
            fields.wrong(
                "artifact.name",
                "is not 1 to 256 letters, digits, '.', '_', '-' and '/', without empty parts, '.' and '..'",
            );
        }
        if !is_media_type(&artifact.media_type) {
            fields.wrong(
                "artifact.media_type",
                "is not of the form type/subtype, with or without parameters",
            );
        }
        if !artifact.uri.is_empty() {
            fields.wrong(
                "artifact.uri",
                "must be empty: the bytes are going to be here",
            );
        }
        if !description.stage.is_empty() && !is_slug(&description.stage) {
            fields.wrong("stage", "is not a name of a stage");
        }
        if description.attempt < 0 {
            fields.wrong("attempt", "is negative");
        }
        let workflow_id: Option<WorkflowId> =
            optional_id(&mut fields, "workflow_id", &description.workflow_id);
        let task_id: Option<TaskId> = optional_id(&mut fields, "task_id", &description.task_id);
        let (Some(digest), Some(size)) = fields.finish((digest, size))? else {
            return Err(Error::internal());
        };
        let row = NewArtifact {
            namespace: namespace.to_owned(),
            digest: digest.to_string(),
            size_bytes: artifact.size_bytes,
            media_type: artifact.media_type,
            name: artifact.name,
            workflow_id,
            stage: Some(description.stage).filter(|stage| !stage.is_empty()),
            task_id,
            attempt: description.attempt,
        };
        Ok(Self { digest, size, row })
    }
}

/// A digest; `None`, and noted as wrong, when it is none.
pub(super) fn digest(fields: &mut Fields, field: &str, text: &str) -> Option<Digest> {
    text.parse()
        .map_err(|wrong: crate::artifacts::WrongDigest| fields.wrong(field, wrong.to_string()))
        .ok()
}

fn optional_id<T: std::str::FromStr>(fields: &mut Fields, field: &str, text: &str) -> Option<T> {
    if text.is_empty() {
        None
    } else {
        fields.id(field, text)
    }
}

/// Whether this is a name that is safe as a path on whatever machine it is downloaded to.
fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
}

/// Whether this is `type/subtype`, with parameters or without. Nothing in it could begin another header.
fn is_media_type(text: &str) -> bool {
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    let mut parts = text.split(';');
    let is_type = parts
        .next()
        .and_then(|kind| kind.trim_end_matches(' ').split_once('/'))
        .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    text.len() <= MEDIA_TYPE_BYTES
        && is_type
        && parts.all(|parameter| {
            parameter
                .trim_matches(' ')
                .split_once('=')
                .is_some_and(|(name, value)| is_token(name) && is_token(value))
        })
}

#[cfg(test)]
mod tests {
    use contracts::{orchestrator::ArtifactDescription, task::Artifact};

    use super::{Description, is_media_type, is_name};
    use crate::artifacts::{ARTIFACT_BYTES, Digest};

    fn good() -> ArtifactDescription {
        ArtifactDescription {
            artifact: Some(Artifact {
                name: "reports/junit.xml".into(),
                digest: Digest::of(b"").to_string(),
                size_bytes: 0,
                media_type: "application/xml".into(),
                uri: String::new(),
            }),
            ..ArtifactDescription::default()
        }
    }

    fn wrong_fields(change: impl FnOnce(&mut ArtifactDescription, &mut Artifact)) -> Vec<String> {
        let mut description = good();
        let mut artifact = description.artifact.take().unwrap();
        change(&mut description, &mut artifact);
        description.artifact = Some(artifact);
        let error = Description::parse("default", description).unwrap_err();
        error.fields.into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn a_good_description_is_read() {
        let description = Description::parse("default", good()).unwrap();
        assert_eq!(description.row.stage, None);
        assert_eq!(description.size, 0);
    }

    #[test]
    fn each_wrong_field_is_named() {
        assert_eq!(
            wrong_fields(|_, a| a.digest = "sha256:00".into()),
            ["artifact.digest"]
        );
        assert_eq!(
            wrong_fields(|_, a| a.size_bytes = -1),
            ["artifact.size_bytes"]
        );
        assert_eq!(
            wrong_fields(|_, a| a.size_bytes = i64::try_from(ARTIFACT_BYTES).unwrap() + 1),
            ["artifact.size_bytes"]
        );
        assert_eq!(
            wrong_fields(|_, a| a.name = "../x".into()),
            ["artifact.name"]
        );
        assert_eq!(
            wrong_fields(|_, a| a.media_type = "xml".into()),
            ["artifact.media_type"]
        );
        assert_eq!(
            wrong_fields(|_, a| a.uri = "file:///etc".into()),
            ["artifact.uri"]
        );
        assert_eq!(
            wrong_fields(|d, _| d.workflow_id = "1".into()),
            ["workflow_id"]
        );
        assert_eq!(wrong_fields(|d, _| d.task_id = "1".into()), ["task_id"]);
        assert_eq!(wrong_fields(|d, _| d.stage = "A b".into()), ["stage"]);
        assert_eq!(wrong_fields(|d, _| d.attempt = -1), ["attempt"]);
        let error = Description::parse("default", ArtifactDescription::default()).unwrap_err();
        assert_eq!(error.fields.len(), 1);
    }

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        let fields = wrong_fields(|description, artifact| {
            artifact.name = String::new();
            artifact.digest = String::new();
            description.attempt = -1;
        });
        assert_eq!(fields, ["artifact.digest", "artifact.name", "attempt"]);
    }

    #[test]
    fn names_that_would_leave_a_folder_are_none() {
        for good in ["a", "a/b.c", "...", "a..b", "A-1_2/x", &"a".repeat(256)] {
            assert!(is_name(good), "{good}");
        }
        for wrong in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a\\b",
            "a b",
            "a\0",
            "a\n",
            "ä",
            "C:x",
            "~",
            "%2e%2e/a",
            &"a".repeat(257),
        ] {
            assert!(!is_name(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn media_types_have_two_parts() {
        for good in [
            "text/plain",
            "application/sarif+json",
            "text/plain; charset=utf-8",
            "a/b;c=d; e=f",
        ] {
            assert!(is_media_type(good), "{good}");
        }
        for wrong in [
            "",
            "text",
            "text/",
            "/plain",
            "a/b/c",
            "a/b;",
            "a/b; c",
            "a/b\r\nx: y",
            "a/b; c=d\n",
        ] {
            assert!(!is_media_type(wrong), "{wrong:?}");
        }
    }
}
