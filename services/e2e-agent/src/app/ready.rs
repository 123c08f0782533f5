//! Waits until an app is ready, by what it declares: a path, its port, a line of its log, or its container's
//! own health check. What was seen last is kept, for the reason when it never is.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use agent_runtime::project::{HttpReady, ReadyBy};
use tokio::{net::TcpStream, sync::watch, time::Instant};

pub(super) use super::log::Watch;
use super::{
    container::{Container, HealthQuestion},
    log::Matched,
};
use crate::http;

/// Time between two looks.
const POLL: Duration = Duration::from_millis(50);

/// Limit of one look; an app may be slow to answer its first request.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// What is waited for.
pub(super) struct Readiness {
    by: By,
    /// Base URLs that the app may answer at: its port on both loopback addresses, or the one it has.
    places: Vec<String>,
}

enum By {
    Http(HttpReady),
    Tcp,
    Log(watch::Receiver<Option<Matched>>),
    Health(HealthQuestion),
}

impl Readiness {
    pub(super) fn for_port(
        by: &ReadyBy,
        port: u16,
        seen: watch::Receiver<Option<Matched>>,
        container: Option<&Container>,
    ) -> Result<Self, String> {
        let by = match (by, container) {
            (ReadyBy::Http(http), _) => By::Http(http.clone()),
            (ReadyBy::Tcp, _) => By::Tcp,
            (ReadyBy::Log(_), _) => By::Log(seen),
            (ReadyBy::DockerHealth, Some(container)) => By::Health(container.question()),
            (ReadyBy::DockerHealth, None) => {
                return Err(
                    "`ready: {docker_health: true}` is about containers, and the app is a program"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            by,
            places: places(port),
        })
    }

    /// An app that runs already is asked over the network only.
    pub(super) fn for_url(by: &ReadyBy, base_url: &str) -> Result<Self, String> {
        let by = match by {
            ReadyBy::Http(http) => By::Http(http.clone()),
            ReadyBy::Tcp => By::Tcp,
            ReadyBy::Log(_) | ReadyBy::DockerHealth => {
                return Err(
                    "an app that runs already shows neither its log nor its container; \
                            declare `ready: {http: …}` or `ready: {tcp: true}`"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            by,
            places: vec![base_url.to_owned()],
        })
    }

    /// The base URL where it is ready, or what was seen last.
    pub(super) async fn wait(mut self, within: Duration) -> Result<String, String> {
        let deadline = Instant::now() + within;
        let mut last = "nothing was seen".to_owned();
        loop {
            let look = tokio::time::timeout_at(deadline, self.look()).await;
            match look {
                Ok(Ok(base_url)) => return Ok(base_url),
                Ok(Err(seen)) => last = seen,
                Err(_) => return Err(last),
            }
            if Instant::now() + POLL >= deadline {
                return Err(last);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn look(&mut self) -> Result<String, String> {
        match &mut self.by {
            By::Http(http) => {
                let mut last = String::new();
                for place in &self.places {
                    match answers(place, http).await {
                        Ok(()) => return Ok(place.clone()),
                        // A wrong answer tells more than no answer at the other address.
                        Err(seen) if last.is_empty() || seen.contains("answered") => last = seen,
                        Err(_) => {}
                    }
                }
                Err(last)
            }
            By::Tcp => accepting(&self.places).await,
            By::Log(seen) => {
                let matched = seen
                    .wait_for(Option::is_some)
                    .await
                    .map_err(|_| "its log ended".to_owned())?
                    .and_then(|matched| matched.port);
                if let Some(port) = matched {
                    self.places = places(port);
                }
                // The line may come before the listening.
                accepting(&self.places).await
            }
            By::Health(question) => {
                question.ask().await?;
                accepting(&self.places).await
            }
        }
    }
}

fn places(port: u16) -> Vec<String> {
    [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ]
    .into_iter()
    .map(|host| format!("http://{}", SocketAddr::new(host, port)))
    .collect()
}

async fn accepting(places: &[String]) -> Result<String, String> {
    let mut last = String::new();
    for place in places {
        let Some((host, port)) = reqwest::Url::parse(place)
            .ok()
            .and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)))
        else {
            return Err(format!("{place:?} is not a URL"));
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        match tokio::time::timeout(LOOK_WITHIN, TcpStream::connect((host.as_str(), port))).await {
            Ok(Ok(_)) => return Ok(place.clone()),
            Ok(Err(error)) if last.is_empty() => {
                last = format!("port {port} does not accept connections ({})", error.kind());
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Err(last)
}

async fn answers(base_url: &str, http: &HttpReady) -> Result<(), String> {
    let client = http::client(LOOK_WITHIN)?;
    match client.get(format!("{base_url}{}", http.path)).send().await {
        Ok(answer) if answer.status().as_u16() == http.status => Ok(()),
        Ok(answer) => Err(format!(
            "{} answered {} instead of {}",
            http.path,
            answer.status().as_u16(),
            http.status
        )),
        Err(error) => Err(format!(
            "{} gave no answer ({})",
            http.path,
            http::cause(&error)
        )),
    }
}
