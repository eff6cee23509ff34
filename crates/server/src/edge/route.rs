//! Where a request goes: the one place that knows which services are behind this door and how their calls are told apart.
//!
//! awsJson names its service in `X-Amz-Target`. awsQuery does not: there the scope of the signature does, as it is with AWS
//! itself. What belongs to a service that is not here is refused in that service's own protocol, whoever sends it: there is
//! nothing behind it that a signature would guard.

use http::Method;
use http::request::Parts;
use longshore_api::error::UNKNOWN_OPERATION_EXCEPTION;
use longshore_api::{ApiError, admin, ecr, ecs, secrets_manager, ssm, sts};
use longshore_wire::aws_json::{self, ECS_TARGET_PREFIX};
use longshore_wire::protocol::{self, Protocol};
use longshore_wire::sigv4;

use super::upgrade::Kind;
use crate::auth::Signing;

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A call of a service that is served.
    Call(Service),
    /// A call of one that is not.
    Elsewhere {
        /// What the caller calls it.
        service: String,
        /// How it is told.
        protocol: Protocol,
    },
    /// A websocket of an agent.
    Socket(Kind),
    /// The registry of images.
    Registry,
    /// The stream of events.
    Events,
    /// Is anybody there?
    Ping,
    /// Nothing is there.
    Nothing,
}

/// The services behind this door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// ECS itself.
    Ecs,
    /// Our own administration.
    Administration,
    /// Who am I?
    Sts,
    /// Tokens for the registry.
    Ecr,
    /// Parameters.
    Ssm,
    /// Secrets.
    SecretsManager,
}

impl Service {
    /// What its calls are signed for.
    pub(super) fn signing(self) -> Signing {
        match self {
            Self::Ecs | Self::Administration => Signing::Ecs,
            Self::Sts => Signing::Sts,
            Self::Ecr => Signing::Ecr,
            Self::Ssm => Signing::Ssm,
            Self::SecretsManager => Signing::SecretsManager,
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Ecs | Self::Administration | Self::Ssm | Self::SecretsManager | Self::Ecr => Protocol::AwsJson,
            Self::Sts => Protocol::AwsQuery { namespace: sts::NAMESPACE },
        }
    }
}

impl Route {
    /// Where a request with this head goes.
    pub(super) fn of(head: &Parts) -> Self {
        match (&head.method, head.uri.path()) {
            (_, "/acs/ws") => return Self::Socket(Kind::Acs),
            (_, "/tcs/ws") => return Self::Socket(Kind::Tcs),
            (&Method::GET, "/ping") => return Self::Ping,
            (&Method::GET, "/events") => return Self::Events,
            (_, path) if path == "/v2" || path.starts_with("/v2/") => return Self::Registry,
            _ => {}
        }
        let at_root = head.uri.path() == "/";
        if at_root && head.method == Method::POST && head.headers.contains_key(aws_json::TARGET) {
            return Self::of_target(head);
        }
        let service = sigv4::scoped_service(&sigv4::Request::new(head, b""));
        let protocol = Protocol::of(head, service.as_deref());
        let is_query = at_root && matches!(head.method, Method::GET | Method::POST) && protocol::is_query(head);
        match service {
            Some(service) if service == sts::SIGNING_NAME && is_query => Self::Call(Service::Sts),
            // Of one of ours, but not in a form that it takes.
            Some(service) if service == sts::SIGNING_NAME => Self::Nothing,
            Some(service) if service == ecs::SIGNING_NAME && is_query => Self::Elsewhere { service, protocol },
            Some(service) if service != ecs::SIGNING_NAME => Self::Elsewhere { service, protocol },
            // Nobody signed it: the only service that takes such a form will say so.
            None if is_query => Self::Call(Service::Sts),
            _ if at_root && head.method == Method::POST => Self::Call(Service::Ecs),
            _ => Self::Nothing,
        }
    }

    fn of_target(head: &Parts) -> Self {
        match aws_json::target(&head.headers) {
            Ok(target) if target.service == admin::TARGET_PREFIX => Self::Call(Service::Administration),
            Ok(target) if target.service == ecr::TARGET_PREFIX => Self::Call(Service::Ecr),
            Ok(target) if target.service == ssm::TARGET_PREFIX => Self::Call(Service::Ssm),
            Ok(target) if target.service == secrets_manager::TARGET_PREFIX => Self::Call(Service::SecretsManager),
            Ok(target) if target.service != ECS_TARGET_PREFIX => {
                Self::Elsewhere { service: target.service.to_owned(), protocol: Protocol::AwsJson }
            }
            // What is wrong with a target is for ECS to say.
            _ => Self::Call(Service::Ecs),
        }
    }

    /// How its errors are told.
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Call(service) => service.protocol(),
            Self::Elsewhere { protocol, .. } => *protocol,
            Self::Socket(_) | Self::Registry | Self::Events | Self::Ping | Self::Nothing => Protocol::AwsJson,
        }
    }
}

