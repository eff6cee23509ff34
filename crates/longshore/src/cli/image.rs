//! `longshore image`: images that the server keeps for the machines of its clusters.

use clap::{Args, Subcommand};

use super::{OutputArgs, ReachArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Hand an image of this machine's Docker Engine to the server, for every instance that needs it
    ///
    /// Task definitions name it as it was pushed (web:1), or as ECR would (ACCOUNT.dkr.ecr.REGION.amazonaws.com/web:1, with the
    /// server's own account id and region). The agents of Longshore look for a name without a registry at their server before
    /// Docker Hub. What the server has already is not sent again.
    #[command(
        after_help = "Examples:\n  docker build --tag web:1 . && longshore image push web:1\n  longshore image push registry.example/team/web:1 --as web:1"
    )]
    Push(PushArgs),
    /// List the images that the server keeps
    ///
    /// With --output json one object: `images`, each with `name`, `digest`, `bytes` (what its layers amount to, compressed) and
    /// `pushedAt`.
    List(ListImagesArgs),
    /// Remove images from the server; where they were pulled already they stay
    ///
    /// By its digest (web@sha256:…) an image goes with all its names. Layers that no image needs any more are removed from the
    /// disk within two hours; an image that only lost its name can be pulled by its digest for two more weeks.
    Remove(RemoveImagesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The image, as `docker images` shows it; without a tag it is latest
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The name that task definitions have for it, if it is another one
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListImagesArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveImagesArgs {
    /// Images: NAME:TAG or NAME@DIGEST
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}
