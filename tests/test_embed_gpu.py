"""embed_st's GPU backend on a CPU: a fake card plays CUDA at its one edge (tests/embed_card.py), all else is real."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plugins.embed_st.engine import Engine, model
from plugins.embed_st.engine.backends import DeviceMemoryError, gpu
from plugins.embed_st.engine.backends import card as card_module
from plugins.embed_st.engine.backends.gpu import Gpu
from plugins.embed_st.engine.backends.pytorch import Torch
from plugins.embed_st.engine.reference import TOLERANCES
from shared.errors import StartError
from tests.embed_card import CardMemoryError, FakeCard
from tests.embed_models import TEXTS, tiny

KINDS: dict[str, dict[str, Any]] = {
    "mean": {},
    "cls": {"pooling": "cls", "normalize": False},
    "last, dense": {"pooling": "lasttoken", "dense": True},
    "distilbert": {"architecture": "distilbert"},
    "roberta": {"architecture": "roberta"},
    "prompt left out": {"include_prompt": False},
}


def on_a_card(folder: Path, **kind: Any) -> tuple[Torch, Gpu, FakeCard]:
    loaded, card = Torch(tiny(folder, **kind), name="tiny", sha256=""), FakeCard()
    return loaded, Gpu(loaded, card), card  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in ("mean", "roberta") else pytest.mark.slow) for kind in KINDS]
)
def test_the_vectors_are_the_model_s(tmp_path: Path, kind: str) -> None:
    """Laid out and padded on the card, in rounded shapes, texts get the vectors that torch gives them, in any batch."""
    loaded, backend, card = on_a_card(tmp_path, **KINDS[kind])
    chance = random.Random(0)
    texts = [text for text in TEXTS for _ in range(4)]
    for size in (1, 1, 1, 2, 3, 17, 17, 17, 40, 5, 1):
        for prompt in ("", "search: "):
            tokens = loaded.tokenizer.encode(chance.sample(texts, size), prompt)
            assert np.abs(backend.run(tokens) - loaded.run(tokens)).max() < 1e-5
    assert card.recorded
    assert card.replayed


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    """What `device` cuda is; a model that is moved there stays on the CPU, in the precision that it would have."""
    card = FakeCard()
    move = Torch.move
    monkeypatch.setattr(card_module, "Card", lambda device: card)
    monkeypatch.setattr(Torch, "move", lambda self, device, precision=None: move(self, "cpu", precision))
    monkeypatch.setattr(Gpu, "_best_batch", lambda self: 256)
    return card


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp16", "fp32"])
def test_precision(tmp_path: Path, card: FakeCard, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    """On a GPU auto is bf16, held to the vectors in fp32; the precision that was asked for is the one that runs; and
    vectors that the model brings to length 1 have it in any."""
    caplog.set_level("INFO", logger="hector")
    opened = model.open_model(str(tiny(tmp_path)), precision=precision, device="cuda")
    assert (opened.backend.name, opened.backend.precision) == ("torch", "bf16" if precision == "auto" else precision)
    assert "event=self_test" in caplog.text
    assert opened.backend.batch_tokens == 256
    lengths = np.linalg.norm(opened.backend.run(opened.tokenizer.encode(TEXTS)), axis=1)
    assert np.abs(lengths - 1).max() < 1e-5


def test_no_bf16(tmp_path: Path, card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card without bf16 gets fp16; bf16 asked for by name is an error that says why."""
    monkeypatch.setattr(card, "has_bf16", lambda: False)
    path = str(tiny(tmp_path))
    assert model.open_model(path, device="cuda").backend.precision == "fp16"
    with pytest.raises(StartError, match="this card has no bf16"):
        model.open_model(path, precision="bf16", device="cuda")