/// What is said to a call of a service that is not here.
pub(super) fn not_served(service: &str) -> ApiError {
    let shown: String = service.chars().take(64).flat_map(char::escape_default).collect();
    let message = match service {
        ecs::SIGNING_NAME => "ECS takes no forms: send awsJson with an X-Amz-Target header.".to_owned(),
        _ => format!(
            "Longshore serves ECS, STS, SSM, Secrets Manager and ECR's tokens, not '{shown}': set AWS_ENDPOINT_URL_ECS and the like in \
             place of AWS_ENDPOINT_URL, so that calls of other services go where they belong."
        ),
    };
    ApiError::new(UNKNOWN_OPERATION_EXCEPTION, message)
}

#[cfg(test)]
mod tests {
    use longshore_wire::aws_query::FAULT_NAMESPACE;

    use super::*;

    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

    fn route(method: &str, uri: &str, headers: &[(&str, &str)]) -> Route {
        let request = http::Request::builder().method(method).uri(uri);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Route::of(&request.body(()).unwrap().into_parts().0)
    }

    fn signed(service: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=k/20150830/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        )
    }

    fn elsewhere(service: &str, protocol: Protocol) -> Route {
        Route::Elsewhere { service: service.to_owned(), protocol }
    }

    #[test]
    fn targets_name_their_service_whatever_the_signature_says() {
        let of = |target: &str| route("POST", "/", &[("x-amz-target", target), ("authorization", &signed("s3"))]);
        assert_eq!(of("AmazonEC2ContainerServiceV20141113.RunTask"), Route::Call(Service::Ecs));
        assert_eq!(of("Longshore.CreateJoinToken"), Route::Call(Service::Administration));
        assert_eq!(of("nonsense"), Route::Call(Service::Ecs));
        assert_eq!(of("AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"), Route::Call(Service::Ecr));
        assert_eq!(of("AmazonSSM.GetParameters"), Route::Call(Service::Ssm));
        assert_eq!(of("secretsmanager.GetSecretValue"), Route::Call(Service::SecretsManager));
        assert_eq!(of("DynamoDB_20120810.ListTables"), elsewhere("DynamoDB_20120810", Protocol::AwsJson));
    }

    #[test]
    fn forms_go_where_they_are_signed_for() {
        let query = Protocol::AwsQuery { namespace: FAULT_NAMESPACE };
        for (service, expected) in [
            ("sts", Route::Call(Service::Sts)),
            ("iam", elsewhere("iam", query)),
            ("ec2", elsewhere("ec2", Protocol::Ec2Query)),
            ("ecs", elsewhere("ecs", query)),
        ] {
            assert_eq!(route("POST", "/", &[FORM, ("authorization", &signed(service))]), expected);
            assert_eq!(route("GET", "/?Action=A", &[("authorization", &signed(service))]), expected);
            let presigned = format!("/?Action=A&X-Amz-Credential=k%2F20150830%2Fus-east-1%2F{service}%2Faws4_request");
            assert_eq!(route("GET", &presigned, &[]), expected);
        }
        assert_eq!(route("POST", "/", &[FORM]), Route::Call(Service::Sts));
        assert_eq!(route("PUT", "/?Action=A", &[("authorization", &signed("sts"))]), Route::Nothing);
    }

    #[test]
    fn the_rest_is_ours_or_nothing_or_elsewhere() {
        assert_eq!(route("GET", "/ping", &[]), Route::Ping);
        assert_eq!(route("GET", "/events?after=1", &[("authorization", &signed("ecs"))]), Route::Events);
        assert_eq!(route("POST", "/events", &[]), Route::Nothing);
        assert_eq!(route("GET", "/v2/", &[]), Route::Registry);
        assert_eq!(route("PATCH", "/v2/a/blobs/uploads/1", &[]), Route::Registry);
        assert_eq!(route("GET", "/v20", &[]), Route::Nothing);
        assert_eq!(route("GET", "/acs/ws?x=y", &[]), Route::Socket(Kind::Acs));
        assert_eq!(route("POST", "/", &[]), Route::Call(Service::Ecs));
        assert_eq!(route("POST", "/", &[("authorization", &signed("ecs"))]), Route::Call(Service::Ecs));
        assert_eq!(route("GET", "/", &[]), Route::Nothing);
        assert_eq!(route("POST", "/admin", &[]), Route::Nothing);
        assert_eq!(
            route("PUT", "/bucket/key", &[("authorization", &signed("s3"))]),
            elsewhere("s3", Protocol::RestXml)
        );
        assert_eq!(
            route("GET", "/2015-03-31/functions", &[("authorization", &signed("lambda"))]),
            elsewhere("lambda", Protocol::RestJson)
        );
    }

    #[test]
    fn a_refusal_says_what_to_set_and_repeats_no_more_than_a_name() {
        let error = not_served(&format!("{}<\u{7}", "x".repeat(100)));
        assert!(error.message.contains("AWS_ENDPOINT_URL_ECS"));
        assert!(!error.message.contains('<') && error.message.len() < 400);
    }
}
