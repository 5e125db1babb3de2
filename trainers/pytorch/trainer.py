#!/usr/bin/env python3
"""A trainer of worldlm on PyTorch (docs/trainer-protocol.md): one process, or several under torchrun.

    engine: { name: external, command: [python3, /path/to/trainers/pytorch/trainer.py, --dtype, bf16, --compile] }
    engine: { name: external, command: [torchrun, --nproc-per-node, "2", /path/to/trainer.py, --parallel, fsdp] }

Rank 0 talks to the node; the others do what it is asked. Batches are split by window. In fp32 the numbers are those of the node's own engines.
"""
import argparse
import ctypes
import json
import math
import os
import queue
import sys
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

PROTOCOL = 1
PROGRESS_SECONDS = 0.2


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, …")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="of the matrix products; parameters and moments are f32")
    parser.add_argument("--compile", action="store_true", help="torch.compile: slower to start, faster to run")
    parser.add_argument("--parallel", choices=["ddp", "fsdp"], default="ddp", help="under torchrun: copies of the model, or shards of it")
    return parser.parse_args()


def keep_freed_memory():
    """glibc gives blocks above its thresholds back to the system as soon as they are free, and the next step faults them in again: 10,000 pages
    of a small model, a tenth of its time on a CPU. With the thresholds at their most, the process keeps what a step needs."""
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return  # another C library
    mallopt(m_mmap_threshold, 32 * 2**20)
    mallopt(m_trim_threshold, 2**31 - 1)


class Adapter(nn.Module):
    """W + α/r·A·B in place of a matrix W [in, out] that stays as it is."""

    def __init__(self, adapters, rows, columns):
        super().__init__()
        self.scale = adapters["alpha"] / adapters["rank"]
        self.loraA = nn.Parameter(torch.zeros(rows, adapters["rank"]))
        self.loraB = nn.Parameter(torch.zeros(adapters["rank"], columns))

    def forward(self, x):
        return (x @ self.loraA) @ self.loraB * self.scale


class Block(nn.Module):
    """Tensors are named and laid out as the node has them: matrices [in, out].

    No cast stands here: autocast makes them where they belong, and with casts by hand the compiled step took three times as long.
    """

    def __init__(self, model, adapters):
        super().__init__()
        d, h = model["width"], model["hidden"]
        self.heads, self.kv_heads, self.epsilon = model["heads"], model["kvHeads"], model["normEpsilon"]
        kv = d // self.heads * self.kv_heads
        shapes = {"attentionNorm": [d], "query": [d, d], "key": [d, kv], "value": [d, kv], "output": [d, d],
                  "feedForwardNorm": [d], "gate": [d, h], "up": [d, h], "down": [h, d]}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=adapters is None))
        adapted = adapters["matrices"] if adapters else []
        self.adapters = nn.ModuleDict({name: Adapter(adapters, *shapes[name]) for name in adapted})

    def product(self, x, name):
        y = x @ getattr(self, name)
        return y + self.adapters[name](x) if name in self.adapters else y

    def forward(self, x, cos, sin):  # x [B, T, d], cos and sin [T, e/2]
        B, T, d = x.shape

        def heads(rows, count):  # [B, T, count·e] → [B, count, T, e]
            return rows.view(B, T, count, -1).transpose(1, 2)

        def rotate(y):  # halves of a head paired
            left, right = y.chunk(2, dim=-1)
            return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)

        y = F.rms_norm(x, [d], self.attentionNorm, self.epsilon)
        q, k = rotate(heads(self.product(y, "query"), self.heads)), rotate(heads(self.product(y, "key"), self.kv_heads))
        v = heads(self.product(y, "value"), self.kv_heads)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        x = x + self.product(mixed.transpose(1, 2).reshape(B, T, d), "output")
        y = F.rms_norm(x, [d], self.feedForwardNorm, self.epsilon)
        return x + self.product(F.silu(self.product(y, "gate")) * self.product(y, "up"), "down")


