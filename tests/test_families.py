"""One network of each family of timm, and every classification network of torchvision: taken with its width, or refused in words."""

import pytest
import timm
import torch
import torchvision

from multilabel_nb.backbones import load_backbone

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('ignore')]

# The module of timm, and its network with the fewest parameters (of timm 1.0.31, counted on torch's meta device): at most 15 million.
SMALL = {
    'byoanet': 'halonet_h1',
    'byobnet': 'test_byobnet',
    'cait': 'cait_xxs24_224',
    'coat': 'coat_tiny',
    'convit': 'convit_tiny',
    'convnext': 'test_convnext',
    'cpubone': 'cpubone_nano',
    'crossvit': 'crossvit_tiny_240',
    'csatv2': 'csatv2',
    'cspnet': 'cs3darknet_focus_s',
    'cspnext': 'cspnext_tiny',
    'deit': 'deit_tiny_patch16_224',
    'densenet': 'densenet121',
    'dla': 'dla46x_c',
    'dpn': 'dpn48b',
    'edgenext': 'edgenext_xx_small',
    'efficientformer': 'efficientformer_l1',
    'efficientformer_v2': 'efficientformerv2_s0',
    'efficientnet': 'test_efficientnet',
    'efficientvim': 'efficientvim_m1',
    'efficientvit_mit': 'efficientvit_b0',
    'efficientvit_msra': 'efficientvit_m0',
    'eva': 'vit_tiny_patch16_dinov3_qkvb',
    'fasternet': 'fasternet_t0',
    'fastvit': 'fastvit_t8',
    'gcvit': 'gcvit_xxtiny',
    'ghostnet': 'ghostnet_050',
    'hardcorenas': 'hardcorenas_b',
    'hgnet': 'hgnetv2_b0',
    'hrnet': 'hrnet_w18_small',
    'iformer': 'iformer_t',
    'inception_next': 'inception_next_atto',
    'lcnetv2': 'lcnetv2_small',
    'levit': 'levit_128s',
    'lowformer': 'lowformer_b0',
    'mambaout': 'test_mambaout',
    'maxxvit': 'test_coatnet',
    'metaformer': 'poolformerv2_s12',
    'mlp_mixer': 'gmlp_ti16_224',
    'mobilenetv3': 'mobilenetv3_small_050',
    'mobilevit': 'mobilevit_xxs',
    'nfnet': 'test_nfnet',
    'pit': 'pit_ti_224',
    'pvt_v2': 'pvt_v2_b0',
    'regnet': 'regnetx_002',
    'repghost': 'repghostnet_050',
    'repvit': 'repvit_m1',
    'resnest': 'resnest14d',
    'resnet': 'test_resnet',
    'resnetv2': 'resnetv2_18',
    'rexnet': 'rexnet_100',
    'senet': 'legacy_seresnet18',
    'shvit': 'shvit_s1',
    'sknet': 'skresnet18',
    'starnet': 'starnet_s050',
    'swiftformer': 'swiftformer_xs',
    'tiny_vit': 'tiny_vit_5m_224',
    'visformer': 'visformer_tiny',
    'vision_transformer': 'test_vit',
    'vision_transformer_hybrid': 'vit_tiny_r_s16_p8_224',
    'vision_transformer_relpos': 'test_vit_relpos',
    'vovnet': 'ese_vovnet19b_slim_dw',
    'xcit': 'xcit_nano_12_p8_224',
}
# Left out for size, the smallest has more: built on the meta device, where shapes are known and nothing is computed.
LARGE = {
    'beit': 'beit_base_patch16_224',
    'convmixer': 'convmixer_768_32',
    'davit': 'davit_tiny',
    'deepseek_vit': 'deepseek_vit_412m',
    'focalnet': 'focalnet_tiny_srf',
    'gemma4_vit': 'gemma4_vit_167m',
    'hiera': 'hiera_tiny_224',
    'hieradet_sam2': 'sam2_hiera_tiny',
    'inception_resnet_v2': 'inception_resnet_v2',
    'inception_v3': 'inception_v3',
    'inception_v4': 'inception_v4',
    'mobilenetv5': 'mobilenetv5_base',
    'mvitv2': 'mvitv2_tiny',
    'naflexvit': 'naflexvit_base_patch16_parfac_gap',
    'nasnet': 'nasnetalarge',
    'nest': 'nest_tiny',
    'nextvit': 'nextvit_small',
    'pnasnet': 'pnasnet5large',
    'qwen3_vit': 'qwen3_vit_88m',
    'rdnet': 'rdnet_tiny',
    'res2net': 'res2next50',
    'selecsls': 'selecsls42',
    'sequencer': 'sequencer2d_s',
    'swin_transformer': 'swin_tiny_patch4_window7_224',
    'swin_transformer_v2': 'swinv2_tiny_window8_256',
    'swin_transformer_v2_cr': 'swinv2_cr_tiny_224',
    'tnt': 'tnt_s_legacy_patch16_224',
    'tresnet': 'tresnet_m',
    'twins': 'twins_svt_small',
    'vgg': 'vgg11',
    'vision_transformer_sam': 'samvit_base_patch16_224',
    'vitamin': 'vitamin_small_224',
    'volo': 'volo_d1_224',
    'xception': 'legacy_xception',
    'xception_aligned': 'xception41p',
}
REFUSED = {
    # their branches have resolutions of their own to the end
    'coat': 'several tensors',
    'crossvit': 'several tensors',
    # its head reads the features of every stage
    'efficientvim': 'several tensors',
    # timm hands out their maps without the last normalisation only
    'hiera': 'normalization of features not supported',
    'hieradet_sam2': 'normalization of features not supported',
}
COMPUTED = {'gemma4_vit'}  # large, but reads a number from a tensor: not on the meta device
TORCHVISION = torchvision.models.list_models(torchvision.models)
# No plain chain of parts before the head: two more heads, a list of blocks, and tokens.
VITS = ('vit_b_16', 'vit_b_32', 'vit_h_14', 'vit_l_16', 'vit_l_32')
NOT_CUT = {'googlenet': 'cannot be cut', 'maxvit_t': 'cannot be cut', **dict.fromkeys(VITS, 'cannot be cut')}
# Its 645 million parameters would be drawn in memory, as RegNets are built: left out for size.
TOO_LARGE = {'regnet_y_128gf'}


