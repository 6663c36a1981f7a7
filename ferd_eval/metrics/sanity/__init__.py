"""Can the figures be trusted? Checks of the attacks, the network and the audit."""