class Model(nn.Module):
    """With adapters, they alone are trained."""

    def __init__(self, model, adapters=None):
        super().__init__()
        self.model = model
        whole = adapters is None
        self.embedding = nn.Parameter(torch.zeros(model["vocabulary"], model["width"]), requires_grad=whole)
        self.blocks = nn.ModuleList(Block(model, adapters) for _ in range(model["layers"]))
        self.finalNorm = nn.Parameter(torch.zeros(model["width"]), requires_grad=whole)
        if not model["tiedHead"]:
            self.head = nn.Parameter(torch.zeros(model["vocabulary"], model["width"]), requires_grad=whole)
        angles = torch.arange(model["context"], dtype=torch.float64)[:, None] / torch.tensor(model["ropeDivisors"], dtype=torch.float64)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def named(self, trained):
        """Parameters by the node's names: those that are trained, or those that stay."""
        found = {name.replace(".adapters.", "."): parameter for name, parameter in self.named_parameters()}
        return {name: parameter for name, parameter in found.items() if parameter.requires_grad == trained}

    def forward(self, inputs, targets):
        """-> −ln p of each target [B, T]"""
        x = F.embedding(inputs, self.embedding)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        x = F.rms_norm(x, [self.model["width"]], self.finalNorm, self.model["normEpsilon"])
        logits = x @ (self.embedding if self.model["tiedHead"] else self.head).T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


class Cancelled(Exception):
    pass


class Diverged(Exception):
    pass


