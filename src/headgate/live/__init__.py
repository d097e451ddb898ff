"""Sessions over WebSocket: `/v1/realtime`. Each response in one is a call of its own in the books."""
