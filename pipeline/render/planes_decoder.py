"""The decoder with its frames as planes: latents -> Y'CbCr on the device."""

from torch import Tensor, nn

from pipeline.media.pixel_layout import YUV420P, PixelLayout
from pipeline.media.planes import to_planes


class YuvDecoder(nn.Module):
    """Latents (N,D) and features of one portrait -> Y'CbCr planes (N,rows,S) of a layout, on the device."""

    def __init__(self, decoder: nn.Module, layout: PixelLayout = YUV420P) -> None:
        super().__init__()
        self.decoder, self.layout = decoder, layout

    def extra_repr(self) -> str:
        """What tells compiled packages of different layouts apart."""
        return self.layout.name

    def forward(self, latent: Tensor, features: list[Tensor]) -> Tensor:
        """Decode and convert in one call, so that a compiler sees both."""
        return to_planes(self.decoder(latent, features), self.layout)
