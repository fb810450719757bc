"""Random weights with which every parameter affects the output.

Default initialisations hide mistakes: zero biases, unit norms, a LayerScale of
1e-5. Here all norms, biases and gammas differ from their neutral values.
"""

import re

import torch

NORM = re.compile(r"(norm|layrnorm|\bbn)[^.]*\.weight$")
GAMMA = re.compile(r"(gamma|ls\d)$")
EMBEDDING = re.compile(r"(pos_embed(_spatial|_temporal)?|position_embeddings?(\.weight)?|cls_token|class_embedding|reg_token|temporal_embedding|latent)$")


def fill(module, seed, stream=None, stream_scale=1.0, gain=1.2):
    """Overwrites all parameters of `module`, in the order of their names.

    stream: regular expression for the parameters that write to the residual
    stream (embeddings, output projections). They are multiplied by
    `stream_scale`. A small value reduces the stream's variance to the epsilon
    of the norms that read it.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(shape):
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            shape = parameter.shape
            if GAMMA.search(name):
                value = 0.6 + 0.3 * normal(shape)
            elif NORM.search(name) and parameter.dim() == 1:
                value = 1.0 + 0.3 * normal(shape)
            elif EMBEDDING.search(name):
                value = 0.5 * normal(shape)
            elif parameter.dim() >= 2:
                fan_in = parameter[0].numel()
                value = gain * normal(shape) / fan_in**0.5
            elif parameter.dim() == 1:
                value = 0.2 * normal(shape)
            else:
                value = 2.0 + 0.2 * normal(shape)
            if stream is not None and re.search(stream, name):
                value = value * stream_scale
            parameter.copy_(value)
    return module.eval()
