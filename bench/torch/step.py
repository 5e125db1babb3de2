"""One side of `worldlm bench engine --vs torch`: the same model and step in PyTorch, as fast as its users know how to make it. On a CPU it keeps
freed memory as trainers/pytorch does, for a step that faults its pages in again takes a tenth longer.

Reads a job as JSON on its command line ({config, batch, threads, floats, tokens, dtype, device}: floats and tokens are files of float32 and int32), then a
number of steps a line; answers a JSON line each. fp32 (or bf16 products), torch.compile, scaled_dot_product_attention, fused AdamW.
"""
import ctypes
import json
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

job = json.loads(sys.argv[1])
config, batch = job["config"], job["batch"]
d, h, heads, layers = config["width"], config["hidden"], config["heads"], config["layers"]
T, V, eps = config["context"], config["vocabulary"], config["normEpsilon"]
e = d // heads
try:  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc
    ctypes.CDLL(None).mallopt(-3, 32 * 2**20)
    ctypes.CDLL(None).mallopt(-1, 2**31 - 1)
except (AttributeError, OSError):
    pass  # another C library
torch.set_num_threads(job["threads"])
device = torch.device(job.get("device", "cpu"))
torch.manual_seed(0)


def turns():
    half = e // 2
    angle = torch.arange(T)[:, None] / (config["ropeBase"] ** (torch.arange(half) / half))[None, :]
    return torch.cos(angle), torch.sin(angle)


class Model(torch.nn.Module):
    """Matrices are [in, out], as in worldlm's layout; the head is the embedding."""

    def __init__(self):
        super().__init__()
        flat = torch.from_numpy(np.fromfile(job["floats"], dtype=np.float32))
        self.at = 0

        def take(*shape):
            count = int(np.prod(shape))
            self.at += count
            return torch.nn.Parameter(flat[self.at - count : self.at].reshape(shape).clone())

        self.embedding = take(V, d)
        self.blocks = torch.nn.ModuleList()
        for _ in range(layers):
            block = torch.nn.ParameterDict()
            block["g1"] = take(d)
            for name in ("q", "k", "v", "o"):
                block[name] = take(d, d)
            block["g2"] = take(d)
            block["gate"], block["up"], block["down"] = take(d, h), take(d, h), take(h, d)
            self.blocks.append(block)
        self.norm = take(d)
        self.register_buffer("cos", turns()[0])
        self.register_buffer("sin", turns()[1])

    def rotate(self, x):
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * self.cos - b * self.sin, b * self.cos + a * self.sin), dim=-1)

    def forward(self, inputs, targets):
        x = F.embedding(inputs, self.embedding)
        for block in self.blocks:
            y = F.rms_norm(x, (d,), block["g1"], eps)
            q, k, v = ((y @ block[name]).view(batch, T, heads, e).transpose(1, 2) for name in ("q", "k", "v"))
            mixed = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True)
            x = x + mixed.transpose(1, 2).reshape(batch, T, d) @ block["o"]
            y = F.rms_norm(x, (d,), block["g2"], eps)
            x = x + (F.silu(y @ block["gate"]) * (y @ block["up"])) @ block["down"]
        logits = F.rms_norm(x, (d,), self.norm, eps) @ self.embedding.T
        return F.cross_entropy(logits.view(-1, V), targets.view(-1))


model = Model().to(device)
tokens = torch.from_numpy(np.fromfile(job["tokens"], dtype=np.int32)).long().view(2, batch, T).to(device)
matrices = [p for p in model.parameters() if p.ndim > 1]
vectors = [p for p in model.parameters() if p.ndim == 1]
optimizer = torch.optim.AdamW(
    [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0}], lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True
)
compiled = torch.compile(model) if job.get("compile", True) else model


def step():
    with torch.autocast(device.type, torch.bfloat16, enabled=job.get("dtype") == "bf16"):
        loss = compiled(tokens[0], tokens[1])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def say(message):
    print(json.dumps(message), flush=True)


loss = step()
for _ in range(2):
    step()
say({"ready": {"loss": loss, "stepTokens": batch * T, "version": torch.__version__}})
for line in sys.stdin:
    began = time.perf_counter()
    for _ in range(int(line)):
        step()
    seconds = time.perf_counter() - began
    say({"seconds": seconds, "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
