//! `nextToken`, for every operation that has one: the orchestrator sees bare cursors, callers see sealed tokens.
//!
//! A token is bound to its operation and to all else the caller asked for, page size excepted: a list may be continued with
//! larger pages, but not with another filter.

use longshore_api::ApiError;
use longshore_api::shape::{Kind, Shape};
use longshore_wire::page_token::PageTokens;
use serde_json::Value;

const NEXT_TOKEN: &str = "nextToken";
/// Members that do not change which things are listed.
const NOT_IN_SCOPE: [&str; 2] = [NEXT_TOKEN, "maxResults"];

/// The list that a request asks for, remembered until its answer.
pub(super) struct Page {
    operation: &'static str,
    /// Nothing when the operation has no pages.
    scope: Option<Vec<u8>>,
}

/// Replaces the token of a request by the cursor inside it. `input` is the shape of the operation's requests.
pub(super) fn open(
    tokens: &PageTokens,
    operation: &'static str,
    input: &Shape,
    request: &mut Value,
) -> Result<Page, ApiError> {
    let Value::Object(members) = request else {
        return Ok(Page { operation, scope: None });
    };
    if !has_pages(input) {
        return Ok(Page { operation, scope: None });
    }
    let scope = scope(members);
    // Of another type than text it is left for the decoder, which says so.
    if let Some(Value::String(token)) = members.get_mut(NEXT_TOKEN) {
        *token = tokens
            .open(operation, &scope, token)
            .map_err(|error| ApiError::invalid_parameter(format!("Invalid nextToken: {error}.")))?;
    }
    Ok(Page { operation, scope: Some(scope) })
}

impl Page {
    /// Replaces the cursor of an answer by a token for it.
    pub(super) fn seal(&self, tokens: &PageTokens, answer: Vec<u8>) -> Vec<u8> {
        let Some(scope) = &self.scope else { return answer };
        // Most answers are a last page; those with a further one are parsed again, at a cost of microseconds.
        let needle = format!("\"{NEXT_TOKEN}\"");
        if !answer.windows(needle.len()).any(|window| window == needle.as_bytes()) {
            return answer;
        }
        let Ok(mut value) = serde_json::from_slice::<Value>(&answer) else { return answer };
        if let Some(Value::String(cursor)) = value.get_mut(NEXT_TOKEN) {
            *cursor = tokens.seal(self.operation, scope, cursor);
        }
        value.to_string().into_bytes()
    }
}

fn has_pages(input: &Shape) -> bool {
    match &input.kind {
        Kind::Structure { members, .. } => members.iter().any(|member| member.name == NEXT_TOKEN),
        _ => false,
    }
}

/// The members that say what is listed, by name, nulls (which mean absent) left out.
fn scope(members: &serde_json::Map<String, Value>) -> Vec<u8> {
    let mut kept: Vec<(&String, &Value)> =
        members.iter().filter(|(name, value)| !NOT_IN_SCOPE.contains(&name.as_str()) && !value.is_null()).collect();
    kept.sort_by_key(|(name, _)| *name);
    serde_json::to_vec(&kept).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use longshore_api::ecs::Operation;
    use serde_json::json;

    use super::*;

    fn open(tokens: &PageTokens, operation: Operation, request: &mut Value) -> Result<Page, ApiError> {
        super::open(tokens, operation.name(), operation.facts().input, request)
    }

    fn tokens() -> PageTokens {
        PageTokens::new([3; 32])
    }

    /// The token of the page after `cursor` in the list that `request` asks for.
    fn token(operation: Operation, mut request: Value, cursor: &str) -> String {
        let page = open(&tokens(), operation, &mut request).unwrap();
        let answer = page.seal(&tokens(), json!({ "taskArns": [], "nextToken": cursor }).to_string().into_bytes());
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["nextToken"].as_str().unwrap().to_owned()
    }

    fn cursor(operation: Operation, mut request: Value) -> Result<String, ApiError> {
        open(&tokens(), operation, &mut request)?;
        Ok(request["nextToken"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_list_goes_on_with_another_page_size() {
        let token = token(Operation::ListTasks, json!({ "cluster": "c", "family": null, "maxResults": 5 }), "arn:1");
        let next = json!({ "cluster": "c", "maxResults": 50, "nextToken": token });
        assert_eq!(cursor(Operation::ListTasks, next).unwrap(), "arn:1");
    }

    #[test]
    fn a_list_does_not_go_on_elsewhere() {
        let token = token(Operation::ListTasks, json!({ "cluster": "c" }), "arn:1");
        for (operation, request) in [
            (Operation::ListTasks, json!({ "cluster": "d", "nextToken": token })),
            (Operation::ListTasks, json!({ "cluster": "c", "family": "f", "nextToken": token })),
            (Operation::ListContainerInstances, json!({ "cluster": "c", "nextToken": token })),
            (Operation::ListTasks, json!({ "cluster": "c", "nextToken": "arn:1" })),
            (Operation::ListTasks, json!({ "cluster": "c", "nextToken": "" })),
        ] {
            let error = cursor(operation, request).unwrap_err();
            assert_eq!(error.code.name, "InvalidParameterException");
        }
    }

    #[test]
    fn answers_without_a_further_page_pass_untouched() {
        let page = open(&tokens(), Operation::ListTasks, &mut json!({})).unwrap();
        assert_eq!(page.seal(&tokens(), b"{ \"taskArns\": [ ] }".to_vec()), b"{ \"taskArns\": [ ] }");
        let page = open(&tokens(), Operation::DescribeTasks, &mut json!({ "nextToken": "x" })).unwrap();
        assert_eq!(page.seal(&tokens(), b"{\"nextToken\":\"y\"}".to_vec()), b"{\"nextToken\":\"y\"}");
    }
}
