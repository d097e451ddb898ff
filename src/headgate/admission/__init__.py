"""May the call run: limits, concurrency and money. One file for each policy; state is local memory."""
