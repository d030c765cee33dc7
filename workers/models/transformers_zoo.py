"""`transformers/<name>`: DistilBERT's classifier and Whisper's encoders, built from their published configurations."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workers.contract import ModelRequest
from workers.examples import Array
from workers.models.source import (
    BuiltModule,
    MissingPackagesError,
    ModuleSource,
    Resolved,
    UnknownModelError,
    finding_weights,
)
from workers.plugins import package_versions

if TYPE_CHECKING:
    import torch

_PREFIX = "transformers/"
#: Name to checkpoint and, for Whisper, the sizes that differ (d_model, layers, heads, feed-forward).
_CHECKPOINTS = {
    "distilbert": "distilbert-base-uncased-finetuned-sst-2-english",
    "whisper-tiny-encoder": "openai/whisper-tiny",
    "whisper-base-encoder": "openai/whisper-base",
}
_WHISPER_SIZES = {"whisper-tiny-encoder": (384, 4, 6, 1536), "whisper-base-encoder": (512, 6, 8, 2048)}
_SEQUENCE = 128
_VOCABULARY = 30522


class TransformersZoo(ModuleSource):
    """The three models that EXPERIMENTS' mobile study measures."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    extra: ClassVar[str] = "torch"
    revision: ClassVar[int] = 2  # carries sources

    def names(self) -> list[str]:
        """The names this source builds."""
        return [_PREFIX + name for name in _CHECKPOINTS]

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        if not request.name.startswith(_PREFIX):
            return None
        name = request.name.removeprefix(_PREFIX)
        if name not in _CHECKPOINTS:
            close = get_close_matches(name, _CHECKPOINTS, n=3, cutoff=0.4)
            known = ", ".join(_PREFIX + match for match in close or _CHECKPOINTS)
            raise UnknownModelError(f"unknown model {request.name}; did you mean {known}?")
        versions = package_versions(self.packages)
        if len(versions) < len(self.packages):
            raise MissingPackagesError(f"{request.name}: transformers is not installed; pip install 'benchfarm[torch]'")
        return Resolved(request.name, "pt2", "fp32", {"versions": versions}, request)

    def build(self, request: ModelRequest) -> BuiltModule:
        """Build the model with its weights."""
        import torch

        torch.manual_seed(request.seed)
        name = request.name.removeprefix(_PREFIX)
        if name == "distilbert":
            with finding_weights(request):
                return BuiltModule(_distilbert(request), _tokens(request.batch), {"task": "classification"})
        with finding_weights(request):
            module = _whisper_encoder(name, request)
        return BuiltModule(module, _mel(request.batch), {"task": "audio encoding", "audio_seconds": 30.0})


def _distilbert(request: ModelRequest) -> torch.nn.Module:
    import torch
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    if request.weights == "pretrained":
        model = DistilBertForSequenceClassification.from_pretrained(_CHECKPOINTS["distilbert"])
    else:
        model = DistilBertForSequenceClassification(DistilBertConfig(num_labels=2))

    class Logits(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    return Logits()


def _whisper_encoder(name: str, request: ModelRequest) -> torch.nn.Module:
    import torch
    from transformers import WhisperConfig, WhisperModel
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    if request.weights == "pretrained":
        encoder = WhisperModel.from_pretrained(_CHECKPOINTS[name]).encoder
    else:
        d_model, layers, heads, feed_forward = _WHISPER_SIZES[name]
        encoder = WhisperEncoder(
            WhisperConfig(
                d_model=d_model, encoder_layers=layers, encoder_attention_heads=heads, encoder_ffn_dim=feed_forward
            )
        )

    class Encoder(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, mel: torch.Tensor) -> Any:
            return self.encoder(mel).last_hidden_state

    return Encoder()


def _tokens(batch: int) -> Any:
    def make_inputs(generator: np.random.Generator, count: int) -> dict[str, Array]:
        # Word frequencies follow Zipf's law; lengths vary, and the mask says where the text ends.
        ranks = np.minimum(generator.zipf(1.3, size=(count, batch, _SEQUENCE)), _VOCABULARY - 1000 - 1)
        ids = (ranks + 1000 - 1).astype(np.int32)  # below 1000 are special and unused tokens
        lengths = generator.integers(_SEQUENCE // 4, _SEQUENCE + 1, size=(count, batch, 1))
        mask = (np.arange(_SEQUENCE) < lengths).astype(np.int32)
        return {"input_ids": (ids * mask).astype(np.int32), "attention_mask": mask}

    return make_inputs


def _mel(batch: int) -> Any:
    def make_inputs(generator: np.random.Generator, count: int) -> dict[str, Array]:
        # Whisper's log-mel features lie within two units below their maximum: smooth over time, fading with frequency.
        steps = generator.normal(0, 0.15, size=(count, batch, 80, 3000))
        smooth = np.cumsum(steps, axis=-1)
        smooth -= smooth.mean(axis=-1, keepdims=True)
        tilt = np.linspace(0.5, -0.5, 80).reshape(80, 1)
        return {"mel": np.clip(np.tanh(smooth / 4) + tilt, -1, 1).astype(np.float32)}

    return make_inputs
