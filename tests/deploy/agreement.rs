//! One set of ports and paths in proxy.yaml, README, unit, package, containers, Kubernetes, Terraform, cloud-init and nft.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_yaml::Value;

use crate::manifests::terraform;
use crate::{FTP_ALG, files, run, text};

/// `client.data_ports`, everywhere but in front of clients (deploy/egress has two ranges, and tests of its own).
const DATA_PORTS: &str = "20000-20020";
/// The ports of the Service, which has an entry for each.
const FEW_PORTS: &str = "20000-20007";
const CONFIG: &str = "/etc/ftp-alg/proxy.yaml";
const PROGRAM: &str = "/usr/bin/ftp-alg";

fn yaml(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(|document| serde_yaml::from_str(document).unwrap()).collect()
}

/// The proxy.yaml in a ConfigMap.
fn in_config_map(path: &str) -> String {
    let documents = yaml(&text(path));
    documents[0]["data"]["proxy.yaml"].as_str().unwrap().to_owned()
}

/// The proxy.yaml in the user data, with what Terraform puts in.
fn in_user_data() -> String {
    let filled = text("deploy/cloud-init/ftp-alg.yaml")
        .replace("${server}", "172.16.0.20")
        .replace("${public_address}", "203.0.113.10")
        .replace("${package_url}", "https://files.example.com/ftp-alg.deb")
        .replace("${package_sha256}", &"0".repeat(64));
    assert!(!filled.contains("${"), "{filled}");
    let user_data = &yaml(&filled)[0];
    assert_eq!(user_data["write_files"][0]["path"].as_str(), Some(CONFIG));
    user_data["write_files"][0]["content"].as_str().unwrap().to_owned()
}

/// `ftp-alg check` takes every proxy.yaml that is in these files, and each opens the ports that stand around it.
#[test]
fn each_proxy_yaml_is_valid_and_opens_the_same_ports() {
    let dir = tempfile::tempdir().unwrap();
    for (from, config, ports) in [
        ("proxy.yaml", text("proxy.yaml"), DATA_PORTS),
        ("host-network.yaml", in_config_map("deploy/kubernetes/host-network.yaml"), DATA_PORTS),
        ("service.yaml", in_config_map("deploy/kubernetes/service.yaml"), FEW_PORTS),
        ("cloud-init", in_user_data(), DATA_PORTS),
        // The name is known within the network of compose only.
        ("compose", text("deploy/compose/proxy.yaml").replace("vsftpd:21", "172.16.0.20:21"), DATA_PORTS),
    ] {
        let path = dir.path().join("proxy.yaml");
        fs::write(&path, config).unwrap();
        let (plan, _) = run(Command::new(FTP_ALG).arg("check").arg("--config").arg(&path));
        let opened = format!("in from clients                 21, {ports}\n");
        assert!(plan.contains(&opened), "{from}:\n{plan}");
    }
}

#[test]
fn kubernetes_serves_the_ports_of_its_configuration() {
    let service = yaml(&text("deploy/kubernetes/service.yaml")).pop().unwrap();
    let served = service["spec"]["ports"].as_sequence().unwrap().iter().map(|port| port["port"].as_u64().unwrap());
    let (first, last) = FEW_PORTS.split_once('-').unwrap();
    let data = first.parse().unwrap()..=last.parse().unwrap();
    assert_eq!(served.collect::<BTreeSet<_>>(), data.chain([21]).collect());
    for path in ["deploy/kubernetes/service.yaml", "deploy/kubernetes/host-network.yaml"] {
        let deployment = &yaml(&text(path))[1]["spec"];
        assert_eq!(deployment["replicas"].as_u64(), Some(1), "{path}");
        assert_eq!(deployment["strategy"]["type"].as_str(), Some("Recreate"), "{path}");
    }
}

#[test]
fn containers_publish_the_ports() {
    let compose = &yaml(&text("deploy/compose/compose.yaml"))[0]["services"]["ftp-alg"];
    let published: Vec<_> = compose["ports"].as_sequence().unwrap().iter().map(|port| port.as_str().unwrap()).collect();
    assert_eq!(published, ["127.0.0.1:2121:21".to_owned(), format!("127.0.0.1:{DATA_PORTS}:{DATA_PORTS}")]);
    assert!(text("deploy/container/Containerfile").contains(&format!("\nEXPOSE 21 {DATA_PORTS}\n")));
}

#[test]
fn security_groups_open_the_ports() {
    let slashes = DATA_PORTS.replace('-', "/");
    let rules = &terraform("alicloud")["resource"]["alicloud_security_group_rule"];
    let opened = rules["from_clients"]["for_each"].as_str().unwrap();
    assert_eq!(opened, format!("${{toset([\"21/21\", \"{slashes}\"])}}"));

    let rules = &terraform("aws")["resource"]["aws_vpc_security_group_ingress_rule"];
    let range = |rule: &str| [&rules[rule]["from_port"], &rules[rule]["to_port"]].map(|port| port.as_u64().unwrap());
    assert_eq!(range("control"), [21, 21]);
    assert_eq!(range("data").map(|port| port.to_string()).join("-"), DATA_PORTS);
}

#[test]
fn rules_and_settings_of_the_kernel_name_the_ports() {
    for path in ["deploy/intercept/redirect.nft", "deploy/intercept/tproxy.nft"] {
        assert!(text(path).contains(&format!("\ndefine data = {DATA_PORTS}\n")), "{path}");
    }
    let reserved = format!("\nnet.ipv4.ip_local_reserved_ports = {DATA_PORTS}\n");
    assert!(text("deploy/sysctl.d/30-ftp-alg.conf").contains(&reserved));
}

/// What the socket unit holds is what proxy.yaml binds, in the same words: anything else ftp-alg refuses to start with.
#[test]
fn the_socket_holds_what_is_bound() {
    let bound = yaml(&text("proxy.yaml"))[0]["listeners"][0]["bind"].as_sequence().unwrap().clone();
    let socket = text("deploy/systemd/ftp-alg.socket");
    let held: Vec<_> = socket.lines().filter_map(|line| line.strip_prefix("ListenStream=")).map(Value::from).collect();
    assert_eq!(held, bound);
}

#[test]
fn one_place_for_the_program_and_one_for_its_configuration() {
    let unit = text("deploy/systemd/ftp-alg.service");
    assert!(unit.contains(&format!("\nExecStart={PROGRAM} run --config {CONFIG}\n")));
    let container = text("deploy/container/Containerfile");
    assert!(container.contains(&format!("ENTRYPOINT [\"{PROGRAM}\"]")) && container.contains(&format!("\"{CONFIG}\"")));
    let compose = text("deploy/compose/compose.yaml");
    assert!(compose.contains(&format!("./proxy.yaml:{CONFIG}:ro")));
    let manifest = text("Cargo.toml");
    assert!(manifest.contains(&format!("conf-files = [\"{CONFIG}\"]")) && text("README.md").contains(CONFIG));
}

/// deploy/README.md says of every file, or of its folder, what it is for.
#[test]
fn the_index_has_every_file() {
    let index = text("deploy/README.md");
    for path in files("deploy").into_iter().filter(|path| path != "deploy/README.md") {
        let path = path.strip_prefix("deploy/").unwrap();
        let folder = path.split_once('/').map_or(path, |(folder, _)| folder);
        assert!(index.contains(&format!("]({path})")) || index.contains(&format!("]({folder})")), "{path}");
    }
}
