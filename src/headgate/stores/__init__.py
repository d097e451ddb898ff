"""What implements the ports that keep things: the journal, SQL. Named only by `app`."""
