"""Who calls: keys, and the ring that recognises them."""
