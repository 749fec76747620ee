"""Backbones and heads of many families: rebuilt from their description, as a bundle does; and what is refused."""

import json

import pytest
import timm
import torch
from torch import nn

from multilabel_nb.backbones import Backbone, load_backbone
from multilabel_nb.heads import (
    MLPHead,
    MultiLevelFeatures,
    PlaceHead,
    ProbeHead,
    build_network,
    describe_network,
)

TIMM = {
    'tf_efficientnet_lite0': 64,
    'resnet18': 64,
    'resnetv2_18': 64,
    'mobilenetv3_small_050': 64,
    'convnext_atto': 64,
    'regnetx_002': 64,
    'ghostnet_050': 64,
    'dla34': 64,
    'dpn48b': 64,
    'edgenext_xx_small': 64,
    'pvt_v2_b0': 64,
    'repvit_m0_9': 64,
    'deit_tiny_patch16_224': 224,
    'vit_tiny_patch16_224': 224,
    'mixer_s32_224': 224,
    'swin_tiny_patch4_window7_224': 224,
}
TORCHVISION = [
    'alexnet',
    'mnasnet0_5',
    'mobilenet_v2',
    'mobilenet_v3_small',
    'regnet_y_400mf',
    'shufflenet_v2_x0_5',
    'squeezenet1_1',
    'swin_t',
]
FAMILIES = [*TIMM.items(), *((name, 96) for name in TORCHVISION)]


def image(size):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, size, size, generator=generator)


def again(model):
    "The network that a description and the weights make."
    config = json.loads(json.dumps(describe_network(model)))
    twin = build_network(config)
    twin.load_state_dict(model.state_dict(), strict=True)
    return twin.eval()


@torch.no_grad()
def same(model, other, images):
    return torch.equal(model.eval()(images), other.eval()(images))


@pytest.mark.parametrize(('name', 'size'), FAMILIES)
def test_a_network_of_any_family_makes_maps_and_is_rebuilt_from_its_description(name, size):
    backbone, images = load_backbone(name, pretrained=False).eval(), image(size)
    assert backbone.library == ('timm' if name in TIMM else 'torchvision')
    with torch.no_grad():
        maps = backbone(images)
        assert maps.ndim == 4 and maps.shape[:2] == (2, backbone.num_features)
        assert maps.shape[2] == maps.shape[3] > 1
        if name in TIMM:
            assert backbone.num_features == backbone.net.num_features
            levels, feats = backbone.levels(images), MultiLevelFeatures(backbone)(images)
            assert torch.equal(levels[-1], maps) and len(levels) > 2
            assert feats.shape == (2, 2 * sum(level.shape[1] for level in levels), 1, 1)
    model = nn.Sequential(backbone, MLPHead(backbone.num_features, 3))
    assert same(model, again(model), images)
    assert not {type(m).__module__.split('.')[0] for m in model.modules()} & {'fastai'}


@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v2', 'swin_tiny_patch4_window7_224'])
def test_a_probe_on_all_levels_is_rebuilt(name):
    images = image(TIMM.get(name, 96))
    body = MultiLevelFeatures(load_backbone(name, pretrained=False)).eval()
    with torch.no_grad():
        width = body(images).shape[1]
    model = nn.Sequential(body, ProbeHead(width, 3))
    assert same(model, again(model), images)


def test_a_key_point_network_is_rebuilt():
    backbone = load_backbone('resnet18', pretrained=False, level=3)
    model = nn.Sequential(backbone, PlaceHead(backbone.num_features, 4, 4, (0, 2)))
    assert same(model, again(model), image(64))
    assert again(model)[1][-1].high == 2


@pytest.mark.parametrize(
    ('name', 'settings', 'size'),
    [
        ('resnet18', {}, 64),
        ('resnet18', {'global_pool': 'max'}, 64),
        ('convnext_atto', {'drop_rate': 0.2}, 64),
        ('vit_tiny_patch16_224', {'img_size': 64, 'global_pool': 'avg'}, 64),
        ('swin_tiny_patch4_window7_224', {'window_size': 7}, 224),
    ],
)
def test_a_timm_network_with_its_own_head_is_rebuilt(name, settings, size):
    model = timm.create_model(name, num_classes=3, **settings)
    assert describe_network(model)['head'] == {'kind': 'timm'}
    assert same(model, again(model), image(size))


class Doubled(nn.Sequential):
    def forward(self, images):
        return 2 * super().forward(images)


def parts():
    return load_backbone('resnet18', pretrained=False), ProbeHead(512, 3)


OTHERS = {
    'no network of ours': lambda: nn.Linear(3, 3),
    'a layer more': lambda: nn.Sequential(*parts(), nn.Sigmoid()),
    'another forward': lambda: Doubled(*parts()),
    'a head of another kind': lambda: nn.Sequential(parts()[0], nn.Sequential(*parts()[1])),
    'a backbone without a name': lambda: nn.Sequential(Backbone(parts()[0].net), parts()[1]),
    'a head of a class of its own': lambda: nn.Sequential(parts()[0], type('Mine', (ProbeHead,), {})(512, 3)),
}


@pytest.mark.parametrize('what', OTHERS)
def test_what_no_name_rebuilds_has_no_description(what):
    assert describe_network(OTHERS[what]()) is None


def test_a_changed_network_has_no_description():
    backbone, head = parts()
    head[3] = nn.Linear(512, 4)
    assert describe_network(nn.Sequential(backbone, head)) is None
    model = timm.create_model('resnet18', num_classes=3)
    model.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 3))
    assert describe_network(model) is None


def test_describing_leaves_random_numbers_and_modes_alone():
    model = nn.Sequential(*parts())
    model.train()
    model[0].net.layer1.eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert describe_network(model)
    assert torch.equal(torch.rand(3), expected)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize('name', ['vit_b_16', 'maxvit_t', 'googlenet', 'hiera_tiny_224', 'no_such_net'])
@pytest.mark.filterwarnings('ignore:The default weight initialization of GoogleNet')
def test_what_makes_no_maps_is_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        load_backbone(name, pretrained=False)


@pytest.mark.parametrize('config', [{'head': {'kind': 'probing'}}, {'head': {'kind': 'probe', 'num_features': 512, 'num_classes': 3}}])
def test_a_description_of_something_unknown_is_refused(config):
    with pytest.raises(ValueError, match='probing|no_such_net'):
        build_network({'architecture': 'no_such_net', **config})
