//! Logs that are not where the task's definition says: an instance may keep those of `awslogs` on its own disk.

use longshore_api::ecs::types::{ContainerInstance, LogDriver, Task, TaskDefinition};
use serde::Serialize;

use crate::client::EcsClient;

/// What an agent that does so says of its instance; the value is Docker's driver that it uses instead.
const ATTRIBUTE: &str = "longshore.awslogs-as";

/// A container whose log is kept by its instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeptLog {
    container: String,
    /// Docker's log driver in use.
    driver: String,
    /// Where the definition wants it, in CloudWatch Logs.
    log_group: String,
}

impl KeptLog {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { container, driver, log_group } = self;
        format!(
            "{container}: kept on the instance ({driver}), not in CloudWatch Logs {log_group}; `longshore logs` shows it"
        )
    }
}

/// All of the task's. What cannot be found out (the definition may be deleted) is no reason not to show the task.
pub(super) async fn kept_logs(client: &EcsClient, task: &Task, instance: Option<&ContainerInstance>) -> Vec<KeptLog> {
    let (Some(driver), Some(arn)) = (instance.and_then(driver), &task.task_definition_arn) else {
        return Vec::new();
    };
    let definition = client.describe_task_definition(arn).await;
    definition.ok().flatten().map(|definition| of_definition(&definition, driver)).unwrap_or_default()
}

fn driver(instance: &ContainerInstance) -> Option<&str> {
    let attribute = instance.attributes.iter().flatten().find(|attribute| attribute.name == ATTRIBUTE)?;
    attribute.value.as_deref()
}

fn of_definition(definition: &TaskDefinition, driver: &str) -> Vec<KeptLog> {
    let containers = definition.container_definitions.iter().flatten();
    let kept = containers.filter_map(|container| {
        let logging = container.log_configuration.as_ref().filter(|log| log.log_driver == LogDriver::Awslogs)?;
        let group = logging.options.as_ref().and_then(|options| options.get("awslogs-group"));
        Some(KeptLog {
            container: container.name.clone().unwrap_or_default(),
            driver: driver.to_owned(),
            log_group: group.cloned().unwrap_or_default(),
        })
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use longshore_api::ecs::types::{Attribute, ContainerDefinition, LogConfiguration};

    use super::*;

    #[test]
    fn only_containers_of_awslogs_on_an_instance_that_keeps_them_are_told_of() {
        let container = |name: &str, log_driver: LogDriver| ContainerDefinition {
            name: Some(name.to_owned()),
            log_configuration: Some(LogConfiguration {
                log_driver,
                options: Some([("awslogs-group".to_owned(), "/ecs/web".to_owned())].into()),
                secret_options: None,
            }),
            ..ContainerDefinition::default()
        };
        let definition = TaskDefinition {
            container_definitions: Some(vec![
                container("web", LogDriver::Awslogs),
                container("side", LogDriver::JsonFile),
            ]),
            ..TaskDefinition::default()
        };
        let kept = of_definition(&definition, "json-file");
        assert_eq!(kept.iter().map(|kept| kept.container.as_str()).collect::<Vec<_>>(), ["web"]);
        let text = kept[0].text();
        assert!(text.contains("(json-file), not in CloudWatch Logs /ecs/web"), "{text}");

        let says = |name: &str| ContainerInstance {
            attributes: Some(vec![Attribute {
                name: name.to_owned(),
                value: Some("json-file".to_owned()),
                ..Attribute::default()
            }]),
            ..ContainerInstance::default()
        };
        assert_eq!(driver(&says(ATTRIBUTE)), Some("json-file"));
        assert_eq!(driver(&says("other")), None);
    }
}
