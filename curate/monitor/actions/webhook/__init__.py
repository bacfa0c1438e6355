"""Webhooks: events as signed POST requests, retried until the receiver takes them."""
