//! Sockets and bytes: accepts connections and serves them as the snapshot says.
