//! Kubernetes, containers, Terraform, cloud-init and nftables: the validator of each kind.

use std::collections::BTreeSet;
use std::process::Command;

use serde_yaml::Value;

use crate::{ending, files, installed, repository, run, text, validator};

#[test]
fn yaml_is_tidy() {
    run(validator("yamllint")
        .args(["--strict", "--config-file", "tests/deploy/yamllint.yaml"])
        .args(ending("deploy", ".yaml")));
}

/// By the schemas of Kubernetes itself, of the newest version and of one that is still about; unknown keys are errors.
#[test]
fn kubernetes_knows_the_manifests() {
    for version in ["1.37", "1.29"] {
        for path in ending("deploy/kubernetes", ".yaml") {
            let (stdout, _) = run(validator("kubernetes-validate").args(["--strict", "-k", version, &path]));
            assert!(stdout.contains("passed for resource deployment/ftp-alg"), "{path}: {stdout}");
        }
    }
}

#[test]
fn compose_knows_the_demo() {
    run(validator("check-jsonschema").args(["--builtin-schema", "vendor.compose-spec", "deploy/compose/compose.yaml"]));
}

#[test]
fn cloud_init_knows_the_user_data() {
    let user_data = "deploy/cloud-init/ftp-alg.yaml";
    // Without it cloud-init takes the file for something else.
    assert!(text(user_data).starts_with("#cloud-config\n"));
    run(validator("check-jsonschema").arg("--schemafile").arg(installed("cloud-init/schema.json")).arg(user_data));
}

/// What it runs, once Terraform has put its words in, is a script that a shell can read.
#[test]
fn the_script_in_the_user_data_is_one() {
    let user_data: Value = serde_yaml::from_str(&text("deploy/cloud-init/ftp-alg.yaml").replace("${", "{")).unwrap();
    let script = user_data["runcmd"][0].as_str().unwrap();
    run(Command::new("sh").args(["-n", "-c", script]));
}

#[test]
fn containers_are_built_as_they_should() {
    let containers: Vec<_> = files("deploy").into_iter().filter(|path| path.ends_with("Containerfile")).collect();
    assert_eq!(containers.len(), 2);
    run(validator("hadolint").args(&containers));
    let ours = text("deploy/container/Containerfile");
    let last = ours.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("scratch\n") && last.contains("\nUSER 65532:65532\n"), "{last}");
}

/// The resources and variables of a folder of Terraform files.
pub fn terraform(cloud: &str) -> Value {
    let files = ending(&format!("deploy/terraform/{cloud}"), ".tf");
    serde_yaml::from_str(&run(validator("python").arg("tests/deploy/hcl.py").args(files)).0).unwrap()
}

/// It is HCL, every variable that is used is declared and the reverse, and so it is with resources and with what the user
/// data expects. The providers, and so their schemas, are not to be had here.
#[test]
fn terraform_files_name_what_there_is() {
    let user_data = text("deploy/cloud-init/ftp-alg.yaml");
    let expected = references(&user_data, "${");
    assert_eq!(expected.len(), 4, "{expected:?}");
    for cloud in ["alicloud", "aws"] {
        let parsed = terraform(cloud);
        let names =
            |kind: &str| parsed[kind].as_mapping().unwrap().keys().map(|name| name.as_str().unwrap().to_owned());
        let main = text(&format!("deploy/terraform/{cloud}/main.tf"));
        assert_eq!(references(&main, "var."), names("variable").collect::<BTreeSet<_>>(), "{cloud}");
        for used in references(&main, &format!("{cloud}_")) {
            assert!(parsed["resource"].get(format!("{cloud}_{used}")).is_some(), "{cloud}: no resource {cloud}_{used}");
        }
        for name in &expected {
            assert!(main.lines().any(|line| line.trim_start().starts_with(&format!("{name} "))), "{cloud}: {name}");
        }
    }
}

/// The words after each `before`.
fn references(text: &str, before: &str) -> BTreeSet<String> {
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    text.split(before).skip(1).map(word).collect()
}

#[test]
fn nft_knows_the_rules() {
    for path in ending("deploy", ".nft") {
        run(Command::new("unshare").args(["--net", "nft", "--check", "--file", &path]).current_dir(repository()));
    }
}

#[test]
fn scripts_can_be_read_by_a_shell() {
    for path in ending("deploy", ".sh").into_iter().chain(files("deploy/debian")) {
        run(Command::new("sh").args(["-n", &path]).current_dir(repository()));
    }
}
