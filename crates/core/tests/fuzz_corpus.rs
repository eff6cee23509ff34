//! What fuzzing has found worth keeping, once more (`make fuzz` finds more).

#[path = "../../../fuzz/cases/cluster_query.rs"]
mod cluster_query;
#[path = "../../../fuzz/cases/replay.rs"]
mod replay;
#[path = "../../../fuzz/cases/schedule_expression.rs"]
mod schedule_expression;

#[test]
fn the_corpus_passes() {
    replay::corpus("cluster_query", cluster_query::run);
    replay::corpus("schedule_expression", schedule_expression::run);
}
