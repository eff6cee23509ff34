use super::{SERVICES, folder, generate, names, present};

#[test]
fn the_committed_code_is_what_the_models_say() {
    let root = crate::root();
    for service in SERVICES {
        let folder = folder(&root, service);
        let files = generate(&root, service).expect("the models generate");
        let expected: Vec<&String> = files.keys().collect();
        let mut found = present(&folder).expect("the folder is there");
        found.sort();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "run: cargo run -p xtask -- codegen");
        for (name, text) in &files {
            let committed = std::fs::read_to_string(folder.join(name)).expect("the file is there");
            assert!(committed == *text, "{service}/{name} is stale; run: cargo run -p xtask -- codegen");
        }
    }
}

#[test]
fn names_are_rust_names() {
    for (wire, expected) in [
        ("json-file", "JsonFile"),
        ("X86_64", "X86_64"),
        ("WINDOWS_SERVER_2019_FULL", "WindowsServer2019Full"),
        ("TaskFailedToStart", "TaskFailedToStart"),
        ("EC2", "Ec2"),
        ("3des", "V3des"),
    ] {
        assert_eq!(names::variant(wire), expected);
    }
    for (wire, expected) in
        [("ec2InstanceId", "ec2_instance_id"), ("type", "r#type"), ("s3BucketName", "s3_bucket_name")]
    {
        assert_eq!(names::field(wire), expected);
    }
    assert_eq!(names::constant("RunTaskRequest"), "RUN_TASK_REQUEST");
}