def test_half_precision_that_drifts(
    tmp_path: Path, card: FakeCard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A model whose vectors in half precision are not near enough to those in fp32 runs in fp32, and the log says why;
    its vectors are those of fp32 to the bit, though it has been in half precision before."""
    caplog.set_level("WARNING", logger="hector")
    monkeypatch.setattr(model, "TOLERANCES", {**TOLERANCES, "bf16": 1.1, "fp16": 1.1})
    path = tiny(tmp_path)
    opened = model.open_model(str(path), device="cuda")
    assert opened.backend.precision == "fp32"
    assert caplog.text.count("vectors drift from those of sentence-transformers") == 2
    tokens = opened.tokenizer.encode(TEXTS)
    assert np.abs(opened.backend.run(tokens) - Torch(path, name="tiny", sha256="").run(tokens)).max() < 1e-6


def test_a_model_that_fits_in_half_precision_only(
    tmp_path: Path, card: FakeCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the card has no memory for the model in fp32 the reference is made on the CPU."""
    move = Torch.move

    def small(self: Torch, device: str, precision: Any = None) -> None:
        if device == "cuda" and precision == "fp32":
            raise CardMemoryError("CUDA out of memory")
        move(self, device, precision)

    monkeypatch.setattr(Torch, "move", small)
    assert model.open_model(str(tiny(tmp_path)), device="cuda").backend.precision == "bf16"
    with pytest.raises(StartError, match="the card has no memory for it"):
        model.open_model(str(tiny(tmp_path / "other")), precision="fp32", device="cuda")


def test_the_engine_takes_what_the_card_can(tmp_path: Path, card: FakeCard) -> None:
    """`batch_tokens` 0 is what suits the card, another number is kept, none is more than it has memory for."""
    path = str(tiny(tmp_path))
    for setting, used in ((0, 256), (777, 777), (10**9, 65_536)):
        engine = Engine(path, device="cuda", batch_tokens=setting)
        engine.open()
        assert engine._scheduler._batch_tokens == used
        assert engine._backend.under_way == 2
        engine.close()


def test_no_cuda(tmp_path: Path) -> None:
    """`device` cuda where torch has none is an error that names the setting."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(StartError, match="setting device: torch cannot use 'cuda' here"):
        model.open_model(str(tiny(tmp_path)), device="cuda")


def test_short_models_warm_up(tmp_path: Path) -> None:
    """A model that reads few tokens of a text has its best batch too: one of no more texts than go in one."""
    _, backend, _ = on_a_card(tmp_path)
    assert backend._seconds(65_536) > 0


def test_a_model_without_a_limit(tmp_path: Path) -> None:
    """A model that reads any length takes no memory for all of it, and a text longer than a batch is run by itself."""
    loaded = Torch(tiny(tmp_path), name="tiny", sha256="")
    loaded.facts = replace(loaded.facts, max_tokens=2**31 - 2)
    backend = Gpu(loaded, FakeCard())  # type: ignore[arg-type]
    tokens = loaded.tokenizer.encode(TEXTS)
    expected = loaded.run(tokens)
    assert np.abs(backend.run(tokens) - expected).max() < 1e-5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "_MOST_TOKENS", 10)
        assert np.abs(backend.run(tokens) - expected).max() < 1e-5


def test_memory_runs_out_beside_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pooling leaves the prompt out, memory that runs out is told as such too."""
    loaded, backend, _ = on_a_card(tmp_path, include_prompt=False)

    def forward(*_: Any, **__: Any) -> Any:
        raise CardMemoryError("CUDA out of memory")

    tokens = loaded.tokenizer.encode(["a text"], "search: ")
    monkeypatch.setattr(Torch, "forward", forward)
    with pytest.raises(DeviceMemoryError):
        backend.run(tokens)


def test_turns_of_positions_stay_in_fp32(tmp_path: Path) -> None:
    """The frequencies of rotary positions keep their precision: in bf16 a text of thousands of tokens is another's."""
    loaded = Torch(tiny(tmp_path), name="tiny", sha256="")
    frequencies = 1 / 10_000 ** (torch.arange(0, 16, dtype=torch.float32) / 16)
    loaded.model[0].register_buffer("inv_freq", frequencies.clone())
    loaded.move("cpu", "bf16")
    assert loaded.precision == "bf16"
    assert torch.equal(loaded.model[0].inv_freq, frequencies)
