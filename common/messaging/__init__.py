"""Messages over RabbitMQ that are not lost: confirmed publishing, acknowledged work, retries, dead letters."""
