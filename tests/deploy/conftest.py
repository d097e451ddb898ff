"""What the tests of deployments share."""

from tests.surfaces.conftest import simulated

__all__ = ["simulated"]
