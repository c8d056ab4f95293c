"""The smallest network with every part of SG-CLDFF, for tests of what happens around a network: four times as fast."""

from sgcldff.core.settings import NetSpec, Pretrained

SMALL_NET = {"backbone": "test_efficientnet", "pretrained": "off", "fusion_width": 32}
"""As settings; timm has the backbone for its own tests."""
SMALL = NetSpec(backbone="test_efficientnet", pretrained=Pretrained.OFF, fusion_width=32)
SMALL_TOML = "[net]\n" + "".join(f"{name} = {value!r}\n" for name, value in SMALL_NET.items())