def test_every_family_of_timm_is_here():
    assert {*SMALL, *LARGE} == {*timm.list_modules()} and not {*SMALL} & {*LARGE}
    for family, name in {**SMALL, **LARGE}.items():
        assert name in timm.list_models(module=family)


def refused(name, words):
    with pytest.raises(ValueError, match=words) as e:
        load_backbone(name, pretrained=False)
    assert name in str(e.value)


@pytest.mark.many(20)
@pytest.mark.parametrize('family', SMALL)
def test_a_small_family_of_timm_makes_maps(family):
    name = SMALL[family]
    if family in REFUSED:
        return refused(name, REFUSED[family])
    backbone = load_backbone(name, pretrained=False).eval()
    assert (backbone.library, backbone.num_features) == ('timm', backbone.net.num_features)
    with torch.inference_mode():
        maps = backbone(torch.rand(1, *backbone.net.pretrained_cfg['input_size']))
    assert maps.shape[:2] == (1, backbone.num_features) and maps.shape[2] == maps.shape[3] > 1 and maps.isfinite().all()


@pytest.mark.parametrize('family', LARGE)
def test_a_large_family_of_timm_has_the_width_it_says(family):
    with torch.device('cpu' if family in COMPUTED else 'meta'):
        if family in REFUSED:
            return refused(LARGE[family], REFUSED[family])
        backbone = load_backbone(LARGE[family], pretrained=False)
    assert (backbone.library, backbone.num_features) == ('timm', backbone.net.num_features)


@pytest.mark.many(20)
@pytest.mark.parametrize('name', [name for name in TORCHVISION if name not in TOO_LARGE])
def test_every_classification_network_of_torchvision_is_taken_or_refused(name):
    with torch.device('meta'):
        if name in NOT_CUT:
            return refused(name, NOT_CUT[name])
        backbone = load_backbone(name, pretrained=False)
    assert backbone.library == ('timm' if timm.is_model(name) else 'torchvision') and backbone.num_features > 1
