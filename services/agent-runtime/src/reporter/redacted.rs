//! Artifacts without secrets: texts tell which secret stood there; in bytes that are no text, such as those of an archive,
//! nothing moves. What is packed is not unpacked.

use std::io;
use std::path::Path;

use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use contracts::CHUNK_BYTES;
use service_runtime::redaction::{Secrets, Stream};

// Files of these kinds are broken by whatever moves.
const NO_TEXT: [&str; 4] = ["image/", "video/", "audio/", "font/"];
const PACKED: [&str; 5] = ["zip", "gzip", "zstd", "x-tar", "pdf"];
// Within so many bytes, what is no text shows that it is none.
const LOOK_BYTES: usize = 8 * 1024;

/// Bytes of an artifact.
pub(super) fn bytes(secrets: &Secrets, media_type: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = stream(secrets, media_type, bytes);
    let mut clean = stream.push(bytes);
    clean.append(&mut stream.finish());
    clean
}

/// A cleaned copy beside the file. `None`: there are no secrets.
pub(super) async fn file(
    secrets: &Secrets,
    media_type: &str,
    path: &Path,
) -> io::Result<Option<NamedTempFile>> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let mut source = tokio::fs::File::open(path).await?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut count = source.read(&mut chunk).await?;
    let mut stream = stream(secrets, media_type, &chunk[..count]);
    let folder = path.parent().unwrap_or(Path::new("."));
    let copy = NamedTempFile::with_prefix_in(".clean", folder)?;
    let mut into = tokio::fs::File::from_std(copy.reopen()?);
    while count > 0 {
        into.write_all(&stream.push(&chunk[..count])).await?;
        count = source.read(&mut chunk).await?;
    }
    into.write_all(&stream.finish()).await?;
    into.flush().await?;
    Ok(Some(copy))
}

fn stream(secrets: &Secrets, media_type: &str, beginning: &[u8]) -> Stream {
    if is_text(media_type, beginning) {
        secrets.stream()
    } else {
        secrets.masking_stream()
    }
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
    async fn texts_name_the_secret_and_in_other_bytes_nothing_moves() {
        let secrets = Secrets::new();
        assert!(
            file(&secrets, "", Path::new("/nowhere"))
                .await
                .unwrap()
                .is_none()
        );
        secrets.register("KEY", "correct-horse");
        let text = format!("{} correct-horse\n", "x".repeat(CHUNK_BYTES - 5));
        let clean = bytes(&secrets, "text/plain", text.as_bytes());
        assert!(clean.ends_with(b"x [secret KEY]\n"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, &text).unwrap();
        let copy = file(&secrets, "application/json", &path)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(std::fs::read(copy.path()).unwrap(), *clean);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

        let table = b"TAB\0correct-horse\0Y29ycmVjdC1ob3JzZQ\xff";
        let masked = b"TAB\0*************\0*****************Q\xff";
        assert_eq!(bytes(&secrets, "application/octet-stream", table), masked);
        assert_eq!(
            bytes(&secrets, "image/png", b"<correct-horse>"),
            b"<*************>"
        );
        std::fs::write(&path, table).unwrap();
        let copy = file(&secrets, "", &path).await.unwrap().unwrap();
        assert_eq!(std::fs::read(copy.path()).unwrap(), masked);
    }

    #[tokio::test]
    async fn an_archive_can_be_read_as_before() {
        let secrets = Secrets::new();
        secrets.register("KEY", "correct-horse");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("env"), "KEY=correct-horse\nREST=1\n").unwrap();
        let path = folder.path().join("it.tar");
        let run = |arguments: &[&str]| {
            let mut tar = std::process::Command::new("tar");
            let ended = tar.current_dir(folder.path()).args(arguments).output();
            let ended = ended.unwrap();
            assert!(ended.status.success(), "{ended:?}");
            ended.stdout
        };
        run(&["-cf", "it.tar", "env"]);
        let copy = file(&secrets, "application/x-tar", &path)
            .await
            .unwrap()
            .unwrap();
        std::fs::rename(copy.path(), &path).unwrap();
        let unpacked = run(&["-xOf", "it.tar"]);
        assert_eq!(unpacked, b"KEY=*************\nREST=1\n");
    }
}
