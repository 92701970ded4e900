"""Networks of PyTorch in the forms of well-known ones, small: names and structure of their modules
are those of torchvision, so that their exports are, too."""

import torch
from torch import nn
from torch.nn import functional

__all__ = ["MODELS", "fill"]


def fill(module, seed=0):
    """Weights and running statistics such that values neither grow nor die on the way."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(values, low, high):
        values.copy_(low + (high - low) * torch.rand(values.shape, generator=generator))

    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d):
                uniform(each.weight, 0.5, 1.5)
                uniform(each.bias, -0.3, 0.3)
                uniform(each.running_mean, -0.3, 0.3)
                uniform(each.running_var, 0.5, 1.5)
            elif isinstance(each, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                fan_in = each.weight[0].numel()
                if isinstance(each, nn.ConvTranspose2d):
                    fan_in = each.weight.shape[0]
                each.weight.copy_(torch.randn(each.weight.shape, generator=generator)
                                  * (2 / fan_in) ** 0.5)
                if each.bias is not None:
                    uniform(each.bias, -0.2, 0.2)
    return module.eval()


def conv_norm(inputs, outputs, kernel=3, stride=1, groups=1, act=nn.ReLU):
    """torchvision's Conv2dNormActivation."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
              nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([act()] if act else []))


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = conv_norm(inputs, outputs, 1, stride, act=None) \
            if stride > 1 or inputs != outputs else None

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """Of ResNet-50, or of ResNeXt with groups."""

    def __init__(self, inputs, width, groups=1, stride=1):
        super().__init__()
        self.layers = nn.Sequential(conv_norm(inputs, width, 1), conv_norm(width, width, 3, stride,
                                                                            groups),
                                    conv_norm(width, inputs, 1, act=None))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.layers(x) + x)


class ResNet(nn.Module):
    def __init__(self, blocks, width):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(width, 10)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layers(x)), 1))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expand, act=nn.ReLU6, squeeze=None):
        super().__init__()
        hidden = inputs * expand
        self.residual = stride == 1 and inputs == outputs
        layers = [conv_norm(inputs, hidden, 1, act=act)] if expand > 1 else []
        layers.append(conv_norm(hidden, hidden, 3, stride, hidden, act))
        if squeeze is not None:
            layers.append(squeeze(hidden))
        self.conv = nn.Sequential(*layers, conv_norm(hidden, outputs, 1, act=None))

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class SqueezeExcitation(nn.Module):
    def __init__(self, channels, act=nn.SiLU, scale=nn.Sigmoid):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // 4, 1)
        self.fc2 = nn.Conv2d(channels // 4, channels, 1)
        self.activation, self.scale_activation = act(), scale()

    def forward(self, x):
        scale = self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return scale * x


class Mobile(nn.Module):
    """MobileNetV2, EfficientNet and MobileNetV3, by their blocks."""

    def __init__(self, blocks, width, act):
        super().__init__()
        self.features = nn.Sequential(conv_norm(3, 16, 3, 2, act=act), *blocks,
                                      conv_norm(width, 4 * width, 1, act=act))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * width, 10))

    def forward(self, x):
        x = functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class ShuffleUnit(nn.Module):
    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.branch2 = nn.Sequential(conv_norm(half, half, 1), conv_norm(half, half, 3, 1, half,
                                                                         None),
                                     conv_norm(half, half, 1))

    def forward(self, x):
        x1, x2 = x.chunk(2, dim=1)
        out = torch.cat((x1, self.branch2(x2)), dim=1)
        batch, channels, height, width = out.size()
        out = out.view(batch, 2, channels // 2, height, width)
        return torch.transpose(out, 1, 2).contiguous().view(batch, channels, height, width)


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth):
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(4 * growth), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(self.relu1(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu2(self.norm2(y)))], 1)


