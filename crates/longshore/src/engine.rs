//! The little of the Docker Engine that commands for people need: a container's output, pushing an image, and, when no agent
//! is left to do it, stopping what an agent started. Everything else about containers is the agent's.
//!
//! A few calls of the Engine's API, the same in all its versions, over a connection each.

use std::path::PathBuf;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use longshore_agent::RegistryLogin;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use crate::error::{CliError, with_causes};

/// The label by which the agent marks containers with the instance they belong to.
const INSTANCE_LABEL: &str = "longshore.container-instance-arn";
/// Lines read ahead of what the terminal has taken; beyond it the Engine keeps them.
pub(crate) const LINES_WAITING_AT_MOST: usize = 256;

/// The Engine of this machine, or the one that `DOCKER_HOST` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Unix(PathBuf),
    Tcp(String),
}

impl Engine {
    pub(crate) fn from_environment() -> Result<Self, CliError> {
        Self::at(std::env::var("DOCKER_HOST").ok().as_deref())
    }

    fn at(host: Option<&str>) -> Result<Self, CliError> {
        let host = host.filter(|host| !host.is_empty()).unwrap_or("unix:///var/run/docker.sock");
        match host.split_once("://") {
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", address)) => Ok(Self::Tcp(address.to_owned())),
            _ => Err(CliError::Docker {
                doing: "reach the Docker Engine",
                reason: format!("DOCKER_HOST is {host}, which is neither unix:///PATH nor tcp://HOST:PORT"),
            }),
        }
    }

    /// Sends a container's output line by line until it ends or nobody listens: from its beginning, or with the last
    /// `tail` lines.
    pub(crate) fn follow_output(&self, id: &str, name: &str, tail: Option<u32>, lines: mpsc::Sender<String>) {
        let tail = tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let path = format!("/containers/{id}/logs?follow=1&stdout=1&stderr=1&tail={tail}");
        let (engine, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            // Output that cannot be had is not worth an error: the task is shown all the same.
            let Ok(answer) = engine.request(Method::GET, &path).await else { return };
            let mut body = answer.into_body();
            let mut output = Output::default();
            while let Some(Ok(frame)) = body.frame().await {
                for line in output.push(frame.data_ref().map_or(&[], |bytes| bytes)) {
                    if lines.send(format!("{name} │ {line}")).await.is_err() {
                        return;
                    }
                }
            }
        });
    }

    /// Stops all running containers of a container instance, each with its own signal and time-out, and returns how many.
    pub(crate) async fn stop_containers_of(&self, instance_arn: &str) -> Result<usize, CliError> {
        #[derive(serde::Deserialize)]
        struct Listed {
            #[serde(rename = "Id")]
            id: String,
        }
        let fail = |doing| move |reason| CliError::Docker { doing, reason };
        let label = format!("{INSTANCE_LABEL}={instance_arn}");
        let filters = serde_json::json!({ "label": [label] }).to_string();
        let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
        let list = async {
            let path = format!("/containers/json?filters={filters}");
            let answer = self.request(Method::GET, &path).await?;
            let body = answer.into_body().collect().await.map_err(|error| with_causes(&error))?;
            serde_json::from_slice::<Vec<Listed>>(&body.to_bytes()).map_err(|error| error.to_string())
        };
        let containers = list.await.map_err(fail("list containers"))?;
        let stops = containers.iter().map(|container| async move {
            self.request(Method::POST, &format!("/containers/{}/stop", container.id)).await
        });
        for stopped in join_all(stops).await {
            stopped.map_err(fail("stop a container"))?;
        }
        Ok(containers.len())
    }

    /// Gives an image another name.
    pub(crate) async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), String> {
        let path = format!("/images/{}/tag?repo={}&tag={}", encoded(image), encoded(repository), encoded(tag));
        self.done(Method::POST, &path, None).await.map(drop)
    }

    /// Takes a name from an image.
    pub(crate) async fn untag(&self, name: &str) -> Result<(), String> {
        self.done(Method::DELETE, &format!("/images/{}?noprune=1", encoded(name)), None).await.map(drop)
    }

    /// Pushes an image to the registry that its name says, and waits until it is there.
    pub(crate) async fn push(&self, repository: &str, tag: &str, login: &RegistryLogin) -> Result<(), String> {
        #[derive(serde::Deserialize)]
        struct Progress {
            error: Option<String>,
        }
        let path = format!("/images/{}/push?tag={}", encoded(repository), encoded(tag));
        let answer = self.done(Method::POST, &path, Some(login.to_header())).await?;
        let body = answer.into_body().collect().await.map_err(|error| with_causes(&error))?.to_bytes();
        let lines = serde_json::Deserializer::from_slice(&body).into_iter::<Progress>();
        for line in lines {
            // What cannot be read is no error that was told.
            if let Ok(Progress { error: Some(error) }) = line {
                return Err(error);
            }
        }
        Ok(())
    }

    /// A call that is to succeed; else the Engine says why it did not.
    async fn done(&self, method: Method, path: &str, login: Option<HeaderValue>) -> Result<Response<Incoming>, String> {
        #[derive(serde::Deserialize)]
        struct Refusal {
            message: String,
        }
        let answer = self.send(method, path, login).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| with_causes(&error))?.to_bytes();
        let refusal = serde_json::from_slice::<Refusal>(&body);
        Err(refusal.map_or_else(|_| format!("{path} answered {status}"), |refusal| refusal.message))
    }

    async fn request(&self, method: Method, path: &str) -> Result<Response<Incoming>, String> {
        let answer = self.send(method, path, None).await?;
        // 304: a container that should stop has stopped already. 404: it is gone, which is as good.
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::NOT_MODIFIED | StatusCode::NOT_FOUND if method_stops(path) => Ok(answer),
            status => Err(format!("{path} answered {status}")),
        }
    }

    async fn send(&self, method: Method, path: &str, login: Option<HeaderValue>) -> Result<Response<Incoming>, String> {
        match self {
            Self::Unix(socket) => {
                let stream =
                    UnixStream::connect(socket).await.map_err(|error| format!("{}: {error}", socket.display()))?;
                exchange(stream, method, path, login).await
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
                exchange(stream, method, path, login).await
            }
        }
    }
}