class Trainer:
    """The same calls, in the same order, on every rank."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        kind = arguments.device
        if kind == "auto":
            kind = "cuda" if torch.cuda.is_available() else "cpu"
        if kind == "cpu":
            keep_freed_memory()
        place = int(os.environ.get("LOCAL_RANK", "0"))
        if kind == "cuda" and place >= torch.cuda.device_count():
            sys.exit(f"process {place} of this machine has no GPU: {torch.cuda.device_count()} here. Start fewer (--nproc-per-node), or --device cpu")
        self.device = torch.device(kind, place) if kind == "cuda" else torch.device(kind)
        if self.world > 1:
            # Between rounds nobody speaks for as long as the federation takes.
            dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=timedelta(days=7))
        if kind == "cuda":
            torch.cuda.set_device(self.device)

    def hello(self, call):
        if call["protocol"] != PROTOCOL:
            return {"protocol": PROTOCOL, "name": "pytorch"}
        torch.set_num_threads(max(1, call["threads"] // self.world))
        self.optimizer_options = call["optimizer"]
        adapters = call.get("adapters")
        trained = (adapters or call)["tensors"]
        self.names = [tensor["name"] for tensor in trained]
        self.model = Model(call["model"], adapters).to(self.device)
        known = {name: list(tensor.shape) for which in (True, False) for name, tensor in self.model.named(which).items()}
        wanted = {tensor["name"]: tensor["shape"] for tensor in call["tensors"] + (trained if adapters else [])}
        if known != wanted:
            raise ValueError(f"the model's tensors are {wanted}, this trainer's {known}")
        run = self.model
        if self.world > 1 and self.arguments.parallel == "fsdp":
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            # Its own choice would be the GPU wherever there is one.
            mesh = init_device_mesh(self.device.type, (self.world,))
            for block in self.model.blocks:
                fully_shard(block, mesh=mesh)
            fully_shard(self.model, mesh=mesh)
        elif self.world > 1:
            run = nn.parallel.DistributedDataParallel(self.model)
        self.parameters, self.base = self.model.named(True), self.model.named(False)
        self.run = torch.compile(run) if self.arguments.compile else run
        o = self.optimizer_options
        # Vectors have no weight decay.
        groups = [
            {"params": [p for p in self.parameters.values() if p.ndim > 1], "weight_decay": o["weightDecay"]},
            {"params": [p for p in self.parameters.values() if p.ndim == 1], "weight_decay": 0.0},
        ]
        # Fused where PyTorch has it: a tensor at a time it takes twice as long on a CPU.
        fused = self.device.type in ("cpu", "cuda", "mps", "xpu")
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(o["beta1"], o["beta2"]), eps=o["epsilon"], fused=fused)
        return {"protocol": PROTOCOL, "features": ["adapters"], "name": f"pytorch {torch.__version__}, {self.device}, {self.world} processes"}

    # ── tensors whole on the outside, perhaps sharded inside ──

    def put(self, like, whole):
        if hasattr(like, "device_mesh"):
            from torch.distributed.tensor import distribute_tensor

            return distribute_tensor(whole.to(self.device), like.device_mesh, like.placements)
        return whole.to(self.device).clone()

    def whole(self, tensor):
        return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().cpu().contiguous()

    def below(self, call):
        """What adapters change, and what stays as it is."""
        tensors = load_file(call["parameters"])
        self.fill({name: self.put(parameter, tensors[name]) for name, parameter in self.base.items()}, self.base)
        return {}

    def load(self, call):
        tensors = load_file(call["state"])
        with safe_open(call["state"], "pt") as file:
            step = float(file.metadata()["step"])
        self.optimizer.state.clear()
        self.fill({name: self.put(parameter, tensors[name]) for name, parameter in self.parameters.items()})
        for name, parameter in self.parameters.items():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(step, device=self.device),
                "exp_avg": self.put(parameter, tensors[f"first.{name}"]),
                "exp_avg_sq": self.put(parameter, tensors[f"second.{name}"]),
            }
        return {}

    def save(self, path):
        state = {}
        for name in self.names:
            moments = self.optimizer.state[self.parameters[name]]
            state[name] = self.whole(self.parameters[name])
            state[f"first.{name}"], state[f"second.{name}"] = self.whole(moments["exp_avg"]), self.whole(moments["exp_avg_sq"])
        if self.rank == 0:
            save_file(state, path)

    # ── steps ──

    def rows(self, whole):
        """This rank's windows; one that has none computes the first for nothing, for all must take part."""
        mine = whole[self.rank :: self.world]
        return (mine, 1.0) if len(mine) > 0 else (whole[:1], 0.0)

    def loss(self, inputs, targets):
        """-> this rank's share of the mean loss, so that the mean of gradients over ranks is that of the whole batch."""
        mine, counts = self.rows(inputs)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.arguments.dtype == "bf16"):
            nll = self.run(mine, self.rows(targets)[0])
        return nll.sum() * (counts * self.world / targets.numel())

    def mean(self, value):
        value = value.detach().clone()
        if self.world > 1:
            dist.all_reduce(value)
        return value.item() / self.world

    def batches(self, call):
        tensors = load_file(call["batches"])
        return [tensors[name].long().to(self.device) for name in ("inputs", "targets")]

    def train(self, call, cancelled, tell):
        inputs, targets = self.batches(call)
        clip = self.optimizer_options["gradientClip"]
        losses, told = [], time.monotonic()
        self.model.train()
        for step, rate in enumerate(call["learningRates"]):
            if cancelled():
                raise Cancelled()
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(inputs[step], targets[step])
            loss.backward()
            losses.append(self.mean(loss))
            # Without clipping a gradient that is not finite shows in the next step's loss; after the last there is none.
            norm = self.norm() if clip > 0 or step + 1 == len(call["learningRates"]) else 0.0
            if not (math.isfinite(norm) and math.isfinite(losses[-1])):
                raise Diverged(f"step {step + 1} of the round: the loss is {losses[-1]}, the gradient's norm {norm}")
            if clip > 0:
                scale = min(1.0, clip / (norm + 1e-6))
                for parameter in self.parameters.values():
                    parameter.grad.mul_(scale)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            if time.monotonic() - told > PROGRESS_SECONDS or step + 1 == len(call["learningRates"]):
                told = time.monotonic()
                tell({"step": step + 1, "loss": losses[-1]})
        self.save(call["output"])
        return {"losses": losses}

    def norm(self):
        """Of the whole gradient."""
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters.values()])
        return (norm.full_tensor() if hasattr(norm, "full_tensor") else norm).item()

    def gradient(self, call):
        inputs, targets = self.batches(call)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(inputs[0], targets[0])
        loss.backward()
        gradient = {name: self.whole(self.parameters[name].grad) for name in self.names}
        self.optimizer.zero_grad(set_to_none=True)
        if self.rank == 0:
            save_file(gradient, call["output"])
        return {"loss": self.mean(loss)}

    def evaluate(self, call):
        if "parameters" not in call:
            return self.score(call)
        # Other parameters for this call alone: the state, moments included, stays as it is.
        kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        others = load_file(call["parameters"])
        try:
            self.fill({name: self.put(parameter, others[name]) for name, parameter in self.parameters.items()})
            return self.score(call)
        finally:
            self.fill(kept)

    def fill(self, values, parameters=None):
        # FSDP keeps the whole of some parameters after a forward pass without a backward one: it would compute with those again.
        for module in self.model.modules():
            if hasattr(module, "reshard"):
                module.reshard()
        with torch.no_grad():
            for name, parameter in (parameters or self.parameters).items():
                parameter.copy_(values[name])

    def score(self, call):
        inputs, targets = self.batches(call)
        nll = torch.zeros(targets.shape, device=self.device)
        with torch.no_grad():
            for place in range(len(inputs)):
                mine, counts = self.rows(inputs[place])
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.arguments.dtype == "bf16"):
                    found = self.run(mine, self.rows(targets[place])[0])
                if counts > 0:
                    nll[place, self.rank :: self.world] = found
        if self.world > 1:
            dist.all_reduce(nll)
        if self.rank == 0:
            save_file({"nll": nll.cpu()}, call["output"])
        return {}

    def perform(self, call, cancelled, tell):
        if call["do"] == "train":
            return self.train(call, cancelled, tell)
        calls = {"hello": self.hello, "base": self.below, "load": self.load, "gradient": self.gradient, "evaluate": self.evaluate}
        return calls[call["do"]](call)


