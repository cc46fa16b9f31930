"""Training of the texture attack's auto-encoders."""

from contextlib import ExitStack
from typing import Literal, assert_never

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional

from seg_mia.callbacks.style_autoencoder import TextureExport, TexturePanels
from seg_mia.data.samples import Batch
from seg_mia.errors import InputError
from seg_mia.metrics.similarity import ssim
from seg_mia.models.style_autoencoder import LEVELS, TextureAutoEncoders
from seg_mia.models.vgg import load_vgg19

Schedule = Literal["constant", "cosine"]


class TextureTraining(LightningModule):
    """Training of five decoders that invert the features of an encoder (Li et al. 2017, eq. 1).

    The loss of a level is the mean squared error of its reconstruction, plus `feature_weight` times the error
    of the reconstruction's features, divided by the variance of the image's features. An encoder with VGG-19
    weights is frozen; otherwise it is trained with its decoders, by the first term alone.

    Args:
        network: encoder-decoder pairs.
        vgg: VGG-19 weights of the encoder: `imagenet` (downloads), a local torchvision file, or none.
        feature_weight: weight of the feature term.
        lr: learning rate of Adam.
        schedule: learning rate schedule: `cosine` decays to 0 over the whole training, or `constant`.

    Attributes:
        resumed: weights will come from a checkpoint.
    """

    resumed = False

    def __init__(
        self,
        network: TextureAutoEncoders,
        *,
        vgg: str | None = None,
        feature_weight: float = 0.01,
        lr: float = 1e-3,
        schedule: Schedule = "cosine",
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        if not lr > 0 or not 0 <= feature_weight < float("inf"):
            raise InputError(f"lr must be above 0, feature_weight at least 0, got {lr} and {feature_weight}")
        self.network = network.to(memory_format=torch.channels_last)  # trains 1.2 times as fast on a CPU
        self.network.share_encoder()
        begin(self.network)
        self.vgg, self.feature_weight, self.lr, self.schedule = vgg, feature_weight, lr, schedule
        if vgg is not None:
            self.network.encoders.requires_grad_(False)

    def setup(self, stage: str) -> None:
        """Load the encoder's weights, unless a checkpoint provides them."""
        if stage == "fit" and self.vgg is not None and not self.resumed:
            load_vgg19(self.network, self.vgg)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks for panels and export."""
        return [TexturePanels(), TextureExport()]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return the sum of all level losses, each a mean over images."""
        images = coloured(batch.image)
        features = self.network.encode_all(images)
        total = images.new_zeros(())
        for level in LEVELS:
            again = self.network.decode(level, features[level], bounded=False)
            loss = functional.mse_loss(again, images)
            if self.feature_weight:
                target = features[level].detach()
                loss = loss + self.feature_weight * self._feature_loss(level, again.relu(), target)
            total = total + loss
        self.log("train/loss_step", total.detach(), prog_bar=True, batch_size=len(images))
        return total

    def _feature_loss(self, level: int, again: Tensor, target: Tensor) -> Tensor:
        with ExitStack() as stack:
            for parameter in self.network.encoders.parameters():
                if parameter.requires_grad:  # it must not make its features easy to reach
                    parameter.requires_grad_(False)
                    stack.callback(parameter.requires_grad_, True)
            features = self.network.encode(level, again)
        # Levels differ in scale; 1e-8 keeps features that are constant from dividing by 0.
        return functional.mse_loss(features, target) / (target.var() + 1e-8)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Return each level's reconstruction, (N, 3, H, W), and log its similarity to the image."""
        images = coloured(batch.image)
        features = self.network.encode_all(images)
        again = {str(level): self.network.decode(level, features[level]) for level in sorted(LEVELS)}
        likeness = {
            f"val/ssim_{level}": ssim(reconstruction.float(), images.float()).mean()
            for level, reconstruction in again.items()
        }
        self.log_dict(likeness, prog_bar=True, batch_size=len(images), sync_dist=True)
        return again

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam over the trained parameters, with its schedule."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.lr)
        match self.schedule:
            case "constant":
                return optimizer
            case "cosine":
                steps = int(self.trainer.estimated_stepping_batches)
                scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps, 1))
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
            case _:
                assert_never(self.schedule)


def coloured(images: Tensor) -> Tensor:
    """Return images (N, 1 or 3, H, W) with three channels; raise InputError for other channels or sizes."""
    if images.shape[1] not in {1, 3} or images.shape[2] % 16 or images.shape[3] % 16:
        raise InputError(
            "texture auto-encoders train on images of 1 or 3 channels, height and width multiples of 16, "
            f"got {tuple(images.shape[1:])}; set --data.size to one"
        )
    return images.expand(-1, 3, -1, -1)


def begin(network: TextureAutoEncoders) -> None:
    """Initialise all layers for constant variance through ReLUs (He et al. 2015), `conv0` as identity."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            if name.endswith("conv0"):
                nn.init.eye_(layer.weight.data[..., 0, 0])
