"""Random numbers by purpose: each generator is derived from (seed, purpose, epoch), so no state is ever carried."""

from hashlib import sha256

import torch


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a 63-bit seed; different purposes and epochs are unrelated."""
    return int.from_bytes(sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()[:8]) >> 1


def generator(seed: int, purpose: str, epoch: int, device: torch.device) -> torch.Generator:
    """Return a generator on the device for one purpose in one epoch."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, epoch))


def seed_global(seed: int, purpose: str, epoch: int = 0) -> None:
    """Seed torch's global generators (parameters and dropout draw from them) for one purpose in one epoch."""
    torch.manual_seed(derive(seed, purpose, epoch))
