//! Lines, replies and their order.

use crate::support::scene::Scene;

#[test]
fn rfc_17_unknown_verbs_pass_byte_identical() {
    let scene = Scene::plain();
    let mut session = scene.session();
    for line in ["XFOO bar  baz \r\n", "xfoo\r\n", "SITE CHMOD 644 a b\r\n", "CWD a\u{e4}\u{f6}\r\n"] {
        session.exchange(line, "500 not understood.\r\n");
    }
}
