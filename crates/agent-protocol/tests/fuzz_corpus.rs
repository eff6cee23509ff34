//! What fuzzing has found worth keeping, once more (`make fuzz` finds more).

#[path = "../../../fuzz/cases/agent_messages.rs"]
mod agent_messages;
#[path = "../../../fuzz/cases/replay.rs"]
mod replay;

#[test]
fn the_corpus_passes() {
    replay::corpus("agent_messages", agent_messages::run);
}
