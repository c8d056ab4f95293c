"""The models that a benchmark compares: SG-CLDFF, baselines, and SG-CLDFF with one thing changed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flows.settings import Settings
from sgcldff.benchmark.protocols import BASELINES, REFERENCE
from sgcldff.core.errors import InputError
from sgcldff.core.settings import Mixing

CENTRE = 0.02
"""Weight of the centre loss where it is tried."""


def contenders(base: Settings | None = None) -> Mapping[str, Settings]:
    """Give the settings of every model of the table.

    Baselines are trained as their users would: on outlines and types alike, with classes weighed as for SG-CLDFF, but
    without a prior and without the centre loss. The others differ from SG-CLDFF in one thing each: a part less, or one
    of the paper's that is off by default.
    """
    ours = base or Settings()
    plain = _without_prior(_losing(ours, centre=0.0))
    weighted, centred = ours.train.loss.class_weighting, ours.train.loss.centre > 0
    return {
        REFERENCE: ours,
        **{name: _net(plain, name=name) for name in BASELINES},
        "no-prior": _without_prior(_net(ours, prior_input=False, prior_gate=False)),
        "prior-as-input-only": _net(ours, prior_gate=False),
        "no-prior-outlines": replace(ours, train=replace(ours.train, prior_outlines=False)),
        "no-alignment-loss": _losing(ours, alignment=0.0),
        "no-fusion": _net(ours, cross_layer_fusion=False),
        _named("class-weighting", weighted): _losing(ours, class_weighting=not weighted),
        _named("centre-loss", centred): _losing(ours, centre=0.0 if centred else CENTRE),
        "convolution-only": _net(ours, mixing=Mixing.CONVOLUTION),
        "swin-only": _net(ours, mixing=Mixing.SWIN),
    }


def _named(part: str, used: bool) -> str:
    """Name a contender that has a part which SG-CLDFF has not, or has it not."""
    return f"no-{part}" if used else f"with-{part}"


def _net(settings: Settings, **parts: object) -> Settings:
    return replace(settings, net=replace(settings.net, **parts))


def _losing(settings: Settings, **terms: object) -> Settings:
    return replace(settings, train=replace(settings.train, loss=replace(settings.train.loss, **terms)))


def _without_prior(settings: Settings) -> Settings:
    """Train without what the prior teaches; the network may still be given it."""
    untaught = _losing(settings, alignment=0.0)
    return replace(untaught, train=replace(untaught.train, prior_outlines=False))


def chosen(networks: Sequence[str] | None, settings: Settings | None = None) -> dict[str, Settings]:
    """Give the settings of contenders by name, of all of them where none is named.

    Raises
    ------
    InputError
        If a contender is unknown, or named twice.
    """
    known = contenders(settings)
    names = list(networks or known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"contender {', '.join(unknown)} is unknown: name some of {', '.join(known)}")
    if len(set(names)) < len(names):
        raise InputError(f"contenders {', '.join(names)}: one is named twice; name each once")
    return {name: known[name] for name in names}
