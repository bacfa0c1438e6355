"""Webhooks: delivery, its queue, and the file for what was not delivered."""
