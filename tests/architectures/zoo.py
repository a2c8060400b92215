"""The architectures: small, seeded, without downloads, their weights moved away from what initialisation makes trivial.

``ZOO``: name → ``Architecture``, whose ``make()`` gives the net in eval mode and ``inputs(n)`` a batch. Those that are
not in ``FAST`` run under the marker ``architectures`` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from . import handmade

CLASSES = 5


@dataclass(frozen=True)
class Architecture:
    """One net: ``build()``, the shape of an example, and whether it is of tokens. ``absent``: scores that must be left
    out, each with a part of its reason."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    tokens: bool = False
    absent: dict[str, str] | None = None

    def make(self) -> nn.Module:
        """The net with its seeded weights, in eval mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = self.build()
            enliven(net)
        return net.eval()

    def inputs(self, n: int) -> torch.Tensor:
        """(n, *shape) floats, or token ids of texts whose ends are padding (0)."""
        drawn = torch.Generator().manual_seed(1)
        if not self.tokens:
            return torch.randn(n, *self.shape, generator=drawn)
        ids = torch.randint(3, 100, (n, *self.shape), generator=drawn)
        lengths = torch.randint(3, self.shape[0] + 1, (n,), generator=drawn)
        return ids.masked_fill(torch.arange(self.shape[0]) >= lengths[:, None], 0)


@torch.no_grad()
def enliven(net: nn.Module) -> None:
    """Move what initialisation sets to 0 or 1: layer scales, norms' shifts and statistics, heads of zeros, last norms
    of residual branches; so that every part of the net counts."""
    for parameter in net.parameters():
        if (parameter.numel() > 1 and float(parameter.abs().max()) < 1e-3) or float(parameter.std(correction=0)) == 0:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)


def timm_net(name: str, size: int = 64, **more) -> Architecture:
    """A net of timm, by its name."""

    def build():
        import timm

        return timm.create_model(name, pretrained=False, num_classes=CLASSES, **more)

    return Architecture(f"timm {name}", build, (3, size, size))


def mixer(name: str, block: str = "MixerBlock", **more) -> Architecture:
    """One of timm's nets of perceptrons over patches."""

    def build():
        from timm.models import mlp_mixer

        if block == "ResBlock":
            more["norm_layer"] = mlp_mixer.Affine
        return mlp_mixer.MlpMixer(
            CLASSES,
            img_size=32,
            patch_size=8,
            num_blocks=2,
            embed_dim=24,
            block_layer=getattr(mlp_mixer, block),
            **more,
        )

    return Architecture(f"timm {name}", build, (3, 32, 32))


def torchvision_net(name: str, size: int = 64, **more) -> Architecture:
    """A classifier of torchvision, by its name."""

    def build():
        from torchvision import models

        return models.get_model(name, weights=None, num_classes=CLASSES, **more)

    return Architecture(f"torchvision {name}", build, (3, size, size))


def text_net(name: str, **sizes) -> Architecture:
    """A sequence classifier of transformers, by the beginning of its class's name."""

    def build():
        import transformers

        config = getattr(transformers, f"{name}Config")(vocab_size=100, num_labels=CLASSES, **sizes)
        config._attn_implementation = "eager"
        return getattr(transformers, f"{name}ForSequenceClassification")(config)

    return Architecture(f"transformers {name}", build, (7,), tokens=True)


def picture_net(name: str, size: int, **sizes) -> Architecture:
    """An image classifier of transformers, by the beginning of its class's name."""

    def build():
        import transformers

        if "vision_config" not in sizes:
            sizes["image_size"] = size
        config = getattr(transformers, f"{name}Config")(num_labels=CLASSES, **sizes)
        return getattr(transformers, f"{name}ForImageClassification")(config)

    return Architecture(f"transformers {name}", build, (3, size, size))


def probe(name: str, size: int, **sizes) -> Architecture:
    """A linear probe on the frozen image tower of a model of pictures and texts."""

    def build():
        import transformers

        tower = getattr(transformers, f"{name}VisionModel")(
            getattr(transformers, f"{name}VisionConfig")(image_size=size, **sizes)
        )
        return handmade.Net(handmade.pooled_tower, tower, nn.Linear(sizes["hidden_size"], CLASSES))

    return Architecture(f"transformers {name} probe", build, (3, size, size), absent=handmade.NO_INPUT_GRADIENT)


BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "pad_token_id": 0}
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "patch_size": 8}

