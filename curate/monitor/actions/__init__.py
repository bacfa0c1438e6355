"""What happens after an event: clips, webhooks, commands."""
