//! What fuzzing has found worth keeping, once more (`make fuzz` finds more).

#[path = "../../../fuzz/cases/aws_json.rs"]
mod aws_json;
#[path = "../../../fuzz/cases/aws_query.rs"]
mod aws_query;
#[path = "../../../fuzz/cases/page_token.rs"]
mod page_token;
#[path = "../../../fuzz/cases/replay.rs"]
mod replay;
#[path = "../../../fuzz/cases/sigv4.rs"]
mod sigv4;

#[test]
fn the_corpora_pass() {
    replay::corpus("aws_json", aws_json::run);
    replay::corpus("aws_query", aws_query::run);
    replay::corpus("page_token", page_token::run);
    replay::corpus("sigv4", sigv4::run);
}
