//! The second service and the second protocol: GetCallerIdentity as a form or a query, answered in XML; and how calls of
//! services that are not here are refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use longshore_server::{Server, ServerConfig};
use longshore_wire::sigv4::{Credentials, sign};
use serde_json::json;
use support::door::{Door, key, root};
use support::{credentials, http1, now, serve, serve_with};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const ASK: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// A call to be spoilt before it is sent.
struct Form<'a> {
    key: Credentials,
    service: &'a str,
    region: &'a str,
    method: &'a str,
    target: &'a str,
    content_type: &'a str,
    body: &'a str,
}

fn form(body: &str) -> Form<'_> {
    Form {
        key: credentials(),
        service: "sts",
        region: "us-east-1",
        method: "POST",
        target: "/",
        content_type: FORM,
        body,
    }
}

impl Form<'_> {
    fn request(&self, addr: SocketAddr) -> http::Request<Full<Bytes>> {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::try_from(addr.to_string()).unwrap());
        headers.insert("content-type", HeaderValue::try_from(self.content_type).unwrap());
        let body = self.body.as_bytes();
        let signed =
            sign(&self.key, self.region, self.service, now(), self.method, self.target, &headers, body).unwrap();
        headers.extend(signed);
        let mut request = http::Request::new(Full::from(self.body.to_owned()));
        *request.method_mut() = self.method.parse().unwrap();
        *request.uri_mut() = self.target.parse().unwrap();
        *request.headers_mut() = headers;
        request
    }

    async fn send(&self, addr: SocketAddr) -> Xml {
        send(addr, self.request(addr)).await
    }
}

struct Xml {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Xml {
    /// The text of the first element of that name.
    fn text(&self, name: &str) -> &str {
        let after = self.text.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{name} in {}", self.text)).1;
        after.split_once(&format!("</{name}>")).unwrap().0
    }

    fn error(&self) -> (u16, &str) {
        assert_eq!(self.headers["content-type"], "text/xml");
        assert_eq!(self.text("RequestId"), self.headers["x-amzn-requestid"]);
        assert_eq!(self.text("Type"), "Sender");
        (self.status, self.text("Code"))
    }
}

async fn send(addr: SocketAddr, request: http::Request<Full<Bytes>>) -> Xml {
    let (head, body) = timeout(SOON, http1(addr).await.send_request(request)).await.unwrap().unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Xml { status: head.status.as_u16(), headers: head.headers, text: String::from_utf8(bytes.into()).unwrap() }
}

#[tokio::test]
async fn the_caller_learns_who_he_is_by_form_and_by_query() {
    let served = serve().await;
    let query = format!("/?{ASK}");
    for call in [
        form(ASK),
        Form { method: "GET", target: &query, ..form("") },
        Form { target: &query, ..form("") },
        Form { target: "/?Version=2011-06-15", ..form("Action=GetCallerIdentity&Ignored=x%20y+z") },
    ] {
        let answer = call.send(served.addr).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.headers["content-type"], "text/xml");
        assert!(answer.text.starts_with(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>"
        ));
        assert_eq!(answer.text("Account"), "000000000000");
        assert_eq!(answer.text("UserId"), "000000000000");
        assert_eq!(answer.text("Arn"), "arn:aws:iam::000000000000:root");
        assert_eq!(answer.text("RequestId"), answer.headers["x-amzn-requestid"]);
    }
}

#[tokio::test]
async fn the_presigned_form_is_answered_too() {
    let served = serve().await;
    let uri = format!("http://{}/?{ASK}", served.addr);
    let host = served.addr.to_string();
    let request = support::presigned("sts", "GET", &uri, &[("host", &host)], "");
    let answer = send(served.addr, request).await;
    assert_eq!((answer.status, answer.text("Arn")), (200, "arn:aws:iam::000000000000:root"), "{}", answer.text);
}

