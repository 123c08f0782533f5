//! Runs instances as containers of a Docker engine: with limits, without privileges, as a user that
//! is not root, and found again by their labels.

mod container;

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, ImageInspect, PortBinding},
    query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder},
};
use futures::future::BoxFuture;
use tokio_util::task::TaskTracker;

use self::container::{Container, Made};
use super::{Launch, LaunchError, Mark, Run, Target};
use crate::{
    engine::{Engine, Error, labels},
    planning::CONTAINER_PORT,
};

/// Label with the data folder that a container belongs to.
const OWNER_LABEL: &str = "agentic.owner";
/// User of containers whose image names none, or root: nobody's, as in distroless images.
const USER: &str = "65532:65532";
/// Processes of one container: room for a threaded server, none for a fork bomb.
const PROCESS_LIMIT: i64 = 1024;

/// Runs instances as containers.
#[derive(Debug)]
pub struct DockerTarget {
    engine: Arc<Engine>,
    owner: String,
    /// Log followers and late removals.
    tracker: TaskTracker,
}

impl DockerTarget {
    /// `owner` identifies the agent's data folder.
    pub fn new(engine: Arc<Engine>, owner: impl Into<String>) -> Self {
        Self {
            engine,
            owner: owner.into(),
            tracker: TaskTracker::new(),
        }
    }

    async fn start(&self, launch: &Launch) -> Result<Container, Error> {
        let name = launch.spec.image.clone().unwrap_or_default();
        let image = self.engine.image(&name).await?;
        let docker = self.engine.connect().await?;
        let port = launch
            .spec
            .container_port
            .unwrap_or_else(|| port_of(&image));
        let body = self.body(launch, &image, port);
        let created = docker.create_container(None, body).await;
        let id = created.map_err(Error::refused("create a container"))?.id;
        let made = Made::new(docker.clone(), id.clone(), self.tracker.clone());
        let started = docker.start_container(&id, None).await;
        started.map_err(Error::refused("start a container"))?;
        let address = published(&docker, &id, port).await?;
        let log = Arc::clone(&launch.log);
        Ok(Container::watched(
            made,
            address,
            launch.spec.memory_limit,
            log,
        ))
    }

