"""What a revision runs from: snapshots of source trees, and the writable copies that replicas start in."""
