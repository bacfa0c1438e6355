"""Actions of triggers: write a line, send a webhook, run a command, save a clip."""
