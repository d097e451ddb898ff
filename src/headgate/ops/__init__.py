"""What people do: validate, authorise, store, publish. CLI and admin surfaces render these."""
