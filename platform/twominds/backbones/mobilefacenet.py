"""MobileFaceNet as InsightFace trains it: the network of a face descriptor, under the names of its authors' tensors."""

from collections.abc import Sequence

from torch import Tensor, nn


class MobileFaceNet(nn.Module):
    """Face crops [B, 3, 112, 112] -> embeddings [B, 512] (Chen et al. 2018; blocks and widths of InsightFace's).

    Four stages at a half, a quarter, an eighth and a sixteenth of the image's side; between them a depthwise
    convolution halves it. At the end a depthwise filter as large as what is left (7 x 7) stands for average pooling.
    """

    def __init__(self, *, scale: float = 2.0, blocks: Sequence[int] = (1, 4, 6, 2), dim: int = 512) -> None:
        """Builds it with random weights.

        Args:
            scale: Factor on the channels of the stages; 2 is published.
            blocks: How many blocks each stage has; a first stage of one is a plain depthwise convolution.
            dim: Length of the embedding, and channels of the last convolution.
        """
        super().__init__()
        narrow, wide = round(64 * scale), round(128 * scale)
        first = (
            _ConvBlock(narrow, narrow, kernel=3, padding=1, groups=64 if narrow % 64 == 0 else narrow)
            if blocks[0] == 1
            else _Residual(narrow, blocks[0], groups=narrow)
        )
        self.layers = nn.ModuleList(
            [
                _ConvBlock(3, narrow, kernel=3, stride=2, padding=1),
                first,
                _DepthWise(narrow, narrow, groups=round(64 * scale), stride=2),
                _Residual(narrow, blocks[1], groups=narrow),
                _DepthWise(narrow, wide, groups=wide, stride=2),
                _Residual(wide, blocks[2], groups=wide),
                _DepthWise(wide, wide, groups=2 * wide, stride=2),
                _Residual(wide, blocks[3], groups=wide),
            ]
        )
        self.conv_sep = _ConvBlock(wide, dim)
        self.features = _Embedding(dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds images [B, 3, 112, 112]."""
        for layer in self.layers:
            images = layer(images)
        return self.features(self.conv_sep(images))


class _ConvBlock(nn.Module):
    """Convolution, batch norm, PReLU."""

    def __init__(
        self, channels: int, out: int, *, kernel: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False)
        self.layers = nn.Sequential(convolution, nn.BatchNorm2d(out), nn.PReLU(out))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class _LinearBlock(nn.Module):
    """Convolution, batch norm."""

    def __init__(self, channels: int, out: int, *, kernel: int = 1, groups: int = 1) -> None:
        super().__init__()
        convolution = nn.Conv2d(channels, out, kernel, groups=groups, bias=False)
        self.layers = nn.Sequential(convolution, nn.BatchNorm2d(out))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class _DepthWise(nn.Module):
    """To `groups` channels, a depthwise convolution there, and to `out` channels."""

    def __init__(self, channels: int, out: int, *, groups: int, stride: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.Sequential(
            _ConvBlock(channels, groups),
            _ConvBlock(groups, groups, kernel=3, stride=stride, padding=1, groups=groups),
            _LinearBlock(groups, out),
        )

    def forward(self, images: Tensor) -> Tensor:
        return images + self.layers(images) if self.residual else self.layers(images)


class _Residual(nn.Module):
    """Depthwise blocks, each added to what it was given."""

    def __init__(self, channels: int, blocks: int, *, groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(_DepthWise(channels, channels, groups=groups, residual=True) for _ in range(blocks))
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class _Embedding(nn.Module):
    """A filter per channel over all that is left of the image, a linear layer, batch norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        filters = _LinearBlock(dim, dim, kernel=7, groups=dim)
        self.layers = nn.Sequential(filters, nn.Flatten(), nn.Linear(dim, dim, bias=False), nn.BatchNorm1d(dim))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
