import torch
import ttnn

from ttt_attention import ContiguousKVCache
from ttt_core import UnsupportedOnDevice
from ttt_hw import upload


class Attention:
    hidden_dim = 64

    def __init__(self, weights, device):
        self.device = device
        self.q, self.k, self.v, self.o = (upload(w.T.numpy().copy(), device, dtype="bfloat16") for w in weights)

    def allocate_cache(self, *, users, context):
        shape = (users, 1, context, self.hidden_dim)
        return ContiguousKVCache(*(ttnn.zeros(shape, layout=ttnn.TILE_LAYOUT, device=self.device) for _ in range(2)))

    def prefill_forward(self, x, /, *, cache, positions, page_table=None):
        q, k, v = (ttnn.linear(x, w) for w in (self.q, self.k, self.v))
        for kept, new in ((cache.keys, k), (cache.values, v)) if cache is not None else ():
            ttnn.fill_cache(kept, new, cache.user)
        return ttnn.linear(ttnn.transformer.scaled_dot_product_attention(q, k, v, is_causal=True), self.o)

    def decode_forward(self, x, /, *, cache, positions, page_table=None):
        if page_table is not None:
            raise UnsupportedOnDevice("this attention reads no page table")
        heads = (1, x.shape[-2], 1, self.hidden_dim)
        q, k, v = (ttnn.reshape(ttnn.linear(x, w), heads) for w in (self.q, self.k, self.v))
        cores = ttnn.num_cores_to_corerangeset(heads[1], self.device.compute_with_storage_grid_size(), True)
        shards = {"strategy": ttnn.ShardStrategy.HEIGHT, "use_height_and_width_as_shard_shape": True}
        one_user_a_core = ttnn.create_sharded_memory_config((32, self.hidden_dim), cores, **shards)
        for kept, new in ((cache.keys, k), (cache.values, v)):
            new = ttnn.to_memory_config(new, one_user_a_core)
            ttnn.experimental.paged_update_cache(kept, new, update_idxs_tensor=positions)
        y = ttnn.transformer.scaled_dot_product_attention_decode(q, cache.keys, cache.values, cur_pos_tensor=positions)
        return ttnn.linear(ttnn.reshape(y, x.shape), self.o)


def make(mesh):
    q, k, v, o = weights = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(0)) / 8
    attend = torch.nn.functional.scaled_dot_product_attention
    return Attention(weights, mesh), lambda x: attend(x @ q.T, x @ k.T, x @ v.T, is_causal=True) @ o.T


conformance = {"protocol": "attention", "make": make}
