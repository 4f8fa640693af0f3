# Alibaba Cloud: ftp-alg on an ECS of its own, with an EIP, in front of an FTP server of the same VPC.
#
#     terraform init && terraform apply -var-file=my.tfvars
#
# The address is bound after the machine has started; ftp-alg needs it only in what it tells clients.

terraform {
  required_version = ">= 1.5"
  required_providers {
    alicloud = {
      source  = "aliyun/alicloud"
      version = "~> 1.230"
    }
  }
}

resource "alicloud_security_group" "ftp_alg" {
  security_group_name = "ftp-alg"
  vpc_id              = var.vpc_id
}

# Control connections, then passive data connections, from the clients.
resource "alicloud_security_group_rule" "from_clients" {
  for_each          = toset(["21/21", "20000/20020"])
  type              = "ingress"
  nic_type          = "intranet"
  ip_protocol       = "tcp"
  policy            = "accept"
  port_range        = each.value
  cidr_ip           = var.clients
  security_group_id = alicloud_security_group.ftp_alg.id
}

# Data connections of the server for clients in active mode: the machine's net.ipv4.ip_local_port_range.
resource "alicloud_security_group_rule" "from_server" {
  type              = "ingress"
  nic_type          = "intranet"
  ip_protocol       = "tcp"
  policy            = "accept"
  port_range        = "32768/60999"
  cidr_ip           = "${var.server}/32"
  security_group_id = alicloud_security_group.ftp_alg.id
}

resource "alicloud_eip_address" "ftp_alg" {
  address_name         = "ftp-alg"
  internet_charge_type = "PayByTraffic"
  bandwidth            = var.bandwidth
}

resource "alicloud_instance" "ftp_alg" {
  instance_name   = "ftp-alg"
  instance_type   = var.instance_type
  image_id        = var.image_id
  vswitch_id      = var.vswitch_id
  security_groups = [alicloud_security_group.ftp_alg.id]

  # No public address but the EIP.
  internet_max_bandwidth_out = 0
  # Metadata with a token only.
  http_tokens = "required"

  user_data = base64encode(templatefile("${path.module}/../../cloud-init/ftp-alg.yaml", {
    public_address = alicloud_eip_address.ftp_alg.ip_address
    server         = var.server
    package_url    = var.package_url
    package_sha256 = var.package_sha256
  }))
}

resource "alicloud_eip_association" "ftp_alg" {
  allocation_id = alicloud_eip_address.ftp_alg.id
  instance_id   = alicloud_instance.ftp_alg.id
}

output "public_address" {
  description = "What clients connect to, and what ftp-alg announces."
  value       = alicloud_eip_address.ftp_alg.ip_address
}
