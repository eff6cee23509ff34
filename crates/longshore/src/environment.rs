//! `longshore env`: shell lines that point the AWS tools at a running server.

use std::fmt::Write as _;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::data_dir::{AccessKey, DataDir, ServerFacts};
use crate::error::CliError;
use crate::output;

/// A listening server on this machine takes a connection at once.
const CONNECT_TAKES_AT_MOST: Duration = Duration::from_secs(2);

/// Prints the lines for `eval`.
pub(crate) fn print(data_dir: &DataDir, program: &str) -> Result<(), CliError> {
    let not_running = || CliError::NotRunning { program: program.to_owned(), data_dir: data_dir.path().to_owned() };
    let server = data_dir.server()?.ok_or_else(not_running)?;
    let key = data_dir.root_access_key()?.ok_or_else(not_running)?;
    // A server that was killed leaves its file behind; its word is taken only if somebody answers.
    if !listens(&server) {
        return Err(not_running());
    }
    output::print(&lines(&server, &key))
}

fn listens(server: &ServerFacts) -> bool {
    let authority = server.endpoint.split_once("://").map_or("", |(_, authority)| authority);
    let addresses = authority.to_socket_addrs().into_iter().flatten();
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, CONNECT_TAKES_AT_MOST).is_ok())
}

/// Only what is served here is redirected: a user's other AWS calls keep going where they went. A session token in the
/// environment would be sent along with our key, and a profile or the ignoring of endpoints would win over these lines, so
/// they go.
fn lines(server: &ServerFacts, key: &AccessKey) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("AWS_ENDPOINT_URL_ECS", &server.endpoint),
        ("AWS_ENDPOINT_URL_ECR", &server.endpoint),
        ("AWS_ENDPOINT_URL_STS", &server.endpoint),
        ("AWS_ENDPOINT_URL_SSM", &server.endpoint),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &server.endpoint),
        ("AWS_ACCESS_KEY_ID", &key.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &key.secret_access_key),
        ("AWS_DEFAULT_REGION", &server.region),
        ("AWS_REGION", &server.region),
    ] {
        let _ = writeln!(text, "export {name}={}", quoted(value));
    }
    // The AWS tools know one bundle for all services, so it holds the roots of the system, too.
    if let Some(bundle) = &server.ca_bundle {
        let _ = writeln!(text, "export AWS_CA_BUNDLE={}", quoted(&bundle.to_string_lossy()));
    }
    text.push_str("unset AWS_SESSION_TOKEN AWS_PROFILE AWS_IGNORE_CONFIGURED_ENDPOINT_URLS\n");
    text
}

/// A word that any POSIX shell takes as exactly this text.
pub(crate) fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lines_name_endpoint_keys_and_region() {
        let server = ServerFacts {
            endpoint: "http://127.0.0.1:8470".into(),
            pid: 1,
            region: "eu-west-9".into(),
            account_id: "000000000000".into(),
            ..ServerFacts::default()
        };
        let key = AccessKey { access_key_id: "AKIA".into(), secret_access_key: "a+b/c=".into() };
        assert_eq!(
            lines(&server, &key),
            "export AWS_ENDPOINT_URL_ECS=http://127.0.0.1:8470\n\
             export AWS_ENDPOINT_URL_ECR=http://127.0.0.1:8470\n\
             export AWS_ENDPOINT_URL_STS=http://127.0.0.1:8470\n\
             export AWS_ENDPOINT_URL_SSM=http://127.0.0.1:8470\n\
             export AWS_ENDPOINT_URL_SECRETS_MANAGER=http://127.0.0.1:8470\n\
             export AWS_ACCESS_KEY_ID=AKIA\n\
             export AWS_SECRET_ACCESS_KEY='a+b/c='\n\
             export AWS_DEFAULT_REGION=eu-west-9\n\
             export AWS_REGION=eu-west-9\n\
             unset AWS_SESSION_TOKEN AWS_PROFILE AWS_IGNORE_CONFIGURED_ENDPOINT_URLS\n"
        );
        let with_tls = ServerFacts { ca_bundle: Some("/d d/tls/bundle.pem".into()), ..server };
        assert!(lines(&with_tls, &key).contains("export AWS_CA_BUNDLE='/d d/tls/bundle.pem'\n"));
    }

    #[test]
    fn without_a_server_there_is_nothing_to_export() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(folder.path()).unwrap();
        let message = print(&data_dir, "longshore").unwrap_err().to_string();
        assert!(message.starts_with("start Longshore first (longshore up --data-dir"), "{message}");
        // Nor is there with the files of a server that died.
        std::fs::write(
            folder.path().join("server.json"),
            r#"{"endpoint":"http://127.0.0.1:1","pid":1,"region":"us-east-1","accountId":"0"}"#,
        )
        .unwrap();
        let key = r#"{"accessKeyId":"a","secretAccessKey":"b"}"#;
        std::fs::write(folder.path().join("root-access-key"), key).unwrap();
        assert!(matches!(print(&data_dir, "longshore"), Err(CliError::NotRunning { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_shell_reads_back_what_was_quoted(value in "[^\0]{0,40}") {
            let script = format!("printf %s {}", quoted(&value));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }
}
