"""The models that a benchmark compares: SG-CLDFF, baselines, and SG-CLDFF with one part changed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flows.settings import Settings
from sgcldff.benchmark.protocols import BASELINES, REFERENCE
from sgcldff.core.errors import InputError
from sgcldff.core.settings import Mixing

CENTRE = 0.02
"""Weight of the centre loss, where it is used."""


def candidates(base: Settings | None = None) -> Mapping[str, Settings]:
    """Return the settings of all candidates.

    Baselines are trained as their users would: on outlines and types alike, with the class weighting of SG-CLDFF, but
    without a prior or a centre loss. Each ablation differs from SG-CLDFF in one thing: a part is removed, or a part of
    the paper that is off by default is added.
    """
    ours = base or Settings()
    plain = _without_prior(_with_loss(ours, centre=0.0))
    weighted, centred = ours.train.loss.class_weighting, ours.train.loss.centre > 0
    return {
        REFERENCE: ours,
        **{name: _with_net(plain, name=name) for name in BASELINES},
        "no-prior": _without_prior(_with_net(ours, prior_input=False, prior_gate=False)),
        "prior-as-input-only": _with_net(ours, prior_gate=False),
        "no-prior-outlines": replace(ours, train=replace(ours.train, prior_outlines=False)),
        "no-alignment-loss": _with_loss(ours, alignment=0.0),
        "no-fusion": _with_net(ours, cross_layer_fusion=False),
        f"{'no' if weighted else 'with'}-class-weighting": _with_loss(ours, class_weighting=not weighted),
        f"{'no' if centred else 'with'}-centre-loss": _with_loss(ours, centre=0.0 if centred else CENTRE),
        "convolution-only": _with_net(ours, mixing=Mixing.CONVOLUTION),
        "swin-only": _with_net(ours, mixing=Mixing.SWIN),
    }


def _with_net(settings: Settings, **parts: Any) -> Settings:
    return replace(settings, net=replace(settings.net, **parts))


def _with_loss(settings: Settings, **terms: Any) -> Settings:
    return replace(settings, train=replace(settings.train, loss=replace(settings.train.loss, **terms)))


def _without_prior(settings: Settings) -> Settings:
    """Train without supervision by the prior; the network may still take it as an input."""
    unaligned = _with_loss(settings, alignment=0.0)
    return replace(unaligned, train=replace(unaligned.train, prior_outlines=False))


def select_candidates(networks: Sequence[str] | None, settings: Settings | None = None) -> dict[str, Settings]:
    """Return the settings of the candidates that are named, by default of all.

    Raises
    ------
    InputError
        If a candidate is unknown, or named twice.
    """
    available = candidates(settings)
    names = list(networks or available)
    unknown = [name for name in names if name not in available]
    if unknown:
        raise InputError(f"candidate {', '.join(unknown)} is unknown: name some of {', '.join(available)}")
    if len(set(names)) < len(names):
        raise InputError(f"candidates {', '.join(names)}: one is named twice; name each once")
    return {name: available[name] for name in names}
