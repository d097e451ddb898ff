"""A provider in this process, so that the first run needs no account: OpenAI's wire, true token counts.

It obeys trivial instructions, fills schemas and tool arguments from the prompt, embeds, and produces
faults on request; what it cannot do it says, in the prompt's language. `FAULTS` and `DIRECTIVES` are the
tables of what may be asked of it by a model name `sim-…` or by the header `x-headgate-sim`.
"""

from headgate.transport.simulator.exchange import Simulator
from headgate.transport.simulator.faults import FAULTS, Fault
from headgate.transport.simulator.wishes import DIRECTIVES

__all__ = ["DIRECTIVES", "FAULTS", "Fault", "Simulator"]
