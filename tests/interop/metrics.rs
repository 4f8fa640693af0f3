//! What Prometheus' own tools make of the metrics, the alert rules, and a server's transfers.

use std::process::Command;

use crate::clients::{Kind as Client, Mode};
use crate::matrix::{Cell, run_cells};
use crate::net::{Host, Net, PROXY};
use crate::process::{feed, run};
use crate::proxy;
use crate::servers::{Kind, Server, unpacked};

const ADMIN: &str = "http://127.0.0.1:9121";

fn get(net: &Net, accept: &str) -> String {
    let accept = format!("Accept: {accept}");
    run(net.command(Host::Proxy, "curl").args(["-fsS", "-H", &accept, &format!("{ADMIN}/metrics")]))
}

/// Reads OpenMetrics as strictly as its reference parser does, and prints the samples.
const PARSE: &str = "\
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
for family in parse(sys.stdin.read()):
    for sample in family.samples:
        print(sample.name, sorted(sample.labels.items()), sample.value)
";

/// A listener's name may have anything that a label would end at.
#[test]
fn prometheus_reads_the_metrics_of_real_transfers() {
    let net = Net::new(PROXY);
    let server = Server::start(&net, Kind::Vsftpd);
    let config = r#"
admin: { bind: 127.0.0.1:9121 }
listeners:
  - name: 'in"ter\op'
    bind: "172.16.0.10:21"
    upstream: "172.16.0.20:21"
    client:
      address_map: [{ peers: any, announce: 203.0.113.10 }]
      data_ports: 20000-20020
"#;
    let proxy = proxy::start(&net, Host::Proxy, config, 21);
    let cells = [Mode::PASV, Mode::PORT].map(|mode| Cell::plain(Client::Lftp, mode));
    run_cells(&net, &server, &proxy, &cells, 2);

    // It also has an opinion on names and units.
    let text = get(&net, "text/plain");
    feed(Command::new(unpacked("prometheus/usr/bin/promtool")).args(["check", "metrics"]), text.as_bytes());

    let path = net.scratch().join("metrics");
    std::fs::write(&path, get(&net, "application/openmetrics-text; version=1.0.0")).unwrap();
    let samples = run(Command::new("/usr/bin/python3").args(["-c", PARSE]).stdin(std::fs::File::open(&path).unwrap()));
    let value = |name: &str, labels: &str| -> f64 {
        let all: Vec<&str> = samples.lines().filter(|line| line.starts_with(&format!("{name} "))).collect();
        let of = all.iter().filter(|line| line.contains(labels) && line.contains(r#"('listener', 'in"ter\\op')"#));
        let found: Vec<f64> = of.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        assert!(!found.is_empty(), "no {name} with {labels} among {all:#?}");
        found.iter().sum()
    };
    // The clients upload, download and list in each mode.
    assert!(value("ftp_alg_sessions_total", "") >= 2.0);
    for kind in ["upload", "download", "listing"] {
        let complete = format!("('kind', '{kind}'), ('listener', 'in\"ter\\\\op'), ('outcome', 'complete')");
        assert!(value("ftp_alg_transfers_total", &complete) >= 2.0, "{kind}");
    }
    assert!(value("ftp_alg_data_bytes_total", "'up'") > 0.0 && value("ftp_alg_data_bytes_total", "'down'") > 0.0);
}

#[test]
fn promtool_accepts_the_alert_rules() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/alerts.yml");
    let said = run(Command::new(unpacked("prometheus/usr/bin/promtool")).args(["check", "rules", rules]));
    let alerts = std::fs::read_to_string(rules).unwrap().matches("- alert: ").count();
    assert!(alerts > 0 && said.contains(&format!("SUCCESS: {alerts} rules found")), "{said}");
}