    fn body(&self, launch: &Launch, image: &ImageInspect, port: u16) -> ContainerCreateBody {
        let spec = &launch.spec;
        let variables = spec
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let secrets = launch
            .secrets
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let told_port = format!("{}={port}", spec.port_variable);
        let trace = contracts::trace::traceparent(&tracing::Span::current());
        let trace = (!trace.is_empty()).then(|| format!("TRACEPARENT={trace}"));
        let memory = spec
            .memory_limit
            .and_then(|limit| i64::try_from(limit).ok());
        let exposed = format!("{port}/tcp");
        let binding = PortBinding {
            host_ip: Some("127.0.0.1".to_owned()),
            host_port: None,
        };
        ContainerCreateBody {
            image: Some(image.id.clone().unwrap_or_default()),
            cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
            env: Some(
                variables
                    .chain(secrets)
                    .chain([told_port])
                    .chain(trace)
                    .collect(),
            ),
            user: user_of(image),
            exposed_ports: Some(vec![exposed.clone()]),
            labels: Some(labels(&[
                (OWNER_LABEL, &self.owner),
                ("agentic.environment", &launch.environment),
                ("agentic.app", &launch.app),
                ("agentic.revision", &launch.revision.to_string()),
                ("agentic.instance", &launch.number.to_string()),
                ("agentic.commit", &spec.commit),
            ])),
            host_config: Some(HostConfig {
                memory,
                // Swap beyond the limit would only hide that it is reached.
                memory_swap: memory,
                pids_limit: Some(PROCESS_LIMIT),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                init: Some(true),
                port_bindings: Some(HashMap::from([(exposed, Some(vec![binding]))])),
                log_config: Some(HostConfigLogConfig {
                    typ: Some("json-file".to_owned()),
                    config: Some(labels(&[("max-size", "4m"), ("max-file", "2")])),
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

impl Target for DockerTarget {
    fn launch<'a>(
        &'a self,
        launch: &'a Launch,
    ) -> BoxFuture<'a, Result<Box<dyn Run>, LaunchError>> {
        Box::pin(async move {
            let container = self.start(launch).await.map_err(LaunchError::Engine)?;
            Ok(Box::new(container) as Box<dyn Run>)
        })
    }

    fn end_leftovers<'a>(&'a self, marks: &'a [Mark]) -> BoxFuture<'a, usize> {
        Box::pin(async move {
            let Ok(docker) = self.engine.connect().await else {
                let lost = marks
                    .iter()
                    .filter(|mark| matches!(mark, Mark::Container { .. }));
                if lost.count() > 0 {
                    tracing::warn!(
                        "containers of an earlier agent cannot be looked for: no engine answers"
                    );
                }
                return 0;
            };
            let mine = format!("{OWNER_LABEL}={}", self.owner);
            let filters = HashMap::from([("label".to_owned(), vec![mine])]);
            let options = ListContainersOptionsBuilder::default()
                .all(true)
                .filters(&filters)
                .build();
            let found = docker
                .list_containers(Some(options))
                .await
                .unwrap_or_else(|error| {
                    tracing::warn!(%error, "cannot look for containers of an earlier agent");
                    Vec::new()
                });
            let mut ended = 0;
            for id in found.into_iter().filter_map(|container| container.id) {
                let options = RemoveContainerOptionsBuilder::default()
                    .force(true)
                    .v(true)
                    .build();
                match docker.remove_container(&id, Some(options)).await {
                    Ok(()) => ended += 1,
                    Err(error) => tracing::warn!(%id, %error, "cannot remove a container"),
                }
            }
            ended
        })
    }
}

/// The port that the image exposes: what its `PORT` says if it exposes that, else the lowest.
fn port_of(image: &ImageInspect) -> u16 {
    let config = image.config.clone().unwrap_or_default();
    let mut exposed: Vec<u16> = config
        .exposed_ports
        .unwrap_or_default()
        .iter()
        .filter_map(|port| port.strip_suffix("/tcp")?.parse().ok())
        .collect();
    exposed.sort_unstable();
    let told = config
        .env
        .unwrap_or_default()
        .iter()
        .find_map(|variable| variable.strip_prefix("PORT=")?.parse().ok());
    told.filter(|port| exposed.is_empty() || exposed.contains(port))
        .or(exposed.first().copied())
        .unwrap_or(CONTAINER_PORT)
}

fn user_of(image: &ImageInspect) -> Option<String> {
    let user = image
        .config
        .as_ref()
        .and_then(|config| config.user.clone())
        .unwrap_or_default();
    let name = user.split(':').next().unwrap_or_default();
    matches!(name, "" | "0" | "root").then(|| USER.to_owned())
}

async fn published(docker: &Docker, id: &str, port: u16) -> Result<(IpAddr, u16), Error> {
    let found = docker.inspect_container(id, None).await;
    let found = found.map_err(Error::refused("look at a container"))?;
    let ports = found
        .network_settings
        .and_then(|network| network.ports)
        .unwrap_or_default();
    let binding = ports
        .get(&format!("{port}/tcp"))
        .cloned()
        .flatten()
        .unwrap_or_default();
    let published = binding.iter().find_map(|binding| {
        let host = binding.host_ip.as_deref()?.parse().ok()?;
        Some((host, binding.host_port.as_deref()?.parse().ok()?))
    });
    // A container that is over already has no ports; its log and exit code tell why.
    Ok(published.unwrap_or((IpAddr::from([127, 0, 0, 1]), 0)))
}

#[cfg(test)]
mod tests {
    use bollard::models::ImageConfig;

    use super::*;

    fn image(exposed: &[&str], env: &[&str], user: &str) -> ImageInspect {
        let texts = |texts: &[&str]| Some(texts.iter().map(ToString::to_string).collect());
        ImageInspect {
            config: Some(ImageConfig {
                exposed_ports: texts(exposed),
                env: texts(env),
                user: Some(user.to_owned()),
                ..ImageConfig::default()
            }),
            ..ImageInspect::default()
        }
    }

    #[test]
    fn the_port_is_what_the_image_says() {
        assert_eq!(port_of(&image(&["9000/tcp", "80/tcp"], &[], "")), 80);
        assert_eq!(
            port_of(&image(&["9000/tcp", "80/tcp"], &["PORT=9000"], "")),
            9000
        );
        assert_eq!(port_of(&image(&["53/udp"], &["PORT=81"], "")), 81);
        assert_eq!(port_of(&image(&[], &[], "")), CONTAINER_PORT);
    }

    #[test]
    fn nobody_runs_as_root() {
        for root in ["", "0", "root", "0:0", "root:root"] {
            assert_eq!(
                user_of(&image(&[], &[], root)).as_deref(),
                Some(USER),
                "{root:?}"
            );
        }
        assert_eq!(user_of(&image(&[], &[], "1000")), None);
    }
}
