//! Which server a session is led to.

use crate::support::net::Net;
use crate::support::scene::Scene;

/// Nothing has led the client here: it dials the proxy itself.
#[test]
fn sec_03_a_connection_that_nobody_has_led_here_is_no_way_to_ourselves() {
    let net = Net::new();
    let networks = "[\"127.0.0.0/8:1-65535\"]";
    let yaml = format!(
        "listeners:\n  - bind: \"{}\"\n    upstream: original-destination\n    upstream_networks: {networks}\n    client: \
         {{ address_map: [{{ peers: any, announce: local }}], data_ports: 20000-20063 }}\n",
        net.proxy()
    );
    let scene = Scene::start_at(net, &yaml, &[net.proxy()]);
    let mut client = scene.knock();
    client.line_starting("421 Service not available");
    scene.proxy.logs("it is one of our own listeners");
    assert_eq!(scene.proxy.stderr().matches("session began").count(), 1);
}
