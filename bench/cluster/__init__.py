"""Several replicas: behind a load balancer on this machine, and simulated by the thousand."""
