"""What the joint networks of TTT-MIM have in common: an embedding, a mask token and two heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class JointNetwork(nn.Module):
    """A network with a denoising head and a reconstruction head on shared features.

    Subclasses set `embedding`, `mask_token`, `main_head` and `auxiliary_head`, and compute the
    features of an embedding in `_features`. The main head predicts the noise, the auxiliary head
    the picture. Sides must be multiples of `multiple_of` unless the network says otherwise.
    """

    config: dict[str, Any]
    embedding: nn.Module
    mask_token: nn.Parameter
    main_head: nn.Module
    auxiliary_head: nn.Module

    def brighten(self, by: Tensor) -> None:
        """Add `by` (C) to the channels of all that it denoises from now on."""
        shift = by + by.new_tensor(self.shift) if self.shift else by
        self.config = {**self.config, "shift": shift.tolist()}

    @property
    def shift(self) -> list[float]:
        """What is added to the channels of the denoised picture; empty: nothing."""
        return list(self.config.get("shift", ()))

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise `noisy` (N, C, Y, X); the result has the same shape."""
        noise: Tensor = self.main_head(self._features(self.embedding(noisy)))
        denoised = noisy - noise
        if self.shift:
            denoised = denoised + denoised.new_tensor(self.shift).reshape(-1, 1, 1)
        return denoised

    def reconstruct(self, noisy: Tensor, mask: Tensor) -> Tensor:
        """Predict the picture from the pixels where `mask` (N, 1, Y, X) is 1."""
        features = self._features(self._embed_masked(noisy, mask))
        reconstruction: Tensor = self.auxiliary_head(features)
        return reconstruction

    def joint(self, noisy: Tensor, masked: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`forward(noisy)` and `reconstruct(masked, mask)` in one pass over a stacked batch."""
        stacked = torch.cat([self.embedding(noisy), self._embed_masked(masked, mask)])
        features = self._features(stacked)
        plain, hidden = features[: len(noisy)], features[len(noisy) :]
        return noisy - self.main_head(plain), self.auxiliary_head(hidden)

    def _embed_masked(self, noisy: Tensor, mask: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(noisy)
        mask = mask.to(embedded.dtype)
        return embedded * mask + self.mask_token.to(embedded.dtype) * (1 - mask)

    def _features(self, x: Tensor) -> Tensor:
        raise NotImplementedError
