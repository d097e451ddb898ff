"""Which targets could serve a call. Pure: inputs are the configuration and the books of prices."""