/// A part of a path, or a parameter. The slashes of images' names stay.
fn encoded(text: &str) -> String {
    const KEPT: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b':').remove(b'@');
    utf8_percent_encode(text, KEPT).to_string()
}

fn method_stops(path: &str) -> bool {
    path.ends_with("/stop")
}

async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    method: Method,
    path: &str,
    login: Option<HeaderValue>,
) -> Result<Response<Incoming>, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| with_causes(&error))?;
    // Ends with the answer's body, or with the socket.
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(http::header::HOST, "docker");
    if let Some(login) = login {
        request = request.header("x-registry-auth", login);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(|error| with_causes(&error))
}

/// Cuts a container's output into lines. Without a terminal the Engine sends frames: a byte that names the stream, three
/// of zero, four for the length, the bytes. With one it sends the bytes alone.
#[derive(Debug, Default)]
struct Output {
    header: Vec<u8>,
    left_in_frame: usize,
    raw: bool,
    line: Vec<u8>,
}

impl Output {
    const HEADER_BYTES: usize = 8;
    /// A program that never ends its line must not fill our memory: a line is cut here.
    const LONGEST_LINE_BYTES: usize = 8 * 1024;

    /// The lines that `piece` completes; frames and lines may come in several pieces.
    fn push(&mut self, mut piece: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some((first, rest)) = piece.split_first() {
            if self.raw {
                self.text(std::mem::take(&mut piece), &mut lines);
            } else if self.left_in_frame > 0 {
                let (text, rest) = piece.split_at(self.left_in_frame.min(piece.len()));
                self.left_in_frame -= text.len();
                self.text(text, &mut lines);
                piece = rest;
            } else {
                self.header.push(*first);
                piece = rest;
                self.read_header(&mut lines);
            }
        }
        lines
    }

    fn read_header(&mut self, lines: &mut Vec<String>) {
        let framed = match self.header.as_slice() {
            [stream] => *stream <= 2,
            [_, zeros @ ..] => zeros.iter().take(3).all(|byte| *byte == 0),
            [] => true,
        };
        if !framed {
            self.raw = true;
            let text = std::mem::take(&mut self.header);
            self.text(&text, lines);
        } else if self.header.len() == Self::HEADER_BYTES {
            let length = self.header.iter().skip(4).fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
            self.left_in_frame = length;
            self.header.clear();
        }
    }

    fn text(&mut self, text: &[u8], lines: &mut Vec<String>) {
        for byte in text {
            if *byte == b'\n' || self.line.len() >= Self::LONGEST_LINE_BYTES {
                lines.push(String::from_utf8_lossy(self.line.trim_ascii_end()).into_owned());
                self.line.clear();
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend((text.len() as u32).to_be_bytes());
        frame.extend(text.as_bytes());
        frame
    }

    #[test]
    fn the_engine_is_where_docker_host_says() {
        assert_eq!(Engine::at(None).unwrap(), Engine::Unix("/var/run/docker.sock".into()));
        assert_eq!(Engine::at(Some("unix:///x")).unwrap(), Engine::Unix("/x".into()));
        assert_eq!(Engine::at(Some("tcp://h:1")).unwrap(), Engine::Tcp("h:1".into()));
        assert!(Engine::at(Some("ssh://h")).unwrap_err().with_causes().contains("ssh://h"));
    }

    #[test]
    fn a_terminals_output_has_no_frames() {
        let mut output = Output::default();
        assert_eq!(output.push(b"one\r\ntw"), ["one"]);
        assert_eq!(output.push(b"o\n"), ["two"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut output = Output::default();
        let cut = output.push(&vec![b'x'; 3 * Output::LONGEST_LINE_BYTES]);
        assert_eq!(cut.len(), 2);
        assert!(cut.iter().all(|line| line.len() == Output::LONGEST_LINE_BYTES));
    }

    proptest! {
        #[test]
        fn lines_are_whole_however_they_come(
            texts in prop::collection::vec("[a-z]{0,9}", 1..9),
            size in 1_usize..30,
        ) {
            let bytes: Vec<u8> = texts
                .iter()
                .enumerate()
                .flat_map(|(index, text)| frame(1 + (index % 2) as u8, &format!("{text}\n")))
                .collect();
            let mut output = Output::default();
            let lines: Vec<String> = bytes.chunks(size).flat_map(|piece| output.push(piece)).collect();
            prop_assert_eq!(lines, texts);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Output::default().push(&bytes);
        }
    }
}
