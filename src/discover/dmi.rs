//! In which cloud this machine is, from what the hypervisor wrote into its firmware tables (SMBIOS/DMI).
//!
//! Read before any packet is sent: 100.100.100.200 is ordinary shared address space (RFC 6598) outside of Alibaba
//! Cloud, and whoever answers there or at 169.254.169.254 on another network must not be asked where clients are to
//! connect.

use std::fmt;
use std::path::Path;

use crate::config::discovery::Provider;

/// Where Linux shows the tables. The files used here are readable without root, unlike serial numbers and UUIDs.
pub(super) const ROOT: &str = "/sys/class/dmi/id";

/// What the tables say; empty where they say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Dmi {
    sys_vendor: String,
    product_name: String,
    chassis_asset_tag: String,
    bios_version: String,
}

impl Dmi {
    /// Reads the files below `root`; a machine without such tables, or a container that hides them, has none.
    pub(super) fn read(root: &Path) -> Self {
        let field = |name| {
            let bytes = std::fs::read(root.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).trim().to_owned()
        };
        Self {
            sys_vendor: field("sys_vendor"),
            product_name: field("product_name"),
            chassis_asset_tag: field("chassis_asset_tag"),
            bios_version: field("bios_version"),
        }
    }

    /// The cloud that wrote them.
    pub(super) fn provider(&self) -> Option<Provider> {
        // Sources: cloud-init's ds-identify and its data sources, except where a line says otherwise.
        let provider = match (self.sys_vendor.as_str(), self.product_name.as_str(), self.chassis_asset_tag.as_str()) {
            // The vendor alone is on bare-metal instances, as systemd knows it.
            (_, "Alibaba Cloud ECS", _) | ("Alibaba Cloud", ..) => Provider::Aliyun,
            // The vendor alone is Hyper-V's too; the tag is Azure's.
            (_, _, "7783-7084-3265-9085-8269-3286-77") => Provider::Azure,
            (_, "Google Compute Engine", _) => Provider::Gcp,
            // On top of "OpenStack Nova" in the older regions.
            (_, _, "HUAWEICLOUD") => Provider::Huawei,
            ("DigitalOcean", ..) => Provider::DigitalOcean,
            ("Hetzner", ..) => Provider::Hetzner,
            // Nitro and bare metal; AWS, "Identify EC2 instances". cloud-init reads the UUID, which needs root.
            ("Amazon EC2", ..) => Provider::Aws,
            // As reported from its machines ("Tencent Cloud", "CVM"); cloud-init does not know it.
            ("Tencent Cloud", ..) => Provider::Tencent,
            // Xen instances: vendor "Xen", version "4.2.amazon".
            _ if self.bios_version.ends_with(".amazon") => Provider::Aws,
            _ => return None,
        };
        Some(provider)
    }
}

/// For a person who wonders why their cloud was not recognised.
impl fmt::Display for Dmi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("sys_vendor", &self.sys_vendor),
            ("product_name", &self.product_name),
            ("chassis_asset_tag", &self.chassis_asset_tag),
        ];
        if fields.iter().all(|(_, text)| text.is_empty()) {
            return write!(f, "{ROOT} says nothing");
        }
        write!(f, "{ROOT} has")?;
        for (i, (name, text)) in fields.iter().filter(|(_, text)| !text.is_empty()).enumerate() {
            write!(f, "{} {name} \"{}\"", if i == 0 { "" } else { "," }, text.escape_debug())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dmi(files: &[(&str, &str)]) -> Dmi {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join(name), format!("{text}\n")).unwrap();
        }
        Dmi::read(root.path())
    }

    /// What machines of these clouds have there.
    #[test]
    fn each_cloud_is_known_by_what_it_writes() {
        use Provider::{Aliyun, Aws, Azure, DigitalOcean, Gcp, Hetzner, Huawei, Tencent};
        for (expected, vendor, product, tag, bios) in [
            (Aliyun, "Alibaba Cloud", "Alibaba Cloud ECS", "", "449e491"),
            (Aliyun, "Alibaba Cloud", "ecs.ebmg7.32xlarge", "", "2.1.0"),
            (Aws, "Amazon EC2", "t3.micro", "Amazon EC2", "1.0"),
            (Aws, "Amazon EC2", "c5.metal", "Amazon EC2", "1.0"),
            (Aws, "Xen", "HVM domU", "", "4.2.amazon"),
            (Azure, "Microsoft Corporation", "Virtual Machine", "7783-7084-3265-9085-8269-3286-77", "090008"),
            (Gcp, "Google", "Google Compute Engine", "", "Google"),
            (Tencent, "Tencent Cloud", "CVM", "Smdbmds", "seabios-1.9.1-qemu-project.org"),
            (Huawei, "OpenStack Foundation", "OpenStack Nova", "HUAWEICLOUD", "rel-1.10.2-0-g5f4c7b1-20181220"),
            (DigitalOcean, "DigitalOcean", "Droplet", "", "20171212"),
            (Hetzner, "Hetzner", "vServer", "", "20171111"),
        ] {
            let files =
                [("sys_vendor", vendor), ("product_name", product), ("chassis_asset_tag", tag), ("bios_version", bios)];
            assert_eq!(dmi(&files).provider(), Some(expected), "{files:?}");
        }
    }

    #[test]
    fn other_machines_are_none_of_them() {
        for (vendor, product, tag) in [
            ("QEMU", "Standard PC (Q35 + ICH9, 2009)", ""),
            ("Microsoft Corporation", "Virtual Machine", "None"),
            ("OpenStack Foundation", "OpenStack Nova", ""),
            ("Xen", "HVM domU", ""),
            ("Dell Inc.", "PowerEdge R640", "Alibaba Cloud ECS"),
            ("VMware, Inc.", "VMware Virtual Platform", "No Asset Tag"),
        ] {
            let files = [("sys_vendor", vendor), ("product_name", product), ("chassis_asset_tag", tag)];
            assert_eq!(dmi(&files).provider(), None, "{files:?}");
        }
        assert_eq!(dmi(&[]).provider(), None);
    }

    #[test]
    fn says_what_it_read() {
        assert_eq!(dmi(&[]).to_string(), "/sys/class/dmi/id says nothing");
        let shown = dmi(&[("sys_vendor", "QEMU"), ("chassis_asset_tag", "a\u{1b}[2J")]).to_string();
        assert_eq!(shown, "/sys/class/dmi/id has sys_vendor \"QEMU\", chassis_asset_tag \"a\\u{1b}[2J\"".to_owned());
    }
}
