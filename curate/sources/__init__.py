"""What comes from outside: links, videos, and which of their frames to take."""
