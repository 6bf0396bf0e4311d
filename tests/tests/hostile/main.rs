//! Hostile guests, volumes and clients: each takes what is not its own, and its neighbours on the node do not notice.