TIMM = [
    timm_net("test_byobnet", 32),
    timm_net("test_coatnet", 64, img_size=64),
    timm_net("test_convnext", 32),
    timm_net("test_convnext2", 32),
    timm_net("test_efficientnet", 32),
    timm_net("test_efficientnet_gn", 32),
    timm_net("test_efficientnet_ln", 32),
    timm_net("test_mambaout", 32),
    timm_net("test_maxvit", 64, img_size=64),
    timm_net("test_nfnet", 32),
    timm_net("test_resnet", 32),
    timm_net("test_vit", 32, img_size=32),
    timm_net("test_vit2", 32, img_size=32),
    timm_net("test_vit_relpos", 32, img_size=32),
    timm_net("efficientnet_lite0", 32),
    timm_net("tf_efficientnetv2_b0", 32),
    timm_net("mobilenetv4_conv_small_035", 32),
    timm_net("mobilenetv3_small_050", 32),
    timm_net("regnetx_002", 32),
    timm_net("regnety_002", 32),
    mixer("MLP-Mixer"),
    mixer("ResMLP", "ResBlock", mlp_ratio=4),
    timm_net("eva02_tiny_patch14_224", 28, img_size=28, embed_dim=24, depth=2, num_heads=2),
    timm_net("hiera_tiny_224", 64, img_size=64, embed_dim=16, num_heads=1, stages=(1, 1, 2, 1)),
    timm_net("davit_tiny", 32, embed_dims=(8, 16, 32, 48), num_heads=(1, 2, 4, 6), depths=(1, 1, 1, 1)),
    timm_net("beit_base_patch16_224", 32, img_size=32, embed_dim=24, depth=2, num_heads=2),
    timm_net("deit_tiny_distilled_patch16_224", 32, img_size=32, embed_dim=24, depth=2, num_heads=2),
    timm_net(
        "swin_tiny_patch4_window7_224",
        32,
        img_size=32,
        window_size=4,
        embed_dim=12,
        depths=(1, 1, 1),
        num_heads=(1, 2, 4),
    ),
    timm_net("xcit_nano_12_p16_224", 32, img_size=32, embed_dim=24, depth=2, num_heads=2),
    timm_net("cait_xxs24_224", 32, img_size=32, embed_dim=24, depth=2, num_heads=2),
    timm_net("convnextv2_atto", 32, dims=(8, 16, 24, 32), depths=(1, 1, 1, 1)),
    timm_net("edgenext_xx_small", 64),
    timm_net("mobilevit_xxs", 64),
    timm_net("mobileone_s0", 32),
    timm_net("repvgg_a0", 32),
    timm_net("ghostnet_050", 32),
    timm_net("lcnet_035", 32),
    timm_net("densenet121", 32),
    timm_net("poolformer_s12", 32),
    timm_net("pvt_v2_b0", 32),
    timm_net("starnet_s1", 32),
    timm_net("repvit_m0_9", 32),
    timm_net("efficientvit_b0", 32),
    timm_net("ese_vovnet19b_dw", 32),
    timm_net("skresnet18", 32),
    timm_net("vit_tiny_patch16_224", 32, img_size=32, embed_dim=24, depth=2, num_heads=2),
]
TORCHVISION = [
    torchvision_net("resnet18", 32),
    torchvision_net("vgg11_bn", 32),
    torchvision_net("googlenet", 64, init_weights=False),
    torchvision_net("inception_v3", 75, init_weights=False),
    torchvision_net("shufflenet_v2_x0_5", 32),
    torchvision_net("squeezenet1_1", 32),
    torchvision_net("mnasnet0_5", 32),
    torchvision_net("alexnet", 64),
    torchvision_net("mobilenet_v2", 32),
    torchvision_net("densenet121", 32, memory_efficient=True),
    torchvision_net("efficientnet_b0", 32),
    torchvision_net("convnext_tiny", 32),
    torchvision_net("swin_t", 32),
    torchvision_net("maxvit_t", 224),
]
TRANSFORMERS = [
    text_net("Bert", **BERT),
    text_net("Roberta", **{**BERT, "pad_token_id": 0}),
    text_net("Electra", embedding_size=12, **BERT),
    text_net("DistilBert", dim=16, n_layers=2, n_heads=2, hidden_dim=24, pad_token_id=0),
    text_net("DebertaV2", **BERT),
    text_net("Albert", embedding_size=12, **BERT),
    text_net("ModernBert", bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, **BERT),
    text_net("GPT2", n_embd=16, n_layer=2, n_head=2, pad_token_id=0),
    text_net("Llama", **BERT),
    picture_net("ViT", 16, **VIT),
    picture_net("Beit", 16, **VIT),
    probe("CLIP", 16, **VIT),
    probe("Siglip", 16, **VIT),
    picture_net("CLIP", 16, vision_config={"image_size": 16, **VIT}),
    picture_net("Siglip", 16, vision_config={"image_size": 16, **VIT}),
    picture_net("Swin", 32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4),
    picture_net("ConvNextV2", 32, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1]),
]
HANDMADE = [
    Architecture(f"hand-made {name}", build, shape, tokens, absent)
    for name, (build, shape, tokens, absent) in handmade.NETS.items()
]

NO_HEAD = {"self_influence": "no single layer", "gradnorm": "no single layer"}
TIMM = [replace(one, absent=NO_HEAD) if "distilled" in one.name else one for one in TIMM]
TORCHVISION = [replace(one, absent=NO_HEAD) if "squeezenet" in one.name else one for one in TORCHVISION]
ZOO = {one.name: one for one in [*TIMM, *TORCHVISION, *TRANSFORMERS, *HANDMADE]}
LARGE = (
    "test_maxvit",
    "mobilenetv3_small_050",
    "regnetx_002",
    "efficientnet_lite0",
    "tf_efficientnetv2_b0",
    "edgenext_xx_small",
    "mobilevit_xxs",
    "mobileone_s0",
    "repvgg_a0",
    "ghostnet_050",
    "densenet121",
    "poolformer_s12",
    "pvt_v2_b0",
    "starnet_s1",
    "repvit_m0_9",
    "efficientvit_b0",
    "ese_vovnet19b_dw",
    "skresnet18",
    "regnety_002",
    "lcnet_035",
)
SLOW = {*(f"timm {name}" for name in LARGE), *(one.name for one in TORCHVISION if "squeezenet" not in one.name)}
FAST = [name for name in ZOO if name not in SLOW]
