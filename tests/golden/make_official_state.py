"""Write official_state.pt: the state dict of a tiny official TRM, as PyTorch saves it. Needs PyTorch, run once.

    python tests/golden/make_official_state.py

Written with PyTorch 2.13. Value number i of the tensor at place t is (i % 29 - t) / 7, rounded to the type of the
tensor, so that tests/test_state_dict.py can compute all of them again without PyTorch.
"""

from collections import OrderedDict
from pathlib import Path

import torch

PREFIX = "_orig_mod.model.inner."  # what torch.compile and the ACT wrapper put before a name
SHAPES = {
    "H_init": (4,),
    "L_init": (4,),
    "embed_tokens.embedding_weight": (5, 4),
    "lm_head.weight": (5, 4),
    "q_head.weight": (2, 4),
    "q_head.bias": (2,),
    "L_level.layers.0.self_attn.qkv_proj.weight": (12, 4),
    "L_level.layers.0.self_attn.o_proj.weight": (4, 4),
    "L_level.layers.0.mlp.gate_up_proj.weight": (512, 4),
    "L_level.layers.0.mlp.down_proj.weight": (4, 256),
}
TYPES = {
    "L_level.layers.0.mlp.gate_up_proj.weight": torch.float16,
    "L_level.layers.0.mlp.down_proj.weight": torch.bfloat16,
    "lm_head.weight": torch.float64,
}


def main() -> None:
    state = OrderedDict()
    for place, (name, shape) in enumerate(SHAPES.items()):
        count = torch.Size(shape).numel()
        values = (torch.arange(count) % 29 - place).to(torch.float32) / 7
        state[PREFIX + name] = values.reshape(shape).to(TYPES.get(name, torch.float32))
    # The same values, in the other ways in which PyTorch can lay them down.
    transposed = "L_level.layers.0.self_attn.qkv_proj.weight"
    state[PREFIX + transposed] = state[PREFIX + transposed].T.contiguous().T
    assert not state[PREFIX + transposed].is_contiguous()
    state[PREFIX + "q_head.weight"] = torch.nn.Parameter(state[PREFIX + "q_head.weight"])
    both = torch.cat([state[PREFIX + "H_init"], state[PREFIX + "L_init"]])
    state[PREFIX + "H_init"], state[PREFIX + "L_init"] = both[:4], both[4:]  # one storage, the second at an offset
    state._metadata = OrderedDict({"": {"version": 1}})  # as Module.state_dict() leaves it
    torch.save(state, Path(__file__).with_name("official_state.pt"))


if __name__ == "__main__":
    main()
