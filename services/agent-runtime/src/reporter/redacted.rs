//! Artifacts without secrets: texts are cleaned, and bytes that are no text stay as they are.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use contracts::CHUNK_BYTES;
use service_runtime::redaction::Secrets;

// Files of these kinds are broken by any change.
const NO_TEXT: [&str; 4] = ["image/", "video/", "audio/", "font/"];
const PACKED: [&str; 5] = ["zip", "gzip", "zstd", "x-tar", "pdf"];
// Within so many bytes, what is no text shows that it is none.
const LOOK_BYTES: usize = 8 * 1024;

/// Bytes of an artifact.
pub(super) fn bytes<'b>(secrets: &Secrets, media_type: &str, bytes: &'b [u8]) -> Cow<'b, [u8]> {
    if !is_text(media_type, bytes) {
        return Cow::Borrowed(bytes);
    }
    let mut stream = secrets.stream();
    let mut clean = stream.push(bytes);
    clean.append(&mut stream.finish());
    Cow::Owned(clean)
}

/// A cleaned copy beside the file. `None`: the file is fine.
pub(super) async fn file(
    secrets: &Secrets,
    media_type: &str,
    path: &Path,
) -> io::Result<Option<NamedTempFile>> {
    let mut source = tokio::fs::File::open(path).await?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut count = source.read(&mut chunk).await?;
    if !is_text(media_type, &chunk[..count]) {
        return Ok(None);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let copy = NamedTempFile::with_prefix_in(".clean", folder)?;
    let mut into = tokio::fs::File::from_std(copy.reopen()?);
    let mut stream = secrets.stream();
    while count > 0 {
        into.write_all(&stream.push(&chunk[..count])).await?;
        count = source.read(&mut chunk).await?;
    }
    into.write_all(&stream.finish()).await?;
    into.flush().await?;
    Ok(Some(copy))
}

fn is_text(media_type: &str, beginning: &[u8]) -> bool {
    let is_none = NO_TEXT.iter().any(|kind| media_type.starts_with(kind))
        || PACKED.iter().any(|kind| media_type.contains(kind));
    let is_svg = media_type.starts_with("image/svg");
    (!is_none || is_svg) && !beginning.iter().take(LOOK_BYTES).any(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn texts_are_cleaned_and_everything_else_is_kept() {
        let secrets = Secrets::new();
        secrets.register("KEY", "correct-horse");
        let text = format!("{} correct-horse\n", "x".repeat(CHUNK_BYTES - 5));
        let clean = bytes(&secrets, "text/plain", text.as_bytes());
        assert!(clean.ends_with(b"x [secret KEY]\n"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, &text).unwrap();
        let copy = file(&secrets, "application/json", &path).await.unwrap();
        assert_eq!(std::fs::read(copy.unwrap().path()).unwrap(), *clean);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

        let image = b"\x89PNG\0correct-horse";
        assert_eq!(*bytes(&secrets, "application/octet-stream", image), *image);
        assert_eq!(
            *bytes(&secrets, "image/png", b"correct-horse"),
            *b"correct-horse"
        );
        std::fs::write(&path, image).unwrap();
        assert!(file(&secrets, "", &path).await.unwrap().is_none());
    }
}
