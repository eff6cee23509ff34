//! From [`Expression`] to [`Query`]: arguments understood once, so that trying an instance only compares.

use std::cmp::Ordering;
use std::sync::Arc;

use longshore_api::Timestamp;

use crate::limits;
use crate::query::error::{Problem, QueryError};
use crate::query::expression::{Argument, Comparison, Condition, Expression, Subject, Test};
use crate::query::parse::shortened;
use crate::query::pattern::Pattern;
use crate::query::value::{self, Version};

/// What is asked of an instance.
pub trait Facts {
    /// The attribute of this name: `Some(None)` when it has no value.
    fn attribute(&self, name: &str) -> Option<Option<&str>>;
    /// Whether its agent is connected.
    fn agent_connected(&self) -> bool;
    /// The version of its agent, once that said so.
    fn agent_version(&self) -> Option<&str>;
    /// Its id at EC2, if it has one.
    fn ec2_instance_id(&self) -> Option<&str>;
    /// When it registered first.
    fn registered_at(&self) -> Timestamp;
    /// How many tasks run there.
    fn running_tasks(&self) -> u32;
    /// Whether the group of any task there passes.
    fn any_task_group(&self, passes: &mut dyn FnMut(&str) -> bool) -> bool;
}

/// An expression made ready to be tried on many instances.
#[derive(Clone, Debug)]
pub struct Query {
    root: Node,
}

impl Query {
    /// Whether an instance is meant.
    pub fn matches(&self, facts: &impl Facts) -> bool {
        self.root.holds(facts)
    }

    /// Whether tasks that come and go can change what it says of an instance.
    pub fn looks_at_tasks(&self) -> bool {
        self.root.looks_at_tasks()
    }
}

impl Expression {
    /// Understands every argument.
    ///
    /// # Errors
    /// The first argument that is not what its subject takes, and where it stands.
    pub fn compile(&self) -> Result<Query, QueryError> {
        Ok(Query { root: Compiler { patterns: 0 }.node(self)? })
    }
}

/// What is tried. Everything here is positive: a negative test is [`Node::Not`] around its opposite.
#[derive(Clone, Debug)]
enum Node {
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
    AgentConnected(Text),
    AgentVersion(Order, Version<Box<str>>),
    HasAttribute(Arc<str>),
    Attribute(Arc<str>, Text),
    Ec2InstanceId(Text),
    /// In seconds, as arguments are: whatever happened within a second is equal to it.
    RegisteredAt(Order, i64),
    RunningTasks(Order, i64),
    TaskGroup(Text),
}

/// What is tried on a text.
#[derive(Clone, Debug)]
enum Text {
    Exists,
    Compare(Order, Arc<str>),
    In(Box<[Arc<str>]>),
    Matches(Pattern),
}

/// The comparisons, without the negative one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

impl Node {
    fn holds(&self, facts: &impl Facts) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.holds(facts)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(facts)),
            Self::Not(node) => !node.holds(facts),
            Self::AgentConnected(text) => text.holds(if facts.agent_connected() { "true" } else { "false" }),
            Self::AgentVersion(order, version) => {
                let own = facts.agent_version().and_then(Version::parse);
                own.is_some_and(|own| order.holds(own.cmp(version)))
            }
            Self::HasAttribute(name) => facts.attribute(name).is_some(),
            Self::Attribute(name, text) => facts.attribute(name).flatten().is_some_and(|value| text.holds(value)),
            Self::Ec2InstanceId(text) => facts.ec2_instance_id().is_some_and(|id| text.holds(id)),
            Self::RegisteredAt(order, at) => order.holds(facts.registered_at().as_millis().div_euclid(1_000).cmp(at)),
            Self::RunningTasks(order, count) => order.holds(i64::from(facts.running_tasks()).cmp(count)),
            Self::TaskGroup(text) => facts.any_task_group(&mut |group| text.holds(group)),
        }
    }
}

impl Node {
    fn looks_at_tasks(&self) -> bool {
        match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().any(Self::looks_at_tasks),
            Self::Not(node) => node.looks_at_tasks(),
            Self::RunningTasks(..) | Self::TaskGroup(_) => true,
            Self::AgentConnected(_)
            | Self::AgentVersion(..)
            | Self::HasAttribute(_)
            | Self::Attribute(..)
            | Self::Ec2InstanceId(_)
            | Self::RegisteredAt(..) => false,
        }
    }
}

impl Text {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::Compare(Order::Equal, text) => value == &**text,
            Self::Compare(order, text) => order.holds(value::order(value, text)),
            Self::In(texts) => texts.iter().any(|text| value == &**text),
            Self::Matches(pattern) => pattern.matches(value),
        }
    }
}

