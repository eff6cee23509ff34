//! Wire names to Rust names.

use heck::{ToShoutySnakeCase, ToSnakeCase, ToUpperCamelCase};

/// Strict and reserved keywords that can turn up as members.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "box", "break", "const", "continue", "do", "dyn", "else", "enum", "extern",
    "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override",
    "priv", "pub", "ref", "return", "static", "struct", "trait", "try", "type", "typeof", "unsafe", "use", "virtual",
    "where", "while", "yield",
];

/// `containerArn` → `container_arn`, `type` → `r#type`.
pub(super) fn field(wire: &str) -> String {
    let name = wire.to_snake_case();
    if KEYWORDS.contains(&name.as_str()) { format!("r#{name}") } else { name }
}

/// `json-file` → `JsonFile`, `X86_64` → `X86_64` (digits that would run together keep their gap).
pub(super) fn variant(wire: &str) -> String {
    let mut name = String::new();
    for word in wire.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let word = word.to_upper_camel_case();
        let digits_touch =
            name.ends_with(|c: char| c.is_ascii_digit()) && word.starts_with(|c: char| c.is_ascii_digit());
        if digits_touch {
            name.push('_');
        }
        name.push_str(&word);
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("V{name}") } else { name }
}

/// `RunTaskRequest` → `RUN_TASK_REQUEST`.
pub(super) fn constant(wire: &str) -> String {
    wire.to_shouty_snake_case()
}
