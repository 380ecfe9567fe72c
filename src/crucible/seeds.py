"""Random numbers by purpose: each generator is derived from (seed, purpose, epoch); a state is only kept within an epoch."""

from hashlib import sha256

import torch


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a 63-bit seed; different purposes and epochs are unrelated."""
    return int.from_bytes(sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()[:8]) >> 1


def generator(seed: int, purpose: str, epoch: int, device: torch.device) -> torch.Generator:
    """Return a generator on the device for one purpose in one epoch."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, epoch))


def seed_global(seed: int, purpose: str, epoch: int = 0) -> None:
    """Seed torch's global generators (parameters and dropout draw from them) for one purpose in one epoch.

    As torch.manual_seed does, without what that prepares for devices that are not in use: a twentieth of a small epoch.
    """
    value = derive(seed, purpose, epoch)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)


def random_state(device: torch.device) -> list[torch.Tensor]:
    """Return where torch's global generators are: that of the host, and that of the device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(state: list[torch.Tensor], device: torch.device) -> None:
    """Put torch's global generators back to where they were."""
    torch.set_rng_state(state[0])
    if device.type == "cuda" and len(state) > 1:
        torch.cuda.set_rng_state(state[1], device)