impl Order {
    /// The comparison, turned positive.
    fn of(comparison: Comparison) -> Self {
        match comparison {
            Comparison::Equal | Comparison::NotEqual => Self::Equal,
            Comparison::Greater => Self::Greater,
            Comparison::GreaterEqual => Self::GreaterEqual,
            Comparison::Less => Self::Less,
            Comparison::LessEqual => Self::LessEqual,
        }
    }

    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessEqual => ordering.is_le(),
        }
    }
}

struct Compiler {
    patterns: usize,
}

impl Compiler {
    fn node(&mut self, expression: &Expression) -> Result<Node, QueryError> {
        Ok(match expression {
            Expression::All(members) => Node::All(self.nodes(members)?),
            Expression::Any(members) => Node::Any(self.nodes(members)?),
            Expression::Not(negated) => Node::Not(Box::new(self.node(negated)?)),
            Expression::Is(condition) => {
                let node = self.positive(condition)?;
                if is_negative(&condition.test) { Node::Not(Box::new(node)) } else { node }
            }
        })
    }

    fn nodes(&mut self, members: &[Expression]) -> Result<Box<[Node]>, QueryError> {
        members.iter().map(|member| self.node(member)).collect()
    }

    /// The condition, turned positive, if ECS documents its operator for its subject.
    fn positive(&mut self, condition: &Condition) -> Result<Node, QueryError> {
        Ok(match (&condition.subject, &condition.test) {
            (Subject::Attribute(name), Test::Exists { .. }) => Node::HasAttribute(name.clone()),
            (Subject::Attribute(name), test) => Node::Attribute(name.clone(), self.text(test)?),
            (Subject::TaskGroup, test) => Node::TaskGroup(self.text(test)?),
            (Subject::AgentConnected, test) if is_about_identity(test) => {
                literals(test).iter().try_for_each(boolean)?;
                Node::AgentConnected(self.text(test)?)
            }
            (Subject::Ec2InstanceId, test) if is_about_identity(test) => Node::Ec2InstanceId(self.text(test)?),
            (Subject::AgentVersion, Test::Compare(comparison, argument)) => {
                let version =
                    read(argument, |text| Version::parse(text).map(Version::into_owned), Problem::BadVersion)?;
                Node::AgentVersion(Order::of(*comparison), version)
            }
            (Subject::RegisteredAt, Test::Compare(comparison, argument)) => {
                Node::RegisteredAt(Order::of(*comparison), read(argument, value::seconds, Problem::BadDate)?)
            }
            (Subject::RunningTasksCount, Test::Compare(comparison, argument)) => Node::RunningTasks(
                Order::of(*comparison),
                read(argument, |text| text.parse().ok(), Problem::BadNumber)?,
            ),
            (subject, test) => {
                let (subject, operator) = (subject.clone(), test.operator());
                return Err(Problem::WrongOperator { subject, operator }.at(condition.at));
            }
        })
    }

    fn text(&mut self, test: &Test) -> Result<Text, QueryError> {
        Ok(match test {
            Test::Exists { .. } => Text::Exists,
            Test::Compare(comparison, argument) => Text::Compare(Order::of(*comparison), argument.text.clone()),
            Test::In { arguments, .. } => Text::In(arguments.iter().map(|argument| argument.text.clone()).collect()),
            Test::Matches { pattern, .. } => {
                self.patterns += 1;
                if self.patterns > limits::QUERY_PATTERNS {
                    return Err(Problem::TooManyPatterns.at(pattern.at));
                }
                Text::Matches(Pattern::compile(pattern)?)
            }
        })
    }
}

fn is_negative(test: &Test) -> bool {
    match test {
        Test::Compare(comparison, _) => *comparison == Comparison::NotEqual,
        Test::Exists { negated } | Test::In { negated, .. } | Test::Matches { negated, .. } => *negated,
    }
}

/// Whether the test asks which one a value is, and not how great, or whether there is any.
fn is_about_identity(test: &Test) -> bool {
    match test {
        Test::Compare(comparison, _) => matches!(comparison, Comparison::Equal | Comparison::NotEqual),
        Test::In { .. } | Test::Matches { .. } => true,
        Test::Exists { .. } => false,
    }
}

/// The arguments that are no patterns.
fn literals(test: &Test) -> &[Argument] {
    match test {
        Test::Compare(_, argument) => std::slice::from_ref(argument),
        Test::In { arguments, .. } => arguments,
        Test::Exists { .. } | Test::Matches { .. } => &[],
    }
}

fn boolean(argument: &Argument) -> Result<(), QueryError> {
    let known = |text: &str| matches!(text, "true" | "false").then_some(());
    read(argument, known, Problem::BadBoolean)
}

fn read<T>(
    argument: &Argument,
    read: impl FnOnce(&str) -> Option<T>,
    otherwise: fn(String) -> Problem,
) -> Result<T, QueryError> {
    read(&argument.text).ok_or_else(|| otherwise(shortened(&argument.text)).at(argument.at))
}
