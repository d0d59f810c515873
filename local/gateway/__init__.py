"""The gateway: stands in for Alloy on a laptop, keeps what arrives for a while and shows it."""