class Transition(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pool = nn.AvgPool2d(2, 2)

    def forward(self, x):
        return self.pool(self.conv(self.relu(self.norm(x))))


class UNet(nn.Module):
    def __init__(self, up):
        super().__init__()
        self.down1, self.down2 = conv_norm(3, 8), conv_norm(8, 16)
        self.middle = conv_norm(16, 32)
        self.up2, self.up1 = up(32, 16), up(16, 8)
        self.conv2, self.conv1 = conv_norm(32, 16), conv_norm(16, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(functional.max_pool2d(a, 2))
        c = self.middle(functional.max_pool2d(b, 2))
        b = self.conv2(torch.cat([self.up2(c), b], 1))
        return self.head(self.conv1(torch.cat([self.up1(b), a], 1)))


def upsample(mode):
    options = {} if mode == "nearest" else {"align_corners": False}
    return lambda inputs, outputs: nn.Sequential(
        nn.Upsample(scale_factor=2, mode=mode, **options), nn.Conv2d(inputs, outputs, 1))


class Yolo(nn.Module):
    """CSP blocks, SPPF, and two heads of boxes, objectness and classes, as of YOLOv5."""

    def __init__(self):
        super().__init__()
        act = nn.SiLU
        self.stem, self.down = conv_norm(3, 16, 6 - 3, 2, act=act), conv_norm(16, 32, 3, 2, act=act)
        self.cv1, self.cv2 = conv_norm(32, 16, 1, act=act), conv_norm(32, 16, 1, act=act)
        self.m = nn.Sequential(conv_norm(16, 16, 1, act=act), conv_norm(16, 16, 3, act=act))
        self.cv3 = conv_norm(32, 32, 1, act=act)
        self.down2 = conv_norm(32, 64, 3, 2, act=act)
        self.pool, self.sppf = nn.MaxPool2d(5, 1, 2), conv_norm(192, 64, 1, act=act)
        self.up, self.lateral = nn.Upsample(None, 2, "nearest"), conv_norm(96, 32, 1, act=act)
        self.heads = nn.ModuleList([nn.Conv2d(32, 3 * 8, 1), nn.Conv2d(64, 3 * 8, 1)])

    def forward(self, x):
        x = self.down(self.stem(x))
        y = self.cv1(x)
        p3 = self.cv3(torch.cat((y + self.m(y), self.cv2(x)), 1))
        x = self.down2(p3)
        y = self.pool(x)
        p4 = self.sppf(torch.cat((x, y, self.pool(y)), 1))
        p3 = self.lateral(torch.cat((self.up(p4), p3), 1))
        outputs = []
        for head, x in zip(self.heads, (p3, p4)):
            x = head(x)
            batch, _, height, width = x.shape
            x = x.view(batch, 3, 8, height, width).permute(0, 1, 3, 4, 2).contiguous()
            outputs.append(x.sigmoid())
        return outputs


class Keywords(nn.Module):
    """Convolutions along time, and features as channels."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(40, 32, 3, padding=1), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(32, 32, 3, padding=1, groups=32), nn.BatchNorm1d(32), nn.ReLU(),
            nn.Conv1d(32, 48, 1), nn.BatchNorm1d(48), nn.ReLU(), nn.AdaptiveAvgPool1d(1),
            nn.Flatten(), nn.Linear(48, 12))

    def forward(self, features):
        return self.net(features)


def _mobile(act, squeeze=None):
    return Mobile([InvertedResidual(16, 16, 1, 1, act, squeeze),
                   InvertedResidual(16, 24, 2, 4, act, squeeze),
                   InvertedResidual(24, 24, 1, 4, act, squeeze)], 24, act)


_IMAGE = (1, 3, 32, 32)
MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 64), nn.ReLU(), nn.Linear(64, 32),
                                  nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, 10)), _IMAGE),
    "vgg": (lambda: nn.Sequential(conv_norm(3, 16), nn.MaxPool2d(2), conv_norm(16, 32),
                                  nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(),
                                  nn.Linear(32 * 49, 64), nn.ReLU(True), nn.Dropout(),
                                  nn.Linear(64, 10)), (1, 3, 28, 28)),
    "resnet": (lambda: ResNet([BasicBlock(16, 16), BasicBlock(16, 32, 2)], 32), _IMAGE),
    "resnext": (lambda: ResNet([Bottleneck(16, 32, groups=4)], 16), _IMAGE),
    "mobilenet_v2": (lambda: _mobile(nn.ReLU6), _IMAGE),
    "mobilenet_v3": (lambda: _mobile(nn.Hardswish, lambda width: SqueezeExcitation(
        width, nn.ReLU, nn.Hardsigmoid)), _IMAGE),
    "efficientnet": (lambda: _mobile(nn.SiLU, SqueezeExcitation), _IMAGE),
    "shufflenet": (lambda: nn.Sequential(conv_norm(3, 16, 3, 2), ShuffleUnit(16), ShuffleUnit(16),
                                         nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                         nn.Linear(16, 10)), _IMAGE),
    "densenet": (lambda: nn.Sequential(conv_norm(3, 16, 3, 2), DenseLayer(16, 8), DenseLayer(24, 8),
                                       Transition(32, 16), DenseLayer(16, 8), nn.BatchNorm2d(24),
                                       nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                       nn.Linear(24, 10)), _IMAGE),
    "unet_nearest": (lambda: UNet(upsample("nearest")), _IMAGE),
    "unet_bilinear": (lambda: UNet(upsample("bilinear")), _IMAGE),
    "unet_transposed": (lambda: UNet(lambda a, b: nn.ConvTranspose2d(a, b, 2, 2)), _IMAGE),
    "yolo": (Yolo, _IMAGE),
    "keywords": (Keywords, (1, 40, 32)),
}
"""By name: a function that makes the network, and the shape of its input."""
