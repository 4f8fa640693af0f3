variable "server" {
  description = "The FTP server, its private IPv4 address."
  type        = string
}

variable "clients" {
  description = "Who may connect, a network."
  type        = string
  default     = "0.0.0.0/0"
}

variable "package_url" {
  description = "Where the Debian package of ftp-alg can be fetched."
  type        = string
}

variable "package_sha256" {
  description = "Its SHA-256 in hexadecimal."
  type        = string
}

variable "vpc_id" {
  description = "The VPC of the FTP server."
  type        = string
}

variable "subnet_id" {
  description = "A public subnet; the FTP server is reachable from it."
  type        = string
}

variable "image_id" {
  description = "An AMI of Debian or Ubuntu with cloud-init."
  type        = string
}

variable "instance_type" {
  description = "The kind of machine."
  type        = string
  default     = "t3.small"
}