class Line:
    """Rank 0's side of the talk: lines come in on a thread, so that a cancel is seen while it trains."""

    def __init__(self):
        # Whatever prints from now on goes to stderr: stdout is for answers.
        self.out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self.calls, self.cancelled = queue.Queue(), set()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in sys.stdin:
            call = json.loads(line)
            if call["do"] == "cancel":
                self.cancelled.add(call["id"])
            else:
                self.calls.put(call)
        self.calls.put({"do": "end"})  # the node is gone

    def say(self, message):
        self.out.write(json.dumps(message) + "\n")


def main():
    trainer = Trainer(parse_arguments())
    line = Line() if trainer.rank == 0 else None

    def shared(value):
        """Rank 0's value, on every rank."""
        if trainer.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    while True:
        call = shared(line.calls.get() if line else None)
        if call["do"] == "end":
            break
        answer = {"id": call["id"]}
        try:
            answer["ok"] = trainer.perform(
                call,
                lambda: shared(line is not None and call["id"] in line.cancelled),
                lambda progress: line and line.say({"id": call["id"], "progress": progress}),
            )
        except Cancelled:
            answer["error"] = {"code": "CANCELLED", "message": "as it was told"}
        except Diverged as error:
            answer["error"] = {"code": "DIVERGED", "message": str(error)}
        except torch.OutOfMemoryError as error:
            answer["error"] = {"code": "OUT_OF_MEMORY", "message": str(error)}
        except Exception as error:
            if trainer.world > 1:
                raise  # one rank's error leaves the others waiting: all must end
            answer["error"] = {"code": "FAILED", "message": f"{type(error).__name__}: {error}"}
        if line:
            line.say(answer)
    if trainer.world > 1:
        dist.destroy_process_group()


main()
