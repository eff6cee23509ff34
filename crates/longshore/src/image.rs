//! `longshore image`: the images that the server keeps, so that a cluster needs no other registry.
//!
//! Pushing is Docker's own: the Engine is led to the server through a door on this machine's loopback interface, where it
//! speaks to any registry.

use std::fmt;

use longshore_agent::RegistryLogin;
use longshore_client::{Client, Loopback, RegistryError, RegistryToken, RemoteImage};
use serde::Serialize;

use crate::cli::{Format, ImageCommand, ListImagesArgs, PushArgs, RemoveImagesArgs};
use crate::engine::Engine;
use crate::error::CliError;
use crate::output::{self, Output, print_json};
use crate::reach::Reach;
use crate::table::Table;

/// Runs the command.
pub(crate) async fn image(command: ImageCommand, program: &str) -> Result<(), CliError> {
    match command {
        ImageCommand::Push(args) => push(args, program).await,
        ImageCommand::List(args) => list(args, program).await,
        ImageCommand::Remove(args) => remove(args, program).await,
    }
}

async fn push(args: PushArgs, program: &str) -> Result<(), CliError> {
    let name = ImageName::parse(args.name.as_deref().unwrap_or(&args.image))?.with_tag()?;
    let reached = Reach::new(&args.reach, program).connect()?;
    let client = reached.client.raw();
    let engine = Engine::from_environment()?;
    let token = client.registry_token(name.account.clone().map(|account| vec![account])).await;
    let token = token.map_err(CliError::Call)?;
    let docker = |reason: String| CliError::Docker { doing: "push an image", reason };
    let door = Loopback::open(0, client.transport().clone(), client.origin().clone()).await;
    let door = door.map_err(|error| docker(error.to_string()))?;
    let (authority, mut output) = (door.authority(), Output::new());
    let open = tokio::spawn(door.serve());
    let there = format!("{authority}/{}", name.repository);
    engine.tag(&args.image, &there, &name.tag).await.map_err(docker)?;
    let login = RegistryLogin {
        server: authority,
        username: token.username.clone(),
        password: token.password.clone(),
        email: String::new(),
    };
    let pushed = engine.push(&there, &name.tag, &login).await;
    // The name was made for the way only.
    let untagged = engine.untag(&format!("{there}:{}", name.tag)).await;
    open.abort();
    pushed.and(untagged).map_err(docker)?;
    let image = client.image(&token, &name.repository, &name.tag).await.map_err(CliError::Registry)?;
    output.tick(format_args!("{name} is at {}: {}", reached.endpoint, image.digest));
    output.note(format_args!("task definitions name it {name}"));
    Ok(())
}

async fn list(args: ListImagesArgs, program: &str) -> Result<(), CliError> {
    let reached = Reach::new(&args.reach, program).connect()?;
    let client = reached.client.raw();
    let token = client.registry_token(None).await.map_err(CliError::Call)?;
    let images = all(client, &token).await.map_err(CliError::Registry)?;
    match args.output.output {
        Format::Json => print_json(&serde_json::json!({ "images": images })),
        Format::Table => output::print(&table(&images)),
    }
}

async fn remove(args: RemoveImagesArgs, program: &str) -> Result<(), CliError> {
    let reached = Reach::new(&args.reach, program).connect()?;
    let client = reached.client.raw();
    let token = client.registry_token(None).await.map_err(CliError::Call)?;
    let mut output = Output::new();
    for image in &args.images {
        let name = ImageName::parse(image)?;
        match client.remove_image(&token, &name.repository, &name.tag).await {
            Ok(()) => output.tick(format_args!("{name} is removed")),
            Err(RegistryError::Unknown) => return Err(CliError::NoImage { name: name.to_string() }),
            Err(error) => return Err(CliError::Registry(error)),
        }
    }
    Ok(())
}

/// An image in the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    name: String,
    digest: String,
    bytes: Option<u64>,
    pushed_at: Option<String>,
}

async fn all(client: &Client, token: &RegistryToken) -> Result<Vec<Listed>, RegistryError> {
    let mut images = Vec::new();
    for repository in client.repositories(token).await? {
        // What is removed while we look is not there.
        let tags = match client.tags(token, &repository).await {
            Err(RegistryError::Unknown) => continue,
            tags => tags?,
        };
        for tag in tags {
            let RemoteImage { digest, bytes, modified } = match client.image(token, &repository, &tag).await {
                Err(RegistryError::Unknown) => continue,
                image => image?,
            };
            images.push(Listed { name: format!("{repository}:{tag}"), digest, bytes, pushed_at: modified });
        }
    }
    Ok(images)
}

fn table(images: &[Listed]) -> String {
    let mut table = Table::new(["IMAGE", "DIGEST", "SIZE", "PUSHED"]);
    for image in images {
        table.row([
            image.name.clone(),
            image.digest.chars().take("sha256:".len() + 12).collect(),
            image.bytes.map(size).unwrap_or_default(),
            image.pushed_at.clone().unwrap_or_default(),
        ]);
    }
    table.text()
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A name that the server can know an image by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ImageName {
    /// Whose registry it is, by ECR's form of a name.
    account: Option<String>,
    repository: String,
    /// Or digest.
    tag: String,
}

impl ImageName {
    fn parse(text: &str) -> Result<Self, CliError> {
        let (account, path) = match text.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                match host.split_once(".dkr.ecr.") {
                    Some((account, _)) => (Some(account.to_owned()), path),
                    None => {
                        return Err(CliError::ImageOfAnotherRegistry {
                            name: text.to_owned(),
                            registry: host.to_owned(),
                        });
                    }
                }
            }
            _ => (None, text),
        };
        let (repository, tag) = match path.split_once('@') {
            Some((name, digest)) => (name.split(':').next().unwrap_or(name), digest),
            None => path.split_once(':').unwrap_or((path, "latest")),
        };
        Ok(Self { account, repository: repository.to_owned(), tag: tag.to_owned() })
    }

    /// The same, if it can be given to an image: a digest is no name to give.
    fn with_tag(self) -> Result<Self, CliError> {
        match self.tag.contains(':') {
            true => Err(CliError::ImageWithoutTag { name: self.to_string() }),
            false => Ok(self),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.tag.contains(':') { '@' } else { ':' };
        write!(f, "{}{between}{}", self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_task_definitions() {
        let shown = |text| ImageName::parse(text).map(|name| (name.account.clone(), name.to_string())).ok();
        assert_eq!(shown("web"), Some((None, "web:latest".to_owned())));
        assert_eq!(shown("team/web:1"), Some((None, "team/web:1".to_owned())));
        assert_eq!(shown("web@sha256:ab"), Some((None, "web@sha256:ab".to_owned())));
        let ecr = "000000000001.dkr.ecr.us-east-1.amazonaws.com/web:1";
        assert_eq!(shown(ecr), Some((Some("000000000001".to_owned()), "web:1".to_owned())));
        let error = ImageName::parse("registry.example:5000/web:1").unwrap_err().to_string();
        assert!(error.contains("--as") && error.contains("registry.example:5000"), "{error}");
    }

    #[test]
    fn a_digest_is_no_name_to_give() {
        let given = |text| ImageName::parse(text).and_then(ImageName::with_tag).map(|name| name.to_string());
        assert_eq!(given("web:1").unwrap(), "web:1");
        let error = given("web@sha256:ab").unwrap_err().to_string();
        assert!(error.contains("--as") && error.contains("web@sha256:ab"), "{error}");
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([size(777), size(7_770_000), size(7_770_000_000)], ["0.8 kB", "7.8 MB", "7.77 GB"]);
    }
}
