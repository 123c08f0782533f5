//! Where a repository is, and what is wrong when it cannot be had.

use std::{fs, time::Duration};

use agent_runtime::repository::{CacheSettings, Error, RepositoryCache};

use super::world::World;

#[tokio::test]
async fn a_missing_repository_is_told_from_a_missing_host() {
    let world = World::new();
    fs::create_dir(world.path("plain")).unwrap();
    for path in [world.path("nowhere"), world.path("plain")] {
        let error = world.cache.open(path.to_str().unwrap()).await.unwrap_err();
        assert!(
            matches!(error, Error::RepositoryNotFound { .. }),
            "{error:?}"
        );
        assert!(!error.is_retryable());
    }
    // A port that nothing listens on: bound and closed again.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = world
        .cache
        .open(&format!("http://127.0.0.1:{port}/x.git"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_server_that_never_answers_runs_into_the_deadline() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let cache = RepositoryCache::with_settings(
        world.path("cache"),
        CacheSettings {
            deadline: Duration::from_millis(300),
            ..CacheSettings::default()
        },
    );
    let error = cache
        .open(&format!("http://127.0.0.1:{port}/x.git"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}

/// A web server that answers every request with this.
fn answering(answer: &'static str) -> u16 {
    use std::io::{Read as _, Write as _};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test process; a connection that is never taken harms nobody.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[tokio::test]
async fn refused_credentials_missing_repositories_and_broken_servers_are_told_apart() {
    let world = World::new();
    let open = |answer| {
        let url = format!("http://127.0.0.1:{}/x.git", answering(answer));
        let cache = world.cache.clone();
        async move { cache.open(&url).await.unwrap_err() }
    };
    let error = open(
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(
        matches!(error, Error::AuthenticationFailed { .. }),
        "{error:?}"
    );
    let error =
        open("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    assert!(
        matches!(error, Error::RepositoryNotFound { .. }),
        "{error:?}"
    );
    assert!(!error.is_retryable());
    let error =
        open("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn giving_up_on_an_opening_ends_its_processes() {
    let world = World::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x.git", listener.local_addr().unwrap());
    let mut opening = Box::pin(world.cache.open(&url));
    let mut stream = tokio::select! {
        opened = &mut opening => panic!("{opened:?}"),
        stream = listener.accept() => stream.unwrap().0,
    };
    drop(opening);
    let mut request = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut request);
    tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .expect("the transport lives on")
        .ok();
}
