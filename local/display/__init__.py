"""What has arrived at the gateway, and how the demo shows it."""
