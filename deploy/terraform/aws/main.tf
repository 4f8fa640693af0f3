# AWS: ftp-alg on an EC2 instance of its own, with an Elastic IP, in front of an FTP server of the same VPC.
#
#     terraform init && terraform apply -var-file=my.tfvars
#
# The address is bound after the machine has started; ftp-alg needs it only in what it tells clients.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_security_group" "ftp_alg" {
  name        = "ftp-alg"
  description = "FTP clients, and the FTP server behind"
  vpc_id      = var.vpc_id
}

# Control connections of the clients.
resource "aws_vpc_security_group_ingress_rule" "control" {
  security_group_id = aws_security_group.ftp_alg.id
  ip_protocol       = "tcp"
  from_port         = 21
  to_port           = 21
  cidr_ipv4         = var.clients
}

# Their passive data connections.
resource "aws_vpc_security_group_ingress_rule" "data" {
  security_group_id = aws_security_group.ftp_alg.id
  ip_protocol       = "tcp"
  from_port         = 20000
  to_port           = 20020
  cidr_ipv4         = var.clients
}

# Data connections of the server for clients in active mode: the machine's net.ipv4.ip_local_port_range.
resource "aws_vpc_security_group_ingress_rule" "from_server" {
  security_group_id = aws_security_group.ftp_alg.id
  ip_protocol       = "tcp"
  from_port         = 32768
  to_port           = 60999
  cidr_ipv4         = "${var.server}/32"
}

# Terraform takes away the rule with which AWS lets everything out.
resource "aws_vpc_security_group_egress_rule" "out" {
  security_group_id = aws_security_group.ftp_alg.id
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_eip" "ftp_alg" {
  domain = "vpc"
  tags   = { Name = "ftp-alg" }
}

resource "aws_instance" "ftp_alg" {
  ami                    = var.image_id
  instance_type          = var.instance_type
  subnet_id              = var.subnet_id
  vpc_security_group_ids = [aws_security_group.ftp_alg.id]
  tags                   = { Name = "ftp-alg" }

  # Metadata with a token only.
  metadata_options {
    http_tokens = "required"
  }

  user_data = templatefile("${path.module}/../../cloud-init/ftp-alg.yaml", {
    public_address = aws_eip.ftp_alg.public_ip
    server         = var.server
    package_url    = var.package_url
    package_sha256 = var.package_sha256
  })
}

resource "aws_eip_association" "ftp_alg" {
  allocation_id = aws_eip.ftp_alg.id
  instance_id   = aws_instance.ftp_alg.id
}

output "public_address" {
  description = "What clients connect to, and what ftp-alg announces."
  value       = aws_eip.ftp_alg.public_ip
}