#[tokio::test]
async fn refusals_are_xml_in_the_words_of_the_query_services() {
    let served = serve().await;
    let mut unsigned = form(ASK).request(served.addr);
    unsigned.headers_mut().remove("authorization");
    let mut halved = form(ASK).request(served.addr);
    halved.headers_mut().insert("authorization", HeaderValue::from_static("AWS4-HMAC-SHA256 Credential=a/b/c/sts/d"));
    let mut changed = form(ASK).request(served.addr);
    *changed.body_mut() = Full::from(format!("{ASK}&a=b"));
    for (request, error) in [
        (unsigned, (403, "MissingAuthenticationToken")),
        (halved, (400, "IncompleteSignature")),
        (changed, (403, "SignatureDoesNotMatch")),
        (Form { key: key("LSIASTRANGER", "x"), ..form(ASK) }.request(served.addr), (403, "InvalidClientTokenId")),
        (Form { region: "eu-west-1", ..form(ASK) }.request(served.addr), (403, "SignatureDoesNotMatch")),
        (form("Version=2011-06-15").request(served.addr), (400, "MissingAction")),
        (form("Action=Nonsense&Version=2011-06-15").request(served.addr), (400, "InvalidAction")),
        (form("Action=GetCallerIdentity&Version=2000-01-01").request(served.addr), (400, "InvalidAction")),
        (form("Action=a&Action=b").request(served.addr), (404, "MalformedQueryString")),
        (form("Action=%FF").request(served.addr), (404, "MalformedQueryString")),
    ] {
        let answer = send(served.addr, request).await;
        assert_eq!(answer.error(), error, "{}", answer.text);
    }
    let known = form("Action=AssumeRole&Version=2011-06-15&RoleArn=x").send(served.addr).await;
    assert_eq!(known.error(), (400, "InvalidAction"));
    assert!(known.text("Message").contains("does not serve AssumeRole"), "{}", known.text);
}

#[tokio::test]
async fn bounds_hold_for_forms_as_for_json() {
    let served = serve_with(|limits| limits.max_body_bytes = 1000).await;
    let large = form(&"x".repeat(2000)).send(served.addr).await;
    assert_eq!(large.error(), (413, "RequestEntityTooLarge"));
}

#[tokio::test]
async fn machines_and_join_tokens_are_somebody_as_long_as_they_are_good() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut config = ServerConfig::new(&data);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.account_id = "123456789012".to_owned();
    config.region = "us-east-1".to_owned();
    let server = timeout(SOON, Server::start(config)).await.unwrap().unwrap();
    let (door, owner) = (Door::plain(server.local_addr()), root(&data));
    let token = support::door::token(&door.ask(&owner, "Longshore.CreateJoinToken", json!({})).await);
    let machine = door.join(&owner, 1).await;
    let ask = |key: &Credentials| Form { key: key.clone(), ..form(ASK) }.request(server.local_addr());
    for (key, kind) in [(&machine, "instance"), (&token, "join-token")] {
        let answer = send(server.local_addr(), ask(key)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.text("UserId"), key.access_key_id);
        assert_eq!(answer.text("Arn"), format!("arn:aws:iam::123456789012:{kind}/{}", key.access_key_id));
    }
    assert_eq!(send(server.local_addr(), ask(&owner)).await.text("UserId"), "123456789012");

    let revoke = json!({"accessKeyId": machine.access_key_id});
    assert_eq!(door.ask(&owner, "Longshore.RevokeInstanceIdentity", revoke).await.status, 200);
    assert_eq!(send(server.local_addr(), ask(&machine)).await.error(), (403, "InvalidClientTokenId"));
    timeout(SOON, server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn other_services_are_refused_in_their_own_protocol() {
    let served = serve().await;
    let iam = Form { service: "iam", ..form("Action=ListUsers&Version=2010-05-08") }.send(served.addr).await;
    assert_eq!(iam.error(), (400, "InvalidAction"));
    assert!(iam.text("Message").contains("not 'iam'"), "{}", iam.text);
    assert!(iam.text("Message").contains("AWS_ENDPOINT_URL_ECS"));

    let ec2 = Form { service: "ec2", ..form("Action=DescribeInstances&Version=2016-11-15") }.send(served.addr).await;
    assert!(ec2.text.starts_with("<Response><Errors><Error><Code>InvalidAction</Code>"), "{}", ec2.text);
    let s3 = Form { service: "s3", method: "PUT", target: "/bucket/key", content_type: "text/plain", ..form("data") };
    let s3 = s3.send(served.addr).await;
    assert!(s3.status == 400 && s3.text.starts_with("<Error><Code>InvalidAction</Code>"), "{}", s3.text);
    let lambda = Form { service: "lambda", method: "GET", target: "/2015-03-31/functions/", ..form("") };
    let lambda = lambda.send(served.addr).await;
    assert_eq!(lambda.headers["x-amzn-errortype"], "UnknownOperationException");
    assert!(lambda.text.starts_with("{\"__type\":"), "{}", lambda.text);
}
