"""Pages of this machine for whoever has their link: what `view` and `watch` share."""
