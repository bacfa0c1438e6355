"""Web pages for holders of their link: address, guard and background server, for `view` and `watch`."""
