"""AutoAttack: its four attacks, their batched search and the ensemble."""
